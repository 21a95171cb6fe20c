"""Throw-away virtual environments, and the workers that run in them.

Invariant: an environment is used only if its last line of building wrote down
the pins that it was asked for, so a broken or outdated one is built again.

>>> torch = ENVIRONMENTS["torch"]
>>> torch.attempts[0]
('torch==2.13.0', 'opacus==1.6.0')
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_ROOT = pathlib.Path(__file__).parents[1]
_WORKERS = _ROOT / "benchmarks" / "peer_workers"
_STAMP = "peers.json"


class PeerError(Exception):
  """A peer that cannot be installed, started or run; the text says why."""


@dataclasses.dataclass(frozen=True)
class Environment:
  """Packages of one environment.

  Attributes:
    name: of its folder.
    attempts: lists of pip requirements, tried in this order.
  """

  name: str
  attempts: tuple[tuple[str, ...], ...]


def _same_jax() -> tuple[str, ...]:
  version = importlib.metadata.version
  return tuple(f"{name}=={version(name)}" for name in ("jax", "jaxlib"))


ENVIRONMENTS: Mapping[str, Environment] = {
    "jax": Environment(
        "jax",
        # With our JAX if it can be; the table gives the version either way.
        (("jax-privacy==2.0.0", *_same_jax()), ("jax-privacy==2.0.0",)),
    ),
    "torch": Environment("torch", (("torch==2.13.0", "opacus==1.6.0"),)),
}


def build(environment: Environment, folder: pathlib.Path) -> pathlib.Path:
  """Makes an environment, or finds the one made before.

  Args:
    environment: what to install.
    folder: where environments are kept.

  Returns:
    Its Python.

  Raises:
    PeerError: if no attempt installs; the text is pip's last error.
  """
  path = folder / environment.name
  python, stamp = path / "bin" / "python", path / _STAMP
  if stamp.is_file() and python.exists():
    if tuple(json.loads(stamp.read_text())) in environment.attempts:
      return python
  _run([sys.executable, "-m", "venv", "--clear", str(path)])
  for i, pins in enumerate(environment.attempts):
    try:
      _run([str(python), "-m", "pip", "install", "--quiet", *pins])
    except PeerError:
      if i + 1 == len(environment.attempts):
        raise
    else:
      stamp.write_text(json.dumps(pins))
      break
  return python


def _run(command: Sequence[str]) -> None:
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    lines = done.stderr.strip().splitlines() or ["no message"]
    errors = [line for line in lines if line.startswith("ERROR")]
    raise PeerError((errors or lines)[-1])


class Worker:
  """A process that answers requests (see `peer_workers/peer_protocol.py`).

  It runs on the CPU, away from the checkout: only a worker of our own library
  (`ours=True`) can import from it.

  Args:
    python: the interpreter, which decides the libraries.
    script: a file name in `peer_workers`.
    argument: the script's one argument.
    log: where its standard error goes.
    ours: whether to put the checkout on its path.

  Raises:
    PeerError: if it ends before it has said its facts.
  """

  def __init__(
      self,
      python: pathlib.Path | str,
      *,
      script: str,
      argument: str,
      log: pathlib.Path,
      ours: bool = False,
  ):
    self._log = log
    with log.open("w") as stderr:
      self._process = subprocess.Popen(
          [str(python), "-s", str(_WORKERS / script), argument],
          stdin=subprocess.PIPE,
          stdout=subprocess.PIPE,
          stderr=stderr,
          text=True,
          cwd=log.parent,
          env=_variables(ours),
      )
    try:
      self.facts = self._read()
    except PeerError:
      self.close()
      raise

  def ask(self, **request: Any) -> dict[str, Any]:
    """Sends a request and waits for its answer.

    Args:
      **request: its fields.

    Returns:
      The answer.

    Raises:
      PeerError: if the worker reports an error, or is gone.
    """
    try:
      self._process.stdin.write(json.dumps(request) + "\n")
      self._process.stdin.flush()
    except BrokenPipeError:
      pass  # Its exit status says more: see `_read`.
    return self._read()

  def close(self) -> None:
    """Ends the process."""
    self._process.kill()
    self._process.communicate()

  def _read(self):
    line = self._process.stdout.readline()
    if not line:
      status = self._process.wait()
      last = self._log.read_text().strip().splitlines()[-1:]
      raise PeerError(f"ended with status {status}: {''.join(last)}")
    answer = json.loads(line)
    if "error" in answer:
      raise PeerError(answer["error"])
    return answer


def num_threads() -> int:
  """Returns how many cores this process, and so each worker, may use."""
  return len(os.sched_getaffinity(0))


def _variables(ours: bool) -> dict[str, str]:
  """The environment variables of a worker."""
  variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  variables |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
  if ours:
    variables["PYTHONPATH"] = str(_ROOT)
  return variables
