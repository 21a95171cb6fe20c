"""The page of `dp-budget serve`, served from a thread of the tests."""

import contextlib
import dataclasses
import http.client
import json
import threading
import time

import uvicorn

from accounting.budget.page import app as app_lib
from accounting.budget.page import serving

TOKEN = "T" * 43


@dataclasses.dataclass
class Page:
  """Where it is served."""

  port: int

  @property
  def host(self):
    return f"127.0.0.1:{self.port}"

  @property
  def address(self):
    return serving.address_of(self.port, TOKEN)

  def request(self, method, path, *, body=None, **headers):
    """Sends a request with just these headers; returns status, headers, body.

    A header of None is left out.
    """
    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
    sent = {"Host": self.host} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection.putrequest(method, path, skip_host=True)
    for name, value in sent.items():
      if value is not None:
        connection.putheader(name, value)
    if body is not None:
      connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    with contextlib.closing(connection):
      found = connection.getresponse()
      return found.status, dict(found.getheaders()), found.read()

  def ask(self, question, **headers):
    """Asks as the page does; returns the status and the reply."""
    held = {"Origin": f"http://{self.host}", "Content_Type": "application/json"}
    body = question if isinstance(question, bytes) else _body(question)
    status, _, reply = self.request(
        "POST", f"/{TOKEN}/answer", body=body, **(held | headers)
    )
    return status, reply


def _body(question):
  return json.dumps({"tab": "a", "part": "epsilon"} | question).encode()


@contextlib.contextmanager
def served(ask):
  """Serves the page, whose questions a function answers."""
  with serving.listen(0) as bound:
    page = Page(bound.getsockname()[1])
    app = app_lib.make(ask, token=TOKEN, port=page.port)
    server = uvicorn.Server(serving.settings(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
      while not server.started:
        time.sleep(0.01)
      yield page
    finally:
      server.should_exit = True
      thread.join()
