"""Lets the clip norm follow the median of the gradients' norms.

  python examples/quantile_clipping.py

Trains softmax regression on the bundled digits at (epsilon, delta) = (3, 1e-4),
from a first clip norm that is far too large. What differs from optax_loop.py
has a number.
"""

import jax
import jax.numpy as jnp
import optax

import accounting
from accounting import claims
from jax_privacy import data, dp_sgd


def loss_fn(params, batch):
  """The mean loss of a batch, of one example too."""
  logits = batch["image"].reshape(-1, 64) @ params["w"] + params["b"][None]
  return optax.softmax_cross_entropy_with_integer_labels(
      logits, batch["label"]
  ).mean()


def load(split):
  """Returns a split, pixels in [0, 1]."""
  arrays = data.load("digits", split=split).as_arrays()
  image = jnp.asarray(arrays["image"], jnp.float32) / 255
  return {"image": image, "label": jnp.asarray(arrays["label"])}


def main(num_steps=100):
  """Trains and prints clip norm, accuracy and guarantee."""
  train, test = load("train"), load("test")
  params = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
  mechanism = accounting.calibrate_noise(
      accounting.Mechanism.for_batch_size(
          noise_multiplier=1.0,  # Replaced by the calibration.
          num_steps=num_steps,
          num_examples=1437,
          expected_batch_size=256,
      ),
      epsilon=3.0,
      delta=1e-4,
  )
  private = dp_sgd.make_private(
      loss_fn,
      optax.sgd(1.0, momentum=0.9),
      mechanism,
      l2_clip_norm=100.0,
      clipping="quantile",  # 1. The clip norm adapts; epsilon is the same.
      rescale_to_unit_norm=True,  # The learning rate need not follow it.
      key=jax.random.key(0),
  )

  @jax.jit
  def update(params, opt_state, examples, is_padding):
    grads = private.grad_fn(
        params,
        examples,
        is_padding_example=is_padding,
        **private.step_options(opt_state),  # 2. The step's clip norm.
    )
    updates, opt_state = private.optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  opt_state = private.optimizer.init(params)
  for batch in private.sampler:
    examples, is_padding = batch.take(train), batch.is_padding_example
    params, opt_state = update(params, opt_state, examples, is_padding)

  logits = test["image"].reshape(-1, 64) @ params["w"] + params["b"][None]
  accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == test["label"])
  clip_norm = private.step_options(opt_state)["clip_norm"]
  epsilon = claims.at_most(accounting.epsilon(mechanism, delta=1e-4))
  print(f"clip norm {clip_norm:.3g}, from 100")
  print(f"test accuracy {100 * accuracy:.1f}% at ({epsilon}, 1e-4)-DP")


if __name__ == "__main__":
  main()
