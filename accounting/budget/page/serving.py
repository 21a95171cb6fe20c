"""Serves the page until someone stops it.

Invariant: the socket is bound to 127.0.0.1 and to nothing else.

>>> bound = listen(0)
>>> bound.getsockname()[0]
'127.0.0.1'
>>> bound.close()
"""

import argparse
import os
import secrets
import socket
from typing import NoReturn

from accounting import _validate
from accounting.budget.answer import Answer
from accounting.budget.page import assets

HOST = "127.0.0.1"
_MAX_PORT = 65535
# Of requests at once; a tab has one for each part of the page.
_MAX_CONNECTIONS = 100
_LINE = (
    "the page is at {address}\n"
    "It is answered on this machine alone, to whoever has this address. End it"
    " by Ctrl-C."
)


def run(arguments: argparse.Namespace) -> Answer:
  """Serves the page until Ctrl-C.

  Args:
    arguments: Parsed command line.

  Returns:
    The answer, after it is over.

  Raises:
    ValueError: If the port is taken, or the ledger is bad.
    OSError: If the ledger cannot be read.
    ImportError: If a package of the extra is missing.
  """
  try:
    import plotly  # noqa: F401  (Here, not when the page is open.)
    import uvicorn

    from accounting.budget.page import app as app_lib
  except ImportError as error:
    raise assets.missing(error) from error
  from accounting.budget.page import pool as pool_lib

  if arguments.ledger is not None:
    from accounting.ledger import Ledger

    Ledger.read(arguments.ledger)
  with listen(arguments.port) as bound:
    port, token = bound.getsockname()[1], secrets.token_urlsafe(32)
    with pool_lib.Pool(ledger=arguments.ledger) as pool:
      app = app_lib.make(pool.ask, token=token, port=port)
      print(_LINE.format(address=address_of(port, token)), flush=True)
      server = uvicorn.Server(settings(app))
      try:
        server.run(sockets=[bound])
      except KeyboardInterrupt:  # Raised again once all is closed.
        pass
  return Answer(fields={}, text="the page is closed", pure=True)


def settings(app):
  """Returns uvicorn's settings: no log, no web sockets, no name in headers.

  Args:
    app: Application to serve.
  """
  import uvicorn

  return uvicorn.Config(
      app,
      http="h11",
      ws="none",
      lifespan="off",
      log_config=None,
      access_log=False,
      server_header=False,
      limit_concurrency=_MAX_CONNECTIONS,
      timeout_graceful_shutdown=1,
  )


def address_of(port: int, token: str) -> str:
  """Returns the address of the page.

  Args:
    port: Port of the socket.
    token: Random text of the address.
  """
  return f"http://{HOST}:{port}/{token}/"


def listen(port: int) -> socket.socket:
  """Returns a socket that listens on the loopback.

  Args:
    port: Number of the port; 0 for any free one.

  Raises:
    ValueError: If another program has it, or it is none.
  """
  _validate.integer("port", port, low=0)
  if port > _MAX_PORT:
    _validate.fail("port", f"at most {_MAX_PORT}", port)
  try:
    return socket.create_server((HOST, port))
  except OSError as error:
    _taken(port, error)


def _taken(port: int, error: OSError) -> NoReturn:
  reason = os.strerror(error.errno or 0)
  raise ValueError(
      f"port must be free, got {port} ({reason}). Give another, or none: then a"
      " free one is taken."
  ) from error
