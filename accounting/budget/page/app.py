"""The page's application: its files, and the answers to its questions.

Starlette routes and uvicorn serves: small, kept, with no connection of their
own to anywhere. The page's markup, and so its keyboard and print, stays ours.

Invariant: what is served is a file of the list below, plotly.js as the package
has it, or the answer to one question; nothing is looked up by a path that was
sent.
"""

import functools
from collections.abc import Callable
from typing import Any

from starlette import applications, concurrency, requests, responses, routing

from accounting import _validate, json_object
from accounting.budget.page import assets, guard

MAX_BYTES = 65536
_JSON = "application/json"

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


def make(ask: Ask, *, token: str, port: int) -> guard.Guard:
  """Returns the application.

  Args:
    ask: Function that answers a question; it may take long.
    token: Random text that begins every path.
    port: Port of the socket, which Host must name.
  """
  routes = [
      routing.Route("/", functools.partial(_file, "index.html")),
      *(
          routing.Route(f"/{name}", functools.partial(_file, name))
          for name in assets.TYPES
      ),
      routing.Route("/plotly.min.js", _plotly),
      routing.Route(
          "/answer", functools.partial(_answer, ask), methods=["POST"]
      ),
  ]
  return guard.Guard(
      applications.Starlette(routes=routes), token=token, port=port
  )


def _file(name: str, request: requests.Request) -> responses.Response:
  del request
  return responses.Response(
      assets.text(name), headers={"content-type": assets.TYPES[name]}
  )


def _plotly(request: requests.Request) -> responses.Response:
  del request
  # It is the same as long as the package is.
  kept = {
      "content-type": assets.TYPES["page.js"],
      "cache-control": "private, max-age=3600",
  }
  return responses.Response(assets.plotly(), headers=kept)


async def _answer(ask: Ask, request: requests.Request) -> responses.Response:
  if request.headers.get("content-type", "").partition(";")[0] != _JSON:
    return _refused(f"content-type must be {_JSON}.", 415)
  body = b""
  async for chunk in request.stream():
    body += chunk
    if len(body) > MAX_BYTES:
      return _refused(f"question must hold at most {MAX_BYTES} bytes.", 413)
  try:
    question = json_object.parse(body, what="question")
    key = _key(question)
  except ValueError as error:
    return _refused(str(error), 400)
  reply = await concurrency.run_in_threadpool(ask, key, question)
  return responses.JSONResponse(reply)


def _key(question: dict[str, Any]) -> str:
  """Returns whose question it is: a newer one of the same key replaces it."""
  tab = _validate.text("tab", question.pop("tab", None), rule="a name", most=64)
  part = _validate.text("part", question.get("part"), rule="a name", most=64)
  return f"{tab} {part}"


def _refused(text: str, status: int) -> responses.Response:
  return responses.JSONResponse({"error": text}, status_code=status)
