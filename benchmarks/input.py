"""Times the input alone, and beside a training step.

  python -m benchmarks.input [--model=wrn_16_4] [--batch-size=512]
    [--jpeg-size=32,32] [--image-size=32,32] [--workers=0,1,2]
    [--tfds=fashion_mnist --data-dir=DIR]

draws Poisson batches of generated examples, brings them to the device as the
launcher does, and prints, for each kind of source, the examples a second, the
seconds until the first batch, and the time that a batch's input takes as a
share of the time of a training step of `--model` on as many examples: what is
below 100% and read ahead keeps no step waiting. `--step-rate` says how many
examples a second the step takes, for a step measured elsewhere.

Invariant: nothing is asserted. Times belong to the machine they were measured
on.
"""

import argparse
import contextlib
import functools
import io
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
import PIL.Image

from benchmarks import footprint, models
from experiments.run import input as input_lib
from jax_privacy import batch_selection, data
from jax_privacy.data import encoded, reading

_PREFETCH = 2
_STEPS_TIMED = 3


def main(argv: Sequence[str] | None = None) -> None:
  """Prints a line for each kind of source."""
  args = _parser().parse_args(argv)
  rate = args.step_rate or _step_rate(args.model)
  print(f"a step of {args.model}: {rate:.1f} examples/s")
  for name, (source, batches_fn) in _kinds(args).items():
    indices = _draw(args, len(source))
    first, seconds = _time(batches_fn(source, indices))
    speed = args.batch_size / seconds
    print(
        f"  {name:<32} {speed:12,.0f} examples/s, {rate / speed:8.2%} of a"
        f" step, first batch after {first:.2f} s",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", choices=models.names(), default="wrn_16_4")
  parser.add_argument("--step-rate", type=float)
  parser.add_argument("--examples", type=int, default=5000)
  parser.add_argument("--batch-size", type=int, default=512)
  parser.add_argument("--rounds", type=int, default=20)
  parser.add_argument("--jpeg-size", type=_size, default=(32, 32))
  parser.add_argument("--image-size", type=_size, default=(32, 32))
  parser.add_argument("--workers", default="0,1,2")
  parser.add_argument("--tfds")
  parser.add_argument("--data-dir")
  return parser


def _size(text: str) -> tuple[int, ...]:
  return tuple(map(int, text.split(",")))


def _step_rate(model: str) -> float:
  """Returns the examples a second of clipped gradients: most of a step."""
  workload = models.build(model)
  compiled = footprint.Settings(model=model).compile("ghost", workload)
  step = functools.partial(compiled.step, workload.params, *workload.batch)
  jax.block_until_ready(step())
  start = time.perf_counter()
  for _ in range(_STEPS_TIMED):
    jax.block_until_ready(step())
  seconds = (time.perf_counter() - start) / _STEPS_TIMED
  return len(workload.batch[1]) / seconds


def _kinds(args) -> dict[str, tuple[data.Source, Callable]]:
  """Returns a source, and how its batches reach the device, by name."""
  rng = np.random.default_rng(0)
  shape = (args.examples, *args.image_size, 3)
  labels = rng.integers(10, size=args.examples)
  arrays = data.ArraySource(
      rng.integers(256, size=shape, dtype=np.uint8), labels, num_classes=10
  )
  kinds = {
      "arrays, on the device": (arrays, _gathered),
      "arrays, on the host": (arrays, _read(0, 0)),
  }
  sources = {"JPEG": _jpegs(args, labels, rng)}
  if args.tfds:
    sources[f"tfds:{args.tfds}"] = data.load(
        f"tfds:{args.tfds}", data_dir=args.data_dir
    )
  for name, source in sources.items():
    for num_workers in map(int, args.workers.split(",")):
      prefetch = _PREFETCH if num_workers else 0
      kind = f"{name}, {num_workers} workers"
      kinds[kind] = (source, _read(num_workers, prefetch))
  return kinds


def _jpegs(args, labels, rng) -> data.Source:
  """JPEG files as large as photographs': blobs of colour with some noise."""
  files = []
  for _ in range(min(args.examples, 500)):
    blobs = PIL.Image.fromarray(
        rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
    )
    image = np.asarray(blobs.resize(args.jpeg_size[::-1]), np.int16)
    image = image + rng.integers(-12, 13, size=image.shape)
    file = io.BytesIO()
    PIL.Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(file, "JPEG")
    files.append(file.getvalue())
  ends = np.cumsum([len(file) for file in files])
  which = np.arange(args.examples) % len(files)
  starts = ends - [len(file) for file in files]
  return encoded.EncodedSource(
      encoded.Slices(
          np.frombuffer(b"".join(files), np.uint8), starts[which], ends[which]
      ),
      [f"image {i}" for i in range(args.examples)],
      labels,
      image_size=args.image_size,
      crop=True,
      num_classes=10,
  )


def _draw(args, num_examples: int) -> list[np.ndarray]:
  """Returns padded Poisson batches of `batch_size` expected examples."""
  probability = min(1.0, args.batch_size / num_examples)
  batches = batch_selection.CyclicPoissonSampling(
      probability, args.rounds + 1
  ).bind(num_examples, 0)
  sizes = batch_selection.poisson_sizes(
      num_examples=num_examples, sampling_prob=probability
  )
  padded = batch_selection.PaddedBatches(batches, sizes)
  return [batch.indices for batch in padded]


def _gathered(source, indices) -> Iterator[data.Batch]:
  rows = np.append(np.arange(len(source)), -1)
  gather = input_lib.gather_fn(None, source[rows])
  for i in indices:
    yield gather(i)


def _read(num_workers: int, prefetch: int) -> Callable:
  def batches(source, indices):
    host = reading.read(
        source, indices, num_workers=num_workers, prefetch=prefetch
    )
    with contextlib.closing(host):
      yield from map(jax.device_put, host)

  return batches


def _time(batches: Iterator[data.Batch]) -> tuple[float, float]:
  """Returns seconds until the first batch, and of each one after that."""
  start = time.perf_counter()
  jax.block_until_ready(next(batches))
  first = time.perf_counter()
  count = 0
  for batch in batches:
    jax.block_until_ready(batch)
    count += 1
  return first - start, (time.perf_counter() - first) / count


if __name__ == "__main__":
  main()
