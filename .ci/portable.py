#!/usr/bin/env python3
"""Runs `make test` as other processors, Pythons and versions would.

Each configuration is one whole run: XLA, NumPy and OpenBLAS are held to older
instructions, the number of workers differs, and the packages are the newest or
the oldest that pyproject.toml allows. A table ends the output; the exit status
is 1 if a run failed or an interpreter is missing.

  .ci/portable.py              all configurations
  .ci/portable.py sse42 ...    these alone
  PYTEST="tests/accounting -x" .ci/portable.py avx2     other tests
"""

import dataclasses
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

_ROOT = pathlib.Path(__file__).parents[1]
_FOLDER = _ROOT / "build" / "portable"
_AVX512 = ("AVX512", "X86_V4")
_AVX2 = ("AVX2", "FMA3", "F16C", "X86_V3")


@dataclasses.dataclass(frozen=True)
class Configuration:
  """One way to run the tests.

  Attributes:
    python: Version of the interpreter.
    oldest: Whether packages are the oldest allowed, else those of the lock.
    isa: The newest instructions that XLA may use; None for all.
    disable: Beginnings of NumPy's names of the features that it must not use.
    blas: OpenBLAS's processor; None leaves it to OpenBLAS.
    workers: Number of pytest's workers.
    one_core: Whether all of it runs on the first core.
    full_xla: Whether XLA compiles with all that it has.
  """

  python: str
  oldest: bool = False
  isa: str | None = None
  disable: tuple[str, ...] = ()
  blas: str | None = None
  workers: int = 2
  one_core: bool = False
  full_xla: bool = False


_CONFIGURATIONS = {
    "sse42": Configuration(
        "3.11", isa="SSE4_2", disable=_AVX512 + _AVX2, full_xla=True
    ),
    "avx2": Configuration(
        "3.11",
        oldest=True,
        isa="AVX2",
        disable=_AVX512,
        blas="Haswell",
        workers=1,
        one_core=True,
    ),
    "oldest312": Configuration("3.12", oldest=True, isa="SSE4_2", workers=4),
    "oldest313": Configuration("3.13", oldest=True, blas="SkylakeX"),
    "newest312": Configuration("3.12", isa="AVX2", blas="Haswell", workers=4),
    "newest313": Configuration("3.13", blas="SkylakeX"),
}


def interpreter(version):
  """Returns the path of that Python: on the path, or pyenv's; or None."""
  found = shutil.which(f"python{version}")
  if found and subprocess.run([found, "-V"], capture_output=True).returncode:
    found = None  # A shim of a version that is not chosen.
  pattern = f".pyenv/versions/{version}.*/bin/python"
  candidates = sorted(pathlib.Path.home().glob(pattern))
  return found or (str(candidates[-1]) if candidates else None)


def environment(config):
  """Makes a virtual environment, once; returns its Python, or None."""
  python = interpreter(config.python)
  if python is None:
    return None
  path = _FOLDER / f"{config.python}-{'oldest' if config.oldest else 'lock'}"
  constraints = (_ROOT / "requirements.lock").read_text("utf-8")
  if config.oldest:
    script = [python, str(_ROOT / ".ci" / "oldest.py")]
    constraints = subprocess.run(
        script, check=True, capture_output=True, text=True
    ).stdout
  stamp, pins = path / "constraints.done", path / "constraints"
  inside = str(path / "bin" / "python")
  if not stamp.exists() or stamp.read_text("utf-8") != constraints:
    subprocess.run([python, "-m", "venv", "--clear", str(path)], check=True)
    pins.write_text(constraints, encoding="utf-8")
    subprocess.run(
        [
            inside, "-m", "pip", "install", "--quiet",
            "--disable-pip-version-check", "--constraint", str(pins),
            "--editable", f"{_ROOT}[test]",
        ],
        check=True,
    )  # fmt: skip
    stamp.write_text(constraints, encoding="utf-8")
  return inside


def features(python, beginnings):
  """Returns those of NumPy's features that it dispatches on and has here."""
  if not beginnings:
    return []
  script = (
      "from numpy._core import _multiarray_umath as m;"
      "print(*(n for n in m.__cpu_dispatch__ if m.__cpu_features__.get(n)))"
  )
  done = subprocess.run(
      [python, "-c", script], check=True, capture_output=True, text=True
  )
  return [n for n in done.stdout.split() if n.startswith(beginnings)]


def variables(python, config):
  """Returns the environment variables of a run, and what was left out."""
  left_out = []
  env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
  if config.isa:
    flags = env.get("XLA_FLAGS", "")
    env["XLA_FLAGS"] = f"{flags} --xla_cpu_max_isa={config.isa}".strip()
  if disabled := features(python, config.disable):
    env["NPY_DISABLE_CPU_FEATURES"] = " ".join(disabled)
  if config.blas:
    env["OPENBLAS_CORETYPE"] = config.blas
  cpu = pathlib.Path("/proc/cpuinfo")
  words = cpu.read_text("utf-8").split() if cpu.exists() else []
  if config.blas == "SkylakeX" and "avx512f" not in words:
    # OpenBLAS would stop at an instruction that is not there.
    del env["OPENBLAS_CORETYPE"]
    left_out.append("no AVX512 here: without OPENBLAS_CORETYPE=SkylakeX")
  if config.full_xla:
    env["FULL_XLA"] = "1"
  return env, left_out


def run(config):
  """Runs the tests once; returns whether they passed, and a remark."""
  python = environment(config)
  if python is None:
    return False, f"no python{config.python}"
  env, left_out = variables(python, config)
  command = [python, "-m", "pytest", "-q", "-m", "not slow"]
  command += ["-n", str(config.workers), "--dist", "worksteal"]
  command += shlex.split(os.environ.get("PYTEST", ""))
  if config.one_core and shutil.which("taskset"):
    command = ["taskset", "-c", "0", *command]
  elif config.one_core:
    left_out.append("no taskset: on all cores")
  last = ""
  with subprocess.Popen(
      command, cwd=_ROOT, env=env, stdout=subprocess.PIPE, text=True
  ) as process:
    for line in process.stdout:
      print(line, end="", flush=True)
      last = line.strip() or last
  return process.returncode == 0, "; ".join([last, *left_out])


def main(names):
  """Runs the configurations of these names, or all; returns the status."""
  if unknown := set(names) - set(_CONFIGURATIONS):
    print(
        f"configurations must be of {', '.join(_CONFIGURATIONS)},"
        f" got {', '.join(sorted(unknown))}.",
        file=sys.stderr,
    )
    return 2
  rows = []
  for name in names or _CONFIGURATIONS:
    print(f"== {name}: {_CONFIGURATIONS[name]}", flush=True)
    begun = time.monotonic()
    try:
      passed, remark = run(_CONFIGURATIONS[name])
    except subprocess.CalledProcessError as error:
      passed, remark = False, f"no environment: {error}"
    minutes = (time.monotonic() - begun) / 60
    rows.append((name, "passed" if passed else "FAILED", minutes, remark))
  print()
  for name, result, minutes, remark in rows:
    print(f"{name:10} {result:7} {minutes:6.1f} min  {remark}")
  return int(any(row[1] != "passed" for row in rows))


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
