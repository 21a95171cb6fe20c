"""Who is answered by the page, and what: over a socket, as a browser would."""

import json
import pathlib

import pytest

from accounting.budget.page import app as app_lib
from accounting.budget.page import guard
from tests.support import served as served_lib

_ROOT = f"/{served_lib.TOKEN}"
_asked = []


def _ask(key, question):
  _asked.append((key, question))
  return {"epsilon": "3.883"}


@pytest.fixture(scope="module")
def page():
  with served_lib.served(_ask) as page:
    yield page


@pytest.fixture(autouse=True)
def asked():
  _asked.clear()
  return _asked


def test_the_page_and_its_files(page):
  status, headers, body = page.request("GET", _ROOT + "/")
  assert status == 200 and b"Privacy budget" in body
  assert headers["content-type"].startswith("text/html")
  folder = pathlib.Path(app_lib.__file__).parent / "static"
  files = sorted(path.name for path in folder.iterdir())
  assert len(files) > 5
  for name in files:  # All that is in the folder is served, and as it is.
    status, headers, body = page.request("GET", f"{_ROOT}/{name}")
    assert status == 200 and body == (folder / name).read_bytes(), name


def test_plotly_comes_from_the_package(page):
  status, headers, body = page.request("GET", _ROOT + "/plotly.min.js")
  assert status == 200 and len(body) > 1_000_000
  assert headers["content-type"].startswith("text/javascript")


def test_a_question_is_passed_on_and_answered(page, asked):
  status, reply = page.ask({"form": {"delta": "1e-5"}})
  assert status == 200 and json.loads(reply) == {"epsilon": "3.883"}
  assert asked == [
      ("a epsilon", {"part": "epsilon", "form": {"delta": "1e-5"}})
  ]


def test_every_answer_forbids_what_is_elsewhere(page):
  for path in (_ROOT + "/", _ROOT + "/page.js", _ROOT + "/none", "/"):
    _, headers, _ = page.request("GET", path)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy
    script = policy.partition("script-src ")[2].partition(";")[0]
    assert script == "'self'"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert not [n for n in headers if n.startswith("access-control")]
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.html",
        "/answer",
        "/" + "T" * 42 + "/",
        "/" + "T" * 44 + "/",
        "/" + "T" * 42 + "U/page.js",
        "/" + "t" * 43 + "/",
        "//" + served_lib.TOKEN + "/",
        _ROOT,
        f"/?{served_lib.TOKEN}",
        "/%00/",
        "/%C3%A9/",
        f"http://evil.example{_ROOT}/",
    ],
)
def test_without_the_token_there_is_nothing(page, path):
  status, _, body = page.request("GET", path)
  assert (status, body) == (404, b"Not found.")


@pytest.mark.parametrize(
    "path",
    ["../app.py", "..%2fapp.py", "static/index.html", "page.css/", "%2e%2e/"],
)
def test_a_file_that_is_not_listed_is_not_there(page, path):
  status, _, body = page.request("GET", f"{_ROOT}/{path}")
  assert status in (307, 404) and b"import" not in body


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "127.0.0.1:{port}.evil.example",
        "0.0.0.0:{port}",
        "[::1]:{port}",
        "",
    ],
)
def test_no_other_host_is_answered(page, host, asked):
  """Its name may come to mean 127.0.0.1: DNS rebinding."""
  host = host.format(port=page.port)
  status, _, body = page.request("GET", _ROOT + "/", Host=host)
  assert (status, body) == (403, b"Host must be this address.")
  status, _ = page.ask({}, Host=host, Origin=f"http://{host}")
  assert status == 403 and not asked


def test_a_request_names_one_host(page):
  assert page.request("GET", _ROOT + "/", Host=None)[0] == 400
  names = guard.Guard(None, token="a", port=9)
  assert names.refusal("/a/", {"host": "localhost:9"}, "GET") is None


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1",
        "https://{host}",
        "http://localhost:{port}",
        "http://{host}.evil.example",
        None,
    ],
)
def test_no_other_page_is_answered(page, origin, asked):
  made = origin and origin.format(host=page.host, port=page.port)
  assert page.ask({}, Origin=made)[0] == 403
  assert not asked
  if origin:
    assert page.request("GET", _ROOT + "/", Origin=made)[0] == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(page, method):
  assert page.request(method, _ROOT + "/answer")[0] == 405
  assert page.request("GET", _ROOT + "/answer")[0] == 405


def test_what_is_too_long_is_refused(page, asked):
  body = b'{"form": "' + b"a" * app_lib.MAX_BYTES + b'"}'
  status, reply = page.ask(body)
  assert status == 413 and not asked
  assert json.loads(reply)["error"].startswith("question must hold at most")
  # As long as it may be.
  start = b'{"tab": "a", "part": "epsilon", "form": "'
  fill = app_lib.MAX_BYTES - len(start) - 2
  assert page.ask(start + b"a" * fill + b'"}')[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"tab": "a"}',
        b'{"tab": "a", "part": 3}',
        b'{"tab": "", "part": "epsilon"}',
        b'{"tab": "a", "part": "epsilon", "form": NaN}',
        b'{"tab": "a", "part": "epsilon", "part": "users"}',
        b'{"tab": "a", "part": "epsilon", "form": ' + b"[" * 99 + b"]" * 99,
        b"\xff\xfe",
    ],
)
def test_what_is_no_question_is_refused(page, body, asked):
  status, reply = page.ask(body)
  assert status == 400 and not asked
  assert "must" in json.loads(reply)["error"]


def test_a_form_that_any_page_can_send_is_refused(page, asked):
  """Without this type a browser asks first, by OPTIONS."""
  for kind in ("text/plain", "application/x-www-form-urlencoded", None):
    assert page.ask({}, Content_Type=kind)[0] == 415
  assert not asked
