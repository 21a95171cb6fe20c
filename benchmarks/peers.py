"""Times clipping here beside jax-privacy and Opacus, in one run, in one table.

  python -m benchmarks.peers [--models=wrn,wrn_ws,transformer,mlp]
      [--batch-size=N] [--seconds=10] [--rounds=9] [--envs=DIR] [--json=FILE]
  python -m benchmarks.peers --show=FILE

Each library has a virtual environment (made with pip, pinned, thrown away
unless --envs says where to keep it) and one process that lives through the
run. Processes take turns: a round of a few steps each, round after round, in
an order that rotates, so that a slow minute of the machine is everybody's.
Only one computes at a time, with all cores.

Measured: forward pass, per-example clipping to one norm, sum. Noise and the
optimiser's update are left out for all. Every library starts from the same
parameters and the same batch, and its sum must be the others', parameter by
parameter, or it has no time. wrn is WRN-16-4 with plain convolutions, since
Opacus has no rule for weight standardisation; wrn_ws has it, in JAX only.
jax-privacy runs as it comes and in microbatches of one example, "one by one".

pip takes its index from its own settings. Where that gives a build of PyTorch
for GPUs, set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds, or be
patient: the times are of the CPU either way.

Example (the arguments are checked before anything is installed):
  >>> try:
  ...   main(["--models=wrn,lstm"])
  ... except SystemExit as error:
  ...   print(error.code)
  2
"""

import argparse
import contextlib
import math
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence

import rich

from benchmarks import _peer_race, _peer_table
from benchmarks.peer_workers.peer_networks import NETWORKS


def main(argv: Sequence[str] | None = None) -> int:
  """Measures and prints the table; a contestant that failed says why there.

  Args:
    argv: flags; None for the command line's.

  Returns:
    0, or 1 if a contestant has no time.
  """
  args = _parse(argv)
  records = _peer_table.read(args.show) if args.show else _measure_all(args)
  if args.json:
    _peer_table.write(records, args.json)
  rich.print(_peer_table.build(records))
  return int(any("error" in r for r in records))


def _parse(argv):
  parser = argparse.ArgumentParser(
      prog="benchmarks.peers", description=__doc__.splitlines()[0]
  )
  parser.add_argument("--models", type=_models, default=tuple(NETWORKS))
  parser.add_argument("--batch-size", type=_positive_int)
  parser.add_argument("--seconds", type=_positive, default=10.0)
  parser.add_argument("--rounds", type=_several, default=9)
  parser.add_argument("--envs", type=pathlib.Path)
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--show", type=pathlib.Path)
  return parser.parse_args(argv)


def _models(text):
  names = tuple(text.split(","))
  if not set(names) <= set(NETWORKS) or len(set(names)) < len(names):
    raise argparse.ArgumentTypeError(
        f"models must be among {', '.join(NETWORKS)}, got {text!r}."
    )
  return names


def _positive(text):
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 < value < math.inf:
    raise argparse.ArgumentTypeError(f"must be positive, got {text!r}.")
  return value


def _positive_int(text):
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(
        f"must be a positive integer, got {text!r}."
    )
  return int(text)


def _several(text):
  if _positive_int(text) < 2:
    raise argparse.ArgumentTypeError(f"must be at least 2, got {text!r}.")
  return int(text)


def _measure_all(args):
  """Builds the environments, starts the workers and times every model."""
  load = os.getloadavg()[0]
  with contextlib.ExitStack() as stack:
    scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    workers = _peer_race.start_workers(
        stack, envs=(args.envs or scratch / "envs").resolve(), logs=scratch
    )
    records = []
    for model in args.models:
      records += _peer_race.measure(
          workers,
          model,
          batch_size=args.batch_size or NETWORKS[model].batch_size,
          seconds=args.seconds,
          rounds=args.rounds,
      )
  return [record | {"load_before": load} for record in records]


if __name__ == "__main__":
  sys.exit(main())
