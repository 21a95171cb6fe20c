"""The whole loop of a Flax NNX image classifier, with privacy.

  python examples/flax_nnx.py --workdir=runs/flax_nnx
  python examples/flax_nnx.py --no-private  # The twin without privacy.

AdamW, a cosine schedule, dropout, microbatches, evaluation, epsilon while it
trains, checkpoints: stopped and started again, it goes on where it was. What
privacy adds to the loop has a number. The bundled digits, (3, 1e-5)-DP.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import accounting
import jax_privacy
from accounting import claims
from jax_privacy import checkpoint, data, dp_sgd

BATCH_SIZE, DELTA, SAVE_EVERY = 300, 1e-5, 50


class Classifier(nnx.Module):
  """A small convolutional network with dropout."""

  def __init__(self, rngs: nnx.Rngs):
    self.conv = nnx.Conv(1, 16, (3, 3), rngs=rngs)
    self.norm = nnx.GroupNorm(16, num_groups=4, rngs=rngs)
    self.dropout = nnx.Dropout(0.1)
    self.out = nnx.Linear(4 * 4 * 16, 10, rngs=rngs)

  def __call__(self, image, rngs=None):
    """Returns logits; `rngs` is for dropout, which is off without."""
    x = nnx.avg_pool(nnx.relu(self.norm(self.conv(image))), (2, 2), (2, 2))
    x = x.reshape(len(x), -1)
    return self.out(self.dropout(x, deterministic=rngs is None, rngs=rngs))


def load(split):
  """Returns a split, pixels in [0, 1]."""
  arrays = data.load("digits", split=split).as_arrays()
  image = np.asarray(arrays["image"], np.float32) / 255
  return {"image": image, "label": np.asarray(arrays["label"], np.int32)}


def main(workdir, num_steps, is_private):
  """Trains, evaluates and prints what privacy it cost."""
  train, test = load("train"), load("test")
  num_examples = len(train["label"])
  model = Classifier(nnx.Rngs(0))
  graphdef, params = nnx.split(model, nnx.Param)

  def loss_fn(params, batch, key):
    model = nnx.merge(graphdef, params)
    logits = model(batch["image"], nnx.Rngs(dropout=key))
    return optax.softmax_cross_entropy_with_integer_labels(
        logits, batch["label"]
    ).mean()

  optimizer = optax.adamw(
      optax.cosine_decay_schedule(1e-2, num_steps), weight_decay=1e-4
  )
  private = None
  if is_private:
    # 1. One call in the place of the loader, the gradient and the optimiser.
    private = dp_sgd.make_private(
        loss_fn,
        optimizer,
        accountant=accounting.calibrated,
        epsilon=3.0,
        delta=DELTA,
        num_examples=num_examples,
        batch_size=BATCH_SIZE,
        num_steps=num_steps,
        l2_clip_norm=1.0,
        microbatch_size=64,
        prng_argnum=2,
        key=jax.random.key(0),  # RootKey.fresh() for a model you give away.
    )
    print(private)
    optimizer = private.optimizer

  def gradient(params, batch, keys, is_padding_example):
    if private:  # 2. The mask of padding goes with the batch.
      return private.grad_fn(
          params, batch, keys, is_padding_example=is_padding_example
      )
    return jax.grad(loss_fn)(params, batch, keys[0])

  @jax.jit
  def update(params, state, batch, keys, is_padding_example):
    grads = gradient(params, batch, keys, is_padding_example)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  @jax.jit
  def accuracy(params):
    logits = nnx.merge(graphdef, params)(test["image"])
    return jnp.mean(jnp.argmax(logits, axis=-1) == test["label"])

  def batch_of(step):
    if private:  # 3. The sampler's batches: their sizes are private.
      batch = private.sampler.batch(step)
      return batch.indices, batch.take(train), batch.is_padding_example
    rng = np.random.default_rng(step)
    indices = rng.choice(num_examples, BATCH_SIZE, replace=False)
    return indices, jax.tree.map(lambda x: x[indices], train), indices < 0

  state, start = optimizer.init(params), 0
  saved = checkpoint.Checkpoints(workdir) if workdir else None
  found = saved and saved.restore_latest({"params": params, "state": state})
  if found:  # 4. The optimiser's state holds the noise's position.
    start, params, state = found.step, *found.state.values()
    print(f"goes on after step {start}")
  for step in range(start, num_steps):
    indices, batch, is_padding_example = batch_of(step)
    keys = jax_privacy.example_keys(
        jax.random.key(1), step=step, indices=indices
    )
    params, state = update(params, state, batch, keys, is_padding_example)
    if (step + 1) % SAVE_EVERY == 0 or step + 1 == num_steps:
      line = f"step {step + 1}: test accuracy {accuracy(params):.1%}"
      if private:  # 5. What was spent so far.
        spent = claims.at_most(private.epsilon(step + 1))
        line += f" at ({spent}, {DELTA:g})-DP"
      print(line, flush=True)
      if saved:
        saved.save(step + 1, {"params": params, "state": state}, facts={})
  if saved:
    saved.close()


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  parser.add_argument("--workdir", help="folder of checkpoints")
  parser.add_argument("--num_steps", type=int, default=150)
  parser.add_argument(
      "--private", action=argparse.BooleanOptionalAction, default=True
  )
  given = parser.parse_args()
  main(given.workdir, given.num_steps, given.private)
