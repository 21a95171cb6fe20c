"""Who is answered at all: this machine's own page, by its token.

A page of any other site may make a browser send requests to the loopback, and
a name that such a site owns may come to mean 127.0.0.1. Invariant: a request is
passed on only if its Host is this address, its Origin, if any, is this page,
and its path begins with the token; every answer forbids the browser to load
anything from elsewhere, or to show the page inside another.

>>> guard = Guard(None, token="abc", port=80)
>>> guard.refusal("/abc/", {"host": "127.0.0.1:80"}, "GET") is None
True
>>> guard.refusal("/abc/", {"host": "evil.example:80"}, "GET")
(403, 'Host must be this address.')
>>> guard.refusal("/abd/", {"host": "127.0.0.1:80"}, "GET")
(404, 'Not found.')
"""

import secrets
from typing import Any

_NAMES = ("127.0.0.1", "localhost")
# Plotly writes style sheets of its own; there is no inline script.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_METHODS = ("GET", "HEAD", "POST")


class Guard:
  """An ASGI application around another, which it protects.

  Args:
    app: Application that is protected.
    token: Random text that begins every path.
    port: Number of the port, which Host must name.
  """

  def __init__(self, app: Any, *, token: str, port: int):
    self._app = app
    self._token = token
    self._hosts = tuple(f"{name}:{port}" for name in _NAMES)
    if port == 80:  # Browsers leave it out.
      self._hosts += _NAMES

  async def __call__(self, scope, receive, send) -> None:
    """Answers a request, or passes it on without the token.

    Args:
      scope: Mapping of the request, as ASGI has it.
      receive: Function that gives the body.
      send: Function that takes the answer.
    """
    if scope["type"] != "http":
      return
    names = [name for name, _ in scope["headers"]]
    headers = {
        k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]
    }
    refused = self.refusal(scope["path"], headers, scope["method"])
    if names.count(b"host") != 1 or names.count(b"origin") > 1:
      refused = 400, "Host and Origin must be given once."

    async def send_guarded(message):
      if message["type"] == "http.response.start":
        held = {name for name, _ in message.get("headers", ())}
        message = message | {
            "headers": [
                *message.get("headers", ()),
                *(
                    (k.encode(), v.encode())
                    for k, v in _HEADERS.items()
                    if k.encode() not in held
                ),
            ]
        }
      await send(message)

    if refused is not None:
      await _answer(send_guarded, *refused)
      return
    path = scope["path"].removeprefix(f"/{self._token}")
    inner = scope | {"path": path, "raw_path": path.encode(), "root_path": ""}
    await self._app(inner, receive, send_guarded)

  def refusal(
      self, path: str, headers: dict[str, str], method: str
  ) -> tuple[int, str] | None:
    """Returns why a request is refused, as a status and a text, or None.

    Args:
      path: Path of the request, decoded.
      headers: Mapping of its headers, by names in small letters.
      method: Name of its method.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if host not in self._hosts:
      return 403, "Host must be this address."
    if origin not in (None, f"http://{host}"):
      return 403, "Origin must be this page."
    if method == "POST" and origin is None:
      return 403, "Origin must be given."
    given = path[1:].partition("/")[0]
    # Every comparison takes as long, however many letters are right.
    if not secrets.compare_digest(given.encode(), self._token.encode()):
      return 404, "Not found."
    if not path.startswith(f"/{self._token}/"):
      return 404, "Not found."
    if method not in _METHODS:
      return 405, "Method must be GET or POST."
    return None


async def _answer(send, status: int, text: str) -> None:
  body = text.encode()
  headers = [
      (b"content-type", b"text/plain; charset=utf-8"),
      (b"content-length", str(len(body)).encode()),
      (b"connection", b"close"),
  ]
  await send(
      {"type": "http.response.start", "status": status, "headers": headers}
  )
  await send({"type": "http.response.body", "body": body})
