"""Processes that calculate, so that the page never waits for one.

Invariant: a question is answered within its time, or its process is ended; and
a newer question of the same part of the same tab takes the place of an older
one, which is answered as stale.
"""

import contextlib
import dataclasses
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from accounting.budget.page import worker

LIMIT_SECONDS = 30.0
_NUM_WORKERS = 2
_MAX_WAITING = 64
_POLL_SECONDS = 0.02
# What is stale goes on so long: most calculations are over by then, and a new
# process takes a second to begin.
_STALE_SECONDS = 1.0
# To import all that a calculation needs, on a slow machine.
_START_SECONDS = 120.0

STALE: dict[str, Any] = {"stale": True}


@dataclasses.dataclass
class _Worker:
  """A process, and this end of its pipe."""

  process: Any
  connection: Any
  is_ready: bool = False


@dataclasses.dataclass(eq=False)
class _Job:
  """A question that is not answered yet."""

  is_stale: bool = False


class Pool:
  """Some processes, each of which answers one question at a time.

  Args:
    ledger: Path of the ledger, or None.
    limit_seconds: Seconds that a calculation may take.
    work: Function of a process, as `worker.work`.
  """

  def __init__(
      self,
      *,
      ledger: str | None = None,
      limit_seconds: float = LIMIT_SECONDS,
      work: Callable[[Any, str | None], None] = worker.work,
  ):
    self._work = work
    self._ledger = ledger
    self._limit = limit_seconds
    self._context = multiprocessing.get_context("spawn")
    self._changed = threading.Condition()
    self._jobs: dict[str, _Job] = {}
    self._num_waiting = 0
    self._is_closed = False
    self._all: list[_Worker] = []
    # None is a process that could not be begun, and is when it is needed.
    self._free = [self._begin() for _ in range(_NUM_WORKERS)]

  def __enter__(self) -> "Pool":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def ask(self, key: str, question: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer to a question, or why there is none.

    Args:
      key: Name of the tab and its part; a newer question of this key makes
        this one stale.
      question: Mapping that `questions.answer` takes.
    """
    job = _Job()
    with self._changed:
      if self._num_waiting >= _MAX_WAITING:
        return _error("the page must be asked less at once, got too much.")
      if key in self._jobs:
        self._jobs[key].is_stale = True
        self._changed.notify_all()
      self._jobs[key] = job
      self._num_waiting += 1
      held = None
      try:
        self._changed.wait_for(
            lambda: self._free or job.is_stale or self._is_closed
        )
        if job.is_stale or self._is_closed:
          return STALE
        held = self._free.pop() or self._begin()
        if held is None:
          self._free.append(None)
          return _ended()
      finally:
        self._num_waiting -= 1
        if held is None:
          self._forget(key, job)
    reply, is_fit = None, False
    try:
      reply, is_fit = self._reply(held, question, job)
    finally:
      self._give_back(held, is_fit)
      with self._changed:
        self._forget(key, job)
    return STALE if job.is_stale else reply

  def close(self) -> None:
    """Ends all processes."""
    with self._changed:
      self._is_closed = True
      self._changed.notify_all()
      for held in self._all:
        _end(held)

  def _forget(self, key: str, job: _Job) -> None:
    if self._jobs.get(key) is job:  # Not a newer one.
      del self._jobs[key]

  def _reply(self, held: _Worker, question: dict[str, Any], job: _Job):
    """Returns the reply, and whether the process can go on."""
    try:
      if not held.is_ready:
        if not _wait(held, job, _START_SECONDS, keep=True):
          return STALE if job.is_stale else _late(_START_SECONDS), job.is_stale
        held.connection.recv()
        held.is_ready = True
      held.connection.send(question)
      if not _wait(held, job, self._limit):
        return _late(self._limit), False
      return held.connection.recv(), True
    except (EOFError, OSError):
      if self._is_closed:
        return STALE, False
      return _ended(), False

  def _give_back(self, held: _Worker, is_fit: bool) -> None:
    with self._changed:
      if not is_fit:
        _end(held)
        self._all.remove(held)
        if self._is_closed:
          return
      self._free.append(held if is_fit else self._begin())
      self._changed.notify_all()

  def _begin(self) -> _Worker | None:
    """Begins a process; returns None where there is no memory for one."""
    try:
      ours, theirs = self._context.Pipe()
      process = self._context.Process(
          target=self._work, args=(theirs, self._ledger), daemon=True
      )
      with _deaf():
        process.start()
    except OSError:
      return None
    theirs.close()
    self._all.append(_Worker(process, ours))
    return self._all[-1]


@contextlib.contextmanager
def _deaf():
  """Lets no Ctrl-C reach a process that begins here: it would print where."""
  if not hasattr(signal, "pthread_sigmask"):  # On Windows.
    yield
    return
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(held: _Worker, job: _Job, limit: float, *, keep=False) -> bool:
  """Waits for a reply; returns whether there is one in time."""
  begun = time.monotonic()
  while not held.connection.poll(_POLL_SECONDS):
    passed = time.monotonic() - begun
    if passed > limit or (job.is_stale and (keep or passed > _STALE_SECONDS)):
      return False
  return True


def _end(held: _Worker) -> None:
  held.process.kill()
  held.process.join(timeout=5)
  held.connection.close()


def _late(limit: float) -> dict[str, Any]:
  return _error(
      f"the calculation must end within {limit:g} s on this page, got none by"
      " then. The command `dp-budget` has no such limit."
  )


def _ended() -> dict[str, Any]:
  return _error(
      "the calculation must end with an answer, got a process that ended first:"
      " it may have needed more memory than there is."
  )


def _error(text: str) -> dict[str, Any]:
  return {"error": text, "field": None}
