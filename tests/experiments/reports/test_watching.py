"""The page that follows a run: what it answers, and to whom."""

import json

import pytest
from starlette import testclient

from experiments.reports import watching
from tests.support import run_folders

_TOKEN = "T" * 43
_HOST = {"host": "127.0.0.1:80"}


@pytest.fixture
def folder(tmp_path):
  return run_folders.write(tmp_path / "run", summary=False)


def _get(folder, path, *, public=None, token=_TOKEN, **headers):
  watched = watching.Watched([folder], public=public)
  app = watching.app(watched, token=_TOKEN, port=80)
  client = testclient.TestClient(app, base_url="http://127.0.0.1")
  return client.get(f"/{token}{path}", headers=_HOST | headers)


def test_it_follows_a_run(folder):
  watched = watching.Watched([folder], public=None)
  before = watched.content()
  assert before["plots"]["log-0"]["lines"][0]["x"] == [12, 25, 37, 50]
  assert watched.page() is watched.page(), "nothing changed"
  line = run_folders.metrics(1)[0] | {"step": 60, "epsilon": 1.5}
  with (folder / "metrics.jsonl").open("a") as file:
    file.write(json.dumps(line) + "\n")
  after = watched.content()
  assert after["plots"]["log-0"]["lines"][0]["y"][-1] == 1.5
  assert "epsilon 1.500" in after["body"]
  (folder / "config.json").unlink()
  assert watched.content()["error"].startswith("workdir must be a run's folder")


def test_it_answers_its_own_page_alone(folder):
  found = _get(folder, "/")
  assert found.status_code == 200 and "data-refresh" in found.text
  policy = found.headers["content-security-policy"]
  assert policy.startswith("default-src 'none'; script-src 'sha256-")
  assert "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy
  assert _get(folder, "/content").json()["plots"]
  assert _get(folder, "/", token="U" * 43).status_code == 404
  assert _get(folder, "/config.json").status_code == 404
  assert _get(folder, "/", host="evil.example").status_code == 403
  evil = {"origin": "http://evil.example"}
  assert _get(folder, "/content", **evil).status_code == 403


def test_what_is_private_is_not_served_to_the_public(folder):
  text = _get(folder, "/content", public=True).text
  assert "loss" not in text and str(run_folders.CLIPPED)[:6] not in text
  assert "loss" in _get(folder, "/content").text
