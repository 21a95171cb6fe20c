"""Runs of a sweep, as processes of this machine; each in a folder of its own.

Invariant: a run that is finished is never run again. One that was stopped goes
on from its last checkpoint. One that failed is named, and is tried again only
if that is asked for; so is one that released what was not planned.

>>> folder(pathlib.Path("sweep"), 3).as_posix()
'sweep/runs/003'
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import accounting
from accounting import json_object
from jax_privacy import _owner_only

_FAILED = "failed.json"
_SECONDS = 0.1
# A run becomes this program's place. On Linux, prctl's 1 asks for SIGTERM when
# the sweep is killed: the run then saves, and stops.
_GUARDED = """
import ctypes, os, sys
if sys.platform == "linux":
  ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
  os.execv(sys.argv[2], sys.argv[2:])
"""
_MECHANISM = tuple(f.name for f in dataclasses.fields(accounting.Mechanism))
_GIB = 2**30


class Outcome(NamedTuple):
  """What became of a run.

  Attributes:
    number: Number of the run, from 0.
    state: Name of its state: "finished", "failed" or "waiting".
    score: Result of the chosen parameters, or None.
    metric: Name of the result.
    is_share: Whether the result is a share, of which more is better.
    seconds: Seconds of training, or None.
    error: Text of what went wrong; "" for nothing.
  """

  number: int
  state: str
  score: float | None = None
  metric: str = ""
  is_share: bool = True
  seconds: float | None = None
  error: str = ""


def folder(path: pathlib.Path, number: int) -> pathlib.Path:
  """Returns the folder of a run.

  Args:
    path: Folder of the sweep.
    number: Number of the run.
  """
  return path / "runs" / f"{number:03}"


def outcome(
    path: pathlib.Path, number: int, planned: accounting.Mechanism | None
) -> Outcome:
  """Returns what became of a run.

  Args:
    path: Folder of the sweep.
    number: Number of the run.
    planned: Mechanism that it was accounted as; None for one without privacy.
  """
  own = folder(path, number)
  try:
    failed = own.with_name(f"{own.name}.{_FAILED}")
    if failed.exists():
      record = json_object.read(failed, what=failed.name)
      return Outcome(number, "failed", error=str(record.get("error"))[:500])
    if not (own / "summary.json").exists():
      return Outcome(number, "waiting")
    summary = json_object.read(own / "summary.json", what="summary.json")
    if planned is not None:
      _check_mechanism(summary, planned)
    head = summary["headline"]
    score = head["value"]
    return Outcome(
        number,
        "finished",
        score=None if score is None else float(score),
        metric=str(head["metric"]),
        is_share=bool(head["is_share"]),
        seconds=float(summary["train_seconds"]),
    )
  except (ValueError, KeyError, TypeError, OSError) as error:
    text = " ".join(str(error).split())
    return Outcome(number, "failed", error=f"its files are damaged: {text}")


def forget_failures(path: pathlib.Path, count: int) -> None:
  """Lets runs that failed be tried again.

  Args:
    path: Folder of the sweep.
    count: Number of runs.
  """
  for number in range(count):
    own = folder(path, number)
    own.with_name(f"{own.name}.{_FAILED}").unlink(missing_ok=True)


def run(
    path: pathlib.Path,
    count: int,
    *,
    command_fn: Callable[[int], Sequence[str] | None],
    done_fn: Callable[[int], Outcome],
    workers: int,
    is_stopping: Callable[[], bool],
) -> bool:
  """Runs what is left to run.

  Args:
    path: Folder of the sweep.
    count: Number of runs.
    command_fn: Function from a run's number to its command; None where it has
      to wait for others.
    done_fn: Function that is called with the number of each run that ended.
    workers: Number of processes at once.
    is_stopping: Function that says whether a signal came.

  Returns:
    Whether all runs ended.
  """
  left = [n for n in range(count) if done_fn(n).state == "waiting"]
  running: dict[int, subprocess.Popen] = {}
  try:
    while left or running:
      for number in [n for n, process in running.items() if _ended(process)]:
        process = running.pop(number)
        if not is_stopping():
          _note_failure(path, number, process.returncode)
          done_fn(number)
      if is_stopping():
        return False
      for number in list(left):
        if len(running) >= workers or _is_used(folder(path, number)):
          break
        command = command_fn(number)
        if command is None:
          break
        left.remove(number)
        running[number] = _start(path, number, command)
      time.sleep(_SECONDS)
  finally:
    _stop(running.values())
  return True


def num_workers(*, cores_per_run: int, gib_per_run: float) -> int:
  """Returns how many runs fit this machine at once, at least one.

  Args:
    cores_per_run: Number of cores of a run.
    gib_per_run: Memory of a run, in GiB.
  """
  cores = len(os.sched_getaffinity(0)) // cores_per_run
  memory = int(_free_bytes() / (gib_per_run * _GIB))
  return max(1, min(cores, memory))


@contextlib.contextmanager
def locked(path: pathlib.Path):
  """A context in which no other sweep is at a folder.

  Args:
    path: Folder of the sweep; made if it is not there.

  Raises:
    ValueError: If another process is at it.
  """
  _owner_only.make_folder(path)
  with _owner_only.open_text(path / ".lock", "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(
          f"workdir must be used by one sweep at a time, got {path}."
      ) from None
    yield


def _start(path, number, command) -> subprocess.Popen:
  own = folder(path, number)
  _owner_only.make_folder(own.parent)
  with _owner_only.open_text(own.with_name(f"{own.name}.log"), "a") as log:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", _GUARDED, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is for the sweep, which asks them.
    )


def _ended(process: subprocess.Popen) -> bool:
  return process.poll() is not None


def _stop(processes) -> None:
  for process in processes:
    process.terminate()
  for process in processes:
    process.wait()


def _is_used(own: pathlib.Path) -> bool:
  """Whether the run of a sweep that was killed is saving what it has."""
  path = own / ".lock"
  if not path.exists():
    return False
  with path.open("r") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      return True
  return False


def _note_failure(path: pathlib.Path, number: int, code: int) -> None:
  """Writes down why a run that ended has no summary."""
  own = folder(path, number)
  if (own / "summary.json").exists():
    return
  error = f"it ended with code {code}"
  if code < 0:
    error = f"it was ended by signal {-code}"
  log = own.with_name(f"{own.name}.log")
  lines = log.read_text("utf-8", "replace").splitlines()[-200:]
  said = [line for line in lines if re.match(r"error: |\w*Error\b", line)]
  if said:
    error += f": {said[-1][:300]}"
  file_path = own.with_name(f"{own.name}.{_FAILED}")
  with _owner_only.open_text(file_path, "w") as file:
    file.write(json.dumps({"error": error, "code": code}) + "\n")


def _check_mechanism(
    summary: Mapping[str, Any], planned: accounting.Mechanism
) -> None:
  found = accounting.Mechanism.from_dict(
      {key: summary[key] for key in _MECHANISM if key in summary}
  )
  if found != planned:
    raise ValueError(
        "summary.json must state the planned mechanism, got another mechanism."
    )


def _free_bytes() -> int:
  try:
    text = pathlib.Path("/proc/meminfo").read_text("utf-8")
  except OSError:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  found = re.search(r"MemAvailable:\s+(\d+) kB", text)
  return int(found[1]) * 1024 if found else _GIB
