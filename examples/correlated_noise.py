"""Trains one epoch of DP-FTRL: noise that cancels, and no luck of sampling.

  python examples/correlated_noise.py

Trains softmax regression on the bundled digits at (epsilon, delta) = (3, 1e-4)
for a digit that is blanked. Batches go once through the data in a random order.
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


def main(num_steps=89, noising_coef=(1.0, -0.9)):
  """Trains and prints accuracy and guarantee."""
  train, test = load("train"), load("test")
  params = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
  mechanism = accounting.calibrate_noise(
      accounting.Mechanism.for_batch_size(
          noise_multiplier=1.0,  # Replaced by the calibration.
          num_steps=num_steps,
          num_examples=1437,
          expected_batch_size=16,
          # 1. One epoch: an example is in one step, whichever it is.
          sampling="shuffle",
          neighboring_relation="replace_special",
          # 2. Step t gets z[t] - 0.9 z[t - 1]: most of it is taken back.
          noise="banded_inverse",
          noise_options={"noising_coef": noising_coef},
      ),
      epsilon=3.0,
      delta=1e-4,
  )
  private = dp_sgd.make_private(
      loss_fn, optax.sgd(0.5), mechanism, l2_clip_norm=1.0, key=0
  )

  @jax.jit
  def update(params, opt_state, examples, is_padding):
    grads = private.grad_fn(params, examples, is_padding_example=is_padding)
    updates, opt_state = private.optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  opt_state = private.optimizer.init(params)
  for batch in private.sampler:
    examples, is_padding = batch.take(train), batch.is_padding_example
    params, opt_state = update(params, opt_state, examples, is_padding)

  logits = test["image"].reshape(-1, 64) @ params["w"] + params["b"][None]
  accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == test["label"])
  epsilon = claims.at_most(accounting.epsilon(mechanism, delta=1e-4))
  print(f"test accuracy {100 * accuracy:.1f}% at ({epsilon}, 1e-4)-DP")


if __name__ == "__main__":
  main()
