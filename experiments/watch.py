"""Serves the page of `experiments.report` while runs go on.

  python -m experiments.watch runs/a [runs/b ...] [--public] [--port=0]

prints an address on this machine's loopback, which holds a random token. The
page takes what is new every few seconds. End it by Ctrl-C.

It is for who trains: by default it shows private numbers where the seed was
fixed, as a report does.
"""

import pathlib
import secrets

from absl import flags

from experiments.reports import watching
from experiments.run import cli
from jax_privacy import _extras

_WORKDIR = flags.DEFINE_multi_string(
    "workdir", [], "Folders of runs; they may be given without a flag."
)
_PUBLIC = flags.DEFINE_bool(
    "public", None, "Whether to leave out what is private; see report."
)
_PORT = flags.DEFINE_integer("port", 0, "Port; 0 for a free one.")


def main() -> None:
  """Runs the command line.

  Raises:
    ValueError: If no folder is given, or none is a run's.
  """
  with cli.exit_on(ValueError, OSError, ImportError):
    if not _WORKDIR.value:
      raise ValueError("workdir must be a folder at least, got none.")
    with _extras.needed("page"):
      import plotly  # noqa: F401
      import uvicorn

      from accounting.budget.page import serving
    paths = [pathlib.Path(path) for path in _WORKDIR.value]
    watched = watching.Watched(paths, public=_PUBLIC.value)
    watched.page()  # What is wrong with it is said here.
    with serving.listen(_PORT.value) as bound:
      port, token = bound.getsockname()[1], secrets.token_urlsafe(32)
      app = watching.app(watched, token=token, port=port)
      print(f"the page is at {serving.address_of(port, token)}", flush=True)
      server = uvicorn.Server(serving.settings(app))
      try:
        server.run(sockets=[bound])
      except KeyboardInterrupt:  # Raised again once all is closed.
        pass
  print("the page is closed")


if __name__ == "__main__":
  cli.run(main, rest="workdir")
