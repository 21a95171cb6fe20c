"""The process that calculates for the page.

Invariant: what it imports comes after Ctrl-C is left to its parent; it ends
when its parent does.
"""

import signal
from typing import Any


def work(connection: Any, ledger: str | None) -> None:
  """Answers questions until there are no more.

  Args:
    connection: Pipe to the parent.
    ledger: Path of the ledger, or None.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  from accounting.budget.page import questions

  try:
    # Whatever is imported when it is first used is imported here, before the
    # time of an answer is counted.
    questions.answer({"part": "epsilon", "form": questions.START}, ledger=None)
    connection.send(True)
    while True:
      connection.send(questions.answer(connection.recv(), ledger=ledger))
  except (EOFError, BrokenPipeError, ConnectionResetError):
    return
