"""What one step costs in memory and in compilation, in a process of its own.

Invariant: nothing that another step left behind is counted: no cached
compilation, no arrays, no resident pages.

  python -m benchmarks.footprint --model=mlp --method=vmap --batch-size=8

prints one line of JSON; `measure` starts such a process and reads the line.
The method "inputs" builds parameters and inputs and runs nothing: it is what
the others are to be compared with.
"""

import argparse
import ctypes
import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys
from typing import Any

import jax

from benchmarks import models, steps

INPUTS = "inputs"
_ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What is measured.

  Attributes:
    model: a name of `models.build`.
    batch_size: examples; None for the model's own.
    dtype: of parameters and images.
    step: its kind; see `steps.make`.
    l2_clip_norm: of each example's gradient.
  """

  model: str
  batch_size: int | None = None
  dtype: str = "float32"
  step: str = "grad"
  l2_clip_norm: float = 1.0

  def workload(self) -> models.Workload:
    """Builds the model and its batch."""
    return models.build(
        self.model, batch_size=self.batch_size, dtype=self.dtype
    )

  def compile(self, method: str, workload: models.Workload) -> steps.Compiled:
    """Compiles one method's step."""
    step_fn = steps.make(
        method, workload, kind=self.step, l2_clip_norm=self.l2_clip_norm
    )
    return steps.compile_step(step_fn, workload.params, *workload.batch)


def measure(method: str, settings: Settings) -> dict[str, Any]:
  """Measures one method in a new process.

  Args:
    method: one of `steps.METHODS`, or "inputs".
    settings: what is measured.

  Returns:
    What `_measure_here` returns there.

  Raises:
    subprocess.CalledProcessError: if it fails; its error output is printed.
  """
  options = [
      f"--{name.replace('_', '-')}={value}"
      for name, value in dataclasses.asdict(settings).items()
      if value is not None
  ]
  program = [sys.executable, "-m", "benchmarks.footprint"]
  result = subprocess.run(
      [*program, f"--method={method}", *options],
      check=True,
      cwd=_ROOT,
      stdout=subprocess.PIPE,
      text=True,
      # So that what is taken from a GPU is what is used.
      env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
  )
  return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
  """Measures, and prints JSON."""
  parser = argparse.ArgumentParser()
  add_arguments(parser)
  parser.add_argument(
      "--method",
      choices=(INPUTS, *steps.METHODS, *steps.PASSES),
      required=True,
  )
  args = vars(parser.parse_args())
  method = args.pop("method")
  print(json.dumps(_measure_here(method, Settings(**args))))


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds one option per field of `Settings`."""
  parser.add_argument("--model", choices=models.names(), required=True)
  parser.add_argument("--batch-size", type=int)
  parser.add_argument(
      "--dtype", choices=("float32", "bfloat16"), default="float32"
  )
  parser.add_argument("--step", choices=steps.KINDS, default="grad")
  parser.add_argument("--l2-clip-norm", type=float, default=1.0)


def _measure_here(method: str, settings: Settings) -> dict[str, Any]:
  """Compiles, runs two steps, and returns seconds and bytes.

  `resident_peak_bytes` is the most memory resident while two steps ran;
  `resident_peak_of_all_bytes` includes the compiler's. The first equals the
  second where the kernel cannot forget a peak (other than Linux).
  """
  jax.config.update("jax_enable_compilation_cache", False)
  workload = jax.block_until_ready(settings.workload())
  costs = {}
  compiled = None
  if method != INPUTS:
    compiled = settings.compile(method, workload)
    costs = dataclasses.asdict(dataclasses.replace(compiled, step=None))
    del costs["step"]
  whole = _resident_peak_bytes()
  _forget_resident_peak()
  for _ in range(2 if compiled else 0):
    jax.block_until_ready(compiled.step(workload.params, *workload.batch))
  peak = _resident_peak_bytes()
  statistics = jax.local_devices()[0].memory_stats() or {}
  return {
      **costs,
      "resident_peak_bytes": peak,
      "resident_peak_of_all_bytes": max(whole, peak),
      "device_peak_bytes": statistics.get("peak_bytes_in_use"),
  }


def _resident_peak_bytes() -> int:
  """The most memory of this process that was resident at one time."""
  # Not ru_maxrss where it can be helped: on Linux a new process inherits its
  # parent's.
  status = pathlib.Path("/proc/self/status")
  if status.exists():
    for line in status.read_text(encoding="ascii").splitlines():
      if line.startswith("VmHWM:"):
        return int(line.split()[1]) * 1024
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _forget_resident_peak() -> None:
  """Gives free pages back, and starts the peak afresh at what is resident."""
  if sys.platform != "linux":
    return
  try:
    ctypes.CDLL(None).malloc_trim(0)
  except AttributeError:  # Another C library than glibc.
    pass
  try:
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
  except OSError:  # A kernel that forbids it: the peak is that of all.
    pass


if __name__ == "__main__":
  main()
