"""Protects persons, not rows: what changes from optax_loop.py has a number.

  python examples/user_level.py

Trains softmax regression on the bundled digits, as if 400 writers had written
them, at (epsilon, delta) = (8, 1e-3) for a writer with all their digits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import accounting
from accounting import claims
from jax_privacy import data, dp_sgd, privacy_unit

NUM_WRITERS = 400


def loss_fn(params, batch):
  """The loss you already have, of rows."""
  logits = batch["image"].reshape(-1, 64) @ params["w"] + params["b"][None]
  return optax.softmax_cross_entropy_with_integer_labels(
      logits, batch["label"]
  ).mean()


def load(split):
  """Returns a split, pixels in [0, 1]."""
  arrays = data.load("digits", split=split).as_arrays()
  image = np.asarray(arrays["image"], np.float32) / 255
  return {"image": image, "label": arrays["label"]}


def main():
  """Trains and prints accuracy and guarantee."""
  train, test = load("train"), load("test")
  params = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
  # Made up here. Yours is a column: one id a row, strings or whole numbers.
  num_rows = len(train["label"])
  ids = np.random.default_rng(0).permutation(np.arange(num_rows) % NUM_WRITERS)

  # 1. Group rows by person, and state how many persons there are.
  writers = privacy_unit.group(
      ids, num_units=NUM_WRITERS, max_rows_per_unit=4, key=jax.random.key(0)
  )
  mechanism = accounting.calibrate_noise(
      accounting.Mechanism.for_batch_size(
          noise_multiplier=1.0,  # Replaced by the calibration.
          num_steps=150,
          num_examples=writers.num_units,  # 2. Examples are persons,
          expected_batch_size=100,  # and so are batches.
      ),
      epsilon=8.0,
      delta=1e-3,
  )
  sampler, grad_fn, optimizer = dp_sgd.make_private(
      privacy_unit.over_rows(loss_fn),  # 3. The loss of one person.
      optax.sgd(0.5, momentum=0.9),
      mechanism,
      l2_clip_norm=1.0,
      key=jax.random.key(0),
  )

  @jax.jit
  def update(params, opt_state, examples, is_padding):
    grads = grad_fn(params, examples, is_padding_example=is_padding)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  opt_state = optimizer.init(params)
  for batch in sampler:
    examples = writers.take(batch, train)  # 4. The rows of these persons.
    params, opt_state = update(
        params, opt_state, examples, batch.is_padding_example
    )

  # Evaluation is by row, on the rows of other persons.
  logits = test["image"].reshape(-1, 64) @ params["w"] + params["b"][None]
  accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == test["label"])
  epsilon = accounting.epsilon(mechanism, delta=1e-3)
  print(
      f"test accuracy {accuracy:.1%} at ({claims.at_most(epsilon)}, 1e-3)-DP"
      " for a writer"
  )


if __name__ == "__main__":
  main()
