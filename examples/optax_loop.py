"""Adds privacy to an optax loop: what changes is marked with a number.

  python examples/optax_loop.py

Trains softmax regression on the bundled digits at (epsilon, delta) = (3, 1e-4).
"""

import jax
import jax.numpy as jnp
import optax

import accounting
from accounting import claims
from jax_privacy import data, dp_sgd


def loss_fn(params, batch):
  """The loss you already have: mean over a batch, of one example too."""
  logits = batch["image"].reshape(-1, 64) @ params["w"] + params["b"][None]
  return optax.softmax_cross_entropy_with_integer_labels(
      logits, batch["label"]
  ).mean()


def load(split):
  """Returns a split, pixels in [0, 1]."""
  arrays = data.load("digits", split=split).as_arrays()
  image = jnp.asarray(arrays["image"], jnp.float32) / 255
  return {"image": image, "label": jnp.asarray(arrays["label"])}


def main():
  """Trains and prints accuracy and guarantee."""
  train, test = load("train"), load("test")
  params = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}

  # 1. Say what the run may cost; the noise follows from it.
  mechanism = accounting.calibrate_noise(
      accounting.Mechanism.for_batch_size(
          noise_multiplier=1.0,  # Replaced by the calibration.
          num_steps=200,
          num_examples=1437,
          expected_batch_size=256,
      ),
      epsilon=3.0,
      delta=1e-4,
  )
  # 2. Turn loss and optimiser into a sampler, a gradient and an optimiser.
  sampler, grad_fn, optimizer = dp_sgd.make_private(
      loss_fn,
      optax.sgd(1.0, momentum=0.9),
      mechanism,
      l2_clip_norm=1.0,
      key=jax.random.key(0),
  )

  @jax.jit
  def update(params, opt_state, examples, is_padding):
    # 3. grad_fn instead of jax.grad(loss_fn); it must know what is padding.
    grads = grad_fn(params, examples, is_padding_example=is_padding)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  opt_state = optimizer.init(params)
  for batch in sampler:  # 4. The sampler's batches, which are padded.
    examples, is_padding = batch.take(train), batch.is_padding_example
    params, opt_state = update(params, opt_state, examples, is_padding)

  logits = test["image"].reshape(-1, 64) @ params["w"] + params["b"][None]
  accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == test["label"])
  epsilon = accounting.epsilon(mechanism, delta=1e-4)
  print(f"test accuracy {accuracy:.1%} at ({claims.at_most(epsilon)}, 1e-4)-DP")


if __name__ == "__main__":
  main()
