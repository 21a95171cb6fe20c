"""Lets a signal end a run between two steps instead of within one."""

import signal
import threading

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
  """A context in which SIGTERM and SIGINT only set `requested`.

  The first puts the handlers back that were there before, so that a second
  ends the process at once.

  Attributes:
    requested: Whether a signal came.
  """

  def __init__(self):
    self.requested = False
    self._before = {}

  def __enter__(self):
    # Python lets the main thread alone handle signals.
    if threading.current_thread() is threading.main_thread():
      self._before = {s: signal.signal(s, self._handle) for s in _SIGNALS}
    return self

  def __exit__(self, *unused):
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def _handle(self, *unused):
    self.requested = True
    self.__exit__()
