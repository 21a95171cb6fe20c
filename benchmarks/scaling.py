r"""Whether losses depend on noise and batch by their ratio alone.

  python -m benchmarks.scaling --widths=8,16,32 --plot=scaling.svg

trains each model at each ratio of the noise's standard deviation (in clip
norms) to the batch size, and that by batches of several sizes. McKenna et al.
2025 (arXiv 2501.18914) find that the loss depends on model, steps and this
ratio: then curves of different batch sizes lie on one another, and one grid at
one batch size predicts every budget. What is left between them is the noise of
the batches themselves, which the ratio does not have.

The text is a Markov chain, drawn on the fly, and the models are transformers of
one layer, trained by Adam. Gradients are clipped one by one, as in training; a
batch is drawn with replacement. Nothing here is private: the ratios are set,
and no budget is accounted for.

Measured, one run of seed 0 at the defaults (1,176 and 4,400 parameters, ratios
0 to 0.3, 100 steps): batches of 32 and of 128 differ by 0.02 nats a symbol on
average, and ratios by 0.52. At ratio 0 the larger model is better (2.22 to
2.27), and at 0.3 the smaller one (2.79 to 2.82).

Invariant: a curve is a pure function of its model, its sizes and the seed.

>>> grid = run(widths=(4,), ratios=(0.0, 1.0), batch_sizes=(4,), num_steps=2)
>>> [(point.num_parameters, point.ratio, point.batch_size) for point in grid]
[(332, 0.0, 4), (332, 1.0, 4)]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jax_privacy import _extras, clipping, models

_SYMBOLS, _LENGTH, _NUM_TRAIN, _NUM_TEST = 16, 8, 4096, 512


class Point(NamedTuple):
  """One training run.

  Attributes:
    num_parameters: Number of the model's parameters.
    ratio: Standard deviation of the noise in the mean gradient, in clip norms.
    batch_size: Number of examples of a batch.
    loss: Loss of the test split after the last step, in nats a symbol.
  """

  num_parameters: int
  ratio: float
  batch_size: int
  loss: float


def run(
    *,
    widths: Sequence[int],
    ratios: Sequence[float],
    batch_sizes: Sequence[int],
    num_steps: int,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> Iterator[Point]:
  """Yields the points of the grid.

  Args:
    widths: Widths of the models.
    ratios: Ratios of noise to batch size.
    batch_sizes: Numbers of examples of a batch.
    num_steps: Number of steps of each run.
    learning_rate: Learning rate of Adam.
    seed: Seed of parameters, batches and noise.
  """
  ours, theirs = np.split(_chains(_NUM_TRAIN + _NUM_TEST), [_NUM_TRAIN])
  for width in widths:
    model = models.build(
        "transformer",
        rngs=nnx.Rngs(seed),
        vocabulary_size=_SYMBOLS,
        width=width,
        num_layers=1,
        num_heads=1,
        scale_embedding=False,
    )
    apply_fn, params = models.functional(model)
    for batch_size in batch_sizes:
      fit = _fit(apply_fn, batch_size, num_steps, learning_rate)
      for ratio in ratios:
        loss = fit(params, ours, theirs, ratio, jax.random.key(seed))
        yield Point(
            models.num_parameters(params), ratio, batch_size, float(loss)
        )


def _chains(num_rows: int) -> np.ndarray:
  """Draws symbols [num_rows, length + 1], each by the one before it.

  The chances are fixed, and a few symbols have most of them, so that the loss
  can fall from log(16) = 2.77 nats to 2.1 or so.
  """
  rng = np.random.default_rng(0)
  ends = np.cumsum(rng.dirichlet(np.full(_SYMBOLS, 0.5), _SYMBOLS), axis=1)
  tokens = rng.integers(0, _SYMBOLS, (num_rows, _LENGTH + 1), np.int32)
  for i in range(_LENGTH):
    drawn = rng.random((num_rows, 1))
    tokens[:, i + 1] = (drawn > ends[tokens[:, i], :-1]).sum(axis=1)
  return tokens


def _fit(apply_fn, batch_size: int, num_steps: int, learning_rate: float):
  """Returns a compiled function that trains, and gives the test loss."""

  def loss_fn(params, tokens):
    logits = apply_fn(params, tokens[None, :-1])[0]
    targets = tokens[1:]
    return jnp.mean(
        optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    )

  grad_fn = clipping.clipped_grad(
      loss_fn, l2_clip_norm=1.0, keep_batch_dim=False
  )
  optimizer = optax.adam(learning_rate)

  def fit(params, ours, theirs, ratio, key):
    def step(carry, key):
      params, state = carry
      of_batch, of_noise = jax.random.split(key)
      rows = jax.random.randint(of_batch, (batch_size,), 0, len(ours))
      total = grad_fn(params, jnp.take(ours, rows, axis=0))
      noise = _normal(of_noise, total)
      mean = jax.tree.map(lambda x, z: x / batch_size + ratio * z, total, noise)
      # Optax takes a float to the power of an integer.
      with jax.numpy_dtype_promotion("standard"):
        updates, state = optimizer.update(mean, state, params)
      return (optax.apply_updates(params, updates), state), None

    carry = params, optimizer.init(params)
    (params, _), _ = jax.lax.scan(step, carry, jax.random.split(key, num_steps))
    return jnp.mean(jax.vmap(loss_fn, (None, 0))(params, theirs))

  return jax.jit(fit)


def _normal(key: jax.Array, like: Any) -> Any:
  leaves, treedef = jax.tree.flatten(like)
  keys = jax.random.split(key, len(leaves))
  drawn = [
      jax.random.normal(key, leaf.shape, leaf.dtype)
      for key, leaf in zip(keys, leaves, strict=True)
  ]
  return jax.tree.unflatten(treedef, drawn)


def spreads(points: Sequence[Point]) -> tuple[float, float]:
  """Returns how far batch sizes move the loss, and how far ratios do.

  Args:
    points: Points of a grid.

  Returns:
    (the mean over models and ratios of the range between batch sizes, the mean
    over models and batch sizes of the range between ratios), in nats a symbol.
    Curves collapse if the first is small in units of the second.
  """
  return tuple(
      float(np.mean([np.ptp(losses) for losses in groups.values()]))
      for groups in (
          _grouped(points, "ratio"),
          _grouped(points, "batch_size"),
      )
  )


def _grouped(points, field: str) -> dict[Any, list[float]]:
  groups: dict[Any, list[float]] = {}
  for point in points:
    key = point.num_parameters, getattr(point, field)
    groups.setdefault(key, []).append(point.loss)
  return groups


def plot(points: Sequence[Point], path: str) -> None:
  """Draws losses over ratios: a colour a model, a marker a batch size.

  Args:
    points: Points of a grid.
    path: Path of the figure, such as scaling.svg.

  Raises:
    ImportError: If matplotlib is not installed.
  """
  with _extras.needed("plots"):
    from matplotlib import figure
  drawn = figure.Figure(figsize=(6, 4), layout="constrained")
  axes = drawn.subplots()
  sizes = sorted({point.num_parameters for point in points})
  batches = sorted({point.batch_size for point in points})
  for i, size in enumerate(sizes):
    for j, batch_size in enumerate(batches):
      found = [
          (point.ratio, point.loss)
          for point in points
          if (point.num_parameters, point.batch_size) == (size, batch_size)
      ]
      label = f"{size:,} parameters, batches of {batch_size}"
      marker, colour = "osD^v"[j % 5], f"C{i % 10}"
      xs, ys = zip(*sorted(found), strict=True)
      axes.plot(xs, ys, marker=marker, color=colour, label=label)
  least = min((p.ratio for p in points if p.ratio > 0), default=1.0)
  # Linear up to the least ratio, so that 0 has a place.
  axes.set_xscale("symlog", base=2, linthresh=least)
  axes.set_xlabel("noise / batch size, in clip norms")
  axes.set_ylabel("test loss, nats a symbol")
  axes.legend(fontsize="small")
  drawn.savefig(path)


def _numbers(kind):
  return lambda words: tuple(kind(word) for word in words.split(","))


def main(argv: list[str]) -> None:
  """Prints the grid, and whether curves collapse.

  Args:
    argv: Arguments of the command line.
  """
  parser = argparse.ArgumentParser(description="Loss by noise and batch.")
  parser.add_argument("--widths", type=_numbers(int), default=(8, 16))
  parser.add_argument(
      "--ratios",
      type=_numbers(float),
      default=(0.0, 0.01, 0.03, 0.1, 0.3),
      help="of the noise to the batch size, in clip norms",
  )
  parser.add_argument("--batch_sizes", type=_numbers(int), default=(32, 128))
  parser.add_argument("--num_steps", type=int, default=100)
  parser.add_argument("--learning_rate", type=float, default=1e-2)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--plot", default="", help="path of a figure")
  options = vars(parser.parse_args(argv))
  path = options.pop("plot")
  points = []
  for point in run(**options):
    points.append(point)
    print(
        f"{point.num_parameters:>8,} parameters, ratio {point.ratio:<8g}"
        f" batch {point.batch_size:<5} loss {point.loss:.4f}",
        flush=True,
    )
  of_batches, of_ratios = spreads(points)
  print(
      f"range of the loss between batch sizes {of_batches:.4f}, between ratios"
      f" {of_ratios:.4f}"
  )
  if path:
    plot(points, path)


if __name__ == "__main__":
  main(sys.argv[1:])
