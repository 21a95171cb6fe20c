"""Times private steps beside the ordinary one, for several models.

  python -m benchmarks.clipping --model=wrn_16_4 [--batch-size=32]
      [--methods=none,vmap,ghost] [--dtype=float32] [--step=grad]
      [--seconds=20 | --rounds=N] [--clock=wall] [--json=FILE]

All methods are timed in one process and take turns, so that what else the
machine does falls on all alike: in every round each has one step, or as many as
fit a fifth of a second, and every other round runs backwards. The ratio of a
method is the median, over rounds, of its time over that of "none" in the same
round. "none" is the ordinary batched `jax.value_and_grad` of the mean loss,
without an axis for examples. Further methods are "one_pass" and "two_passes":
ghost, with its `passes` said. With `--clock=cpu`, times are those of all
processors together, which other work on the machine disturbs less. Memory, and
the seconds to trace and to compile, are those of a process of its own for each
method (see `footprint.py`).

Invariant: nothing is asserted. Times belong to the machine and to the moment;
the load average before and after is kept beside them.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import rich.console
import rich.table

from benchmarks import footprint, steps
from benchmarks import models as benchmark_models
from jax_privacy import models

_PACKAGES = ("jax", "jaxlib", "flax", "numpy")
# Even on a machine too slow for the time given, there is a median.
_LEAST_ROUNDS = 3
# A step of milliseconds is timed several times in a row, against the jitter.
_TURN_SECONDS = 0.5
_MOST_REPEATS = 100
_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_BASE = "none"
_TABLE_WIDTH = 130
_COLUMNS = (
    "method",
    "examples/s",
    "ms",
    "ratio to none",
    "temp MiB",
    "resident",
    "device",
    "trace s",
    "compile s",
)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints a table, and writes JSON if asked."""
  args = _parse(argv)
  settings = footprint.Settings(
      **{
          field.name: getattr(args, field.name)
          for field in dataclasses.fields(footprint.Settings)
      }
  )
  load = [os.getloadavg()[0]]
  costs = {
      method: footprint.measure(method, settings)
      for method in (footprint.INPUTS, *args.methods)
  }
  workload = settings.workload()
  times = _time_rounds(settings, workload, args)
  load.append(os.getloadavg()[0])
  report = _describe(settings, workload)
  report |= {
      "rounds": len(times),
      "clock": args.clock,
      "load_average": load,
      "inputs": costs.pop(footprint.INPUTS),
      "rows": [
          {"method": method, **_summary(times, i, args.methods, report)}
          | costs[method]
          for i, method in enumerate(args.methods)
      ],
  }
  _print(report)
  if args.json:
    text = json.dumps(report, indent=2)
    args.json.write_text(text + "\n", encoding="utf-8")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
      prog="python -m benchmarks.clipping", description=__doc__.split("\n")[0]
  )
  footprint.add_arguments(parser)
  parser.add_argument(
      "--methods", type=_methods, default=steps.METHODS, help="by commas"
  )
  parser.add_argument("--rounds", type=int, help="instead of --seconds")
  parser.add_argument("--seconds", type=float, default=20.0)
  parser.add_argument("--clock", choices=tuple(_CLOCKS), default="wall")
  parser.add_argument("--json", type=pathlib.Path)
  args = parser.parse_args(argv)
  for name in ("batch_size", "rounds"):
    value = getattr(args, name)
    if value is not None and value < 1:
      parser.error(f"{name} must be at least 1, got {value}.")
  return args


def _methods(text: str) -> tuple[str, ...]:
  methods, known = tuple(text.split(",")), (*steps.METHODS, *steps.PASSES)
  if len(set(methods)) < len(methods) or set(methods) - set(known):
    raise argparse.ArgumentTypeError(
        f"must be distinct ones of {','.join(known)}, got {text}."
    )
  return methods


def _describe(
    settings: footprint.Settings, workload: benchmark_models.Workload
) -> dict[str, Any]:
  """What is measured, and on what."""
  device = jax.local_devices()[0]
  return {
      **dataclasses.asdict(settings),
      "batch_size": workload.batch[0].shape[0],
      "num_parameters": models.num_parameters(workload.params),
      "platform": device.platform,
      "device": _device_name(device),
      "cores": len(os.sched_getaffinity(0))
      if hasattr(os, "sched_getaffinity")
      else os.cpu_count(),
      "versions": {
          "python": platform.python_version(),
          **{name: importlib.metadata.version(name) for name in _PACKAGES},
      },
  }


def _device_name(device: jax.Device) -> str:
  """The device's name; for a processor, what the kernel calls it."""
  if device.platform == "cpu" and sys.platform == "linux":
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    for line in text.splitlines():
      if line.startswith("model name"):
        return line.split(":", 1)[1].strip()
  return device.device_kind


def _time_rounds(
    settings: footprint.Settings,
    workload: benchmark_models.Workload,
    options: argparse.Namespace,
) -> np.ndarray:
  """Returns seconds a step, [rounds, methods], the methods taking turns."""
  args, clock = (workload.params, *workload.batch), _CLOCKS[options.clock]
  rounds, turns = options.rounds, []
  for method in options.methods:
    step_fn = settings.compile(method, workload).step
    jax.block_until_ready(step_fn(*args))  # A program's first call is slower.
    repeats = int(_TURN_SECONDS / _time_steps(step_fn, args, 1, clock))
    turns.append((step_fn, args, min(max(repeats, 1), _MOST_REPEATS), clock))
  times = []
  end = time.perf_counter() + options.seconds

  def more():
    if rounds is not None:
      return len(times) < rounds
    return len(times) < _LEAST_ROUNDS or time.perf_counter() < end

  while more():
    # Every other round backwards, so that no method always follows the slowest.
    order = range(len(turns))[:: -1 if len(times) % 2 else 1]
    row = np.empty(len(turns))
    for i in order:
      row[i] = _time_steps(*turns[i])
    times.append(row)
  return np.stack(times)


def _time_steps(step_fn, args, repeats: int, clock) -> float:
  """Returns the median seconds of a step, each waited for.

  The first steps of many find the other methods' data in the caches, and the
  system still taking back their memory.
  """
  seconds = []
  for _ in range(repeats):
    start = clock()
    jax.block_until_ready(step_fn(*args))
    seconds.append(clock() - start)
  return float(np.median(seconds))


def _summary(times, column, methods, report) -> dict[str, Any]:
  """Medians and quartiles of one method."""
  step_seconds = _quartiles(times[:, column])
  ratio = None
  if _BASE in methods:
    base = times[:, methods.index(_BASE)]
    ratio = _quartiles(times[:, column] / base)
  return {
      "step_seconds": step_seconds,
      "ratio": ratio,
      "examples_per_second": report["batch_size"] / step_seconds["median"],
  }


def _quartiles(values: np.ndarray) -> dict[str, float]:
  lower, median, upper = np.percentile(values, (25, 50, 75))
  return {"median": median, "lower": lower, "upper": upper}


def _print(report: dict[str, Any]) -> None:
  console = rich.console.Console()
  # A table of numbers that wrap is unreadable, in a log more than anywhere.
  console.width = max(console.width, _TABLE_WIDTH)
  console.print(
      f"{report['model']}, batch {report['batch_size']}, {report['dtype']},"
      f" {report['rounds']} rounds, {report['clock']} clock, on"
      f" {report['device']} ({report['cores']} cores)",
      highlight=False,
  )
  table = rich.table.Table()
  for i, column in enumerate(_COLUMNS):
    table.add_column(column, justify="right" if i else "left", no_wrap=True)
  for row in report["rows"]:
    table.add_row(*_cells(row))
  inputs = report["inputs"]
  memory = [
      _mebibytes(inputs[f"{where}_peak_bytes"])
      for where in ("resident", "device")
  ]
  table.add_row("inputs", *[""] * 4, *memory, "", "")
  console.print(table)
  console.print(
      "ms and ratio: median (quartiles). MiB: temporary as compiled; most"
      " resident, most on the device.",
      highlight=False,
  )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
  return (
      row["method"],
      f"{row['examples_per_second']:.1f}",
      _spread(row["step_seconds"], scale=1e3),
      _spread(row["ratio"]) if row["ratio"] else "",
      _mebibytes(row["temp_bytes"]),
      _mebibytes(row["resident_peak_bytes"]),
      _mebibytes(row["device_peak_bytes"]),
      f"{row['trace_seconds']:.2f}",
      f"{row['compile_seconds']:.2f}",
  )


def _spread(values: dict[str, float], *, scale: float = 1.0) -> str:
  lower, median, upper = (
      f"{values[key] * scale:.2f}" for key in ("lower", "median", "upper")
  )
  return f"{median} ({lower}-{upper})"


def _mebibytes(num_bytes: int | None) -> str:
  return "" if num_bytes is None else f"{num_bytes / 2**20:.1f}"


if __name__ == "__main__":
  main()
