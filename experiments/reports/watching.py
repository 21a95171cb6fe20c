"""The page about runs, served while they go on: on the loopback alone.

Invariant: it is answered to this machine's own page, by its token, as the page
of `dp-budget serve` is; a folder is read again only once its files changed.

>>> watched = Watched([pathlib.Path("nowhere")], public=True)
>>> watched.content()["error"][:40]
"workdir must be a run's folder, with con"
"""

import pathlib
import threading
from collections.abc import Sequence
from typing import Any

from experiments.reports import gather
from experiments.reports import page as page_lib


class Watched:
  """Runs that are looked at again and again.

  Args:
    paths: Folders of the runs.
    public: Whether to leave out what is private; see `gather.page`.
  """

  def __init__(self, paths: Sequence[pathlib.Path], *, public: bool | None):
    self._paths, self._public = list(paths), public
    self._lock = threading.Lock()
    self._seen: Any = None
    self._made: page_lib.Page | None = None

  def page(self) -> page_lib.Page:
    """Returns what a page shows now.

    Raises:
      ValueError: If none of the folders is a run's.
      OSError: If a file cannot be read.
    """
    with self._lock:
      seen = [_files(path) for path in self._paths]
      if self._made is None or seen != self._seen:
        self._made = gather.page(self._paths, public=self._public)
        self._seen = seen
      return self._made

  def content(self) -> dict[str, Any]:
    """Returns the newest content, or what is wrong, as JSON can hold."""
    try:
      return page_lib.content(self.page())
    except (ValueError, OSError) as error:
      return {"error": " ".join(str(error).split())}


def app(watched: Watched, *, token: str, port: int) -> Any:
  """Returns the application.

  Args:
    watched: Runs that it shows.
    token: Random text that begins every path.
    port: Number of the port, which Host must name.
  """
  from starlette import applications, requests, responses, routing

  from accounting.budget.page import guard

  policy = f"{page_lib.policy(refresh=True)}; frame-ancestors 'none'"

  def whole(request: requests.Request) -> responses.Response:
    del request
    made = watched.page()
    text = page_lib.html(made, title=gather.title(made), refresh=True)
    headers = {"content-security-policy": policy}
    return responses.HTMLResponse(text, headers=headers)

  def content(request: requests.Request) -> responses.Response:
    del request
    return responses.JSONResponse(watched.content())

  routes = [routing.Route("/", whole), routing.Route("/content", content)]
  made = applications.Starlette(routes=routes)
  return guard.Guard(made, token=token, port=port)


def _files(path: pathlib.Path) -> list[tuple[str, int, int]]:
  """Returns names, times and sizes of a folder's files."""
  found = []
  try:
    for each in sorted(path.iterdir()):
      status = each.stat()
      found.append((each.name, status.st_mtime_ns, status.st_size))
  except OSError:
    pass  # It vanished, or was renamed: the next look says more.
  return found
