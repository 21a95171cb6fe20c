"""A process in place of the page's: it echoes, sleeps or dies."""

import os
import time


def work(connection, ledger):
  """Does what each question says."""
  del ledger
  connection.send(True)
  while True:
    try:
      question = connection.recv()
    except EOFError:
      return
    if "die" in question:
      os._exit(1)
    time.sleep(question.get("sleep", 0))
    connection.send(question)
