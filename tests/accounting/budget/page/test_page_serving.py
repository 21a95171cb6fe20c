"""How the page begins: its port, its ledger, and what is missing."""

import socket

import pytest

from accounting import budget
from accounting.budget.page import serving
from tests.support import commands


def test_a_port_that_is_taken_is_one_line(capsys):
  with serving.listen(0) as bound:
    port = bound.getsockname()[1]
    refused = commands.refused(capsys, "serve", "--port", str(port))
  assert f"port must be free, got {port} (Address already in use)" in refused


@pytest.mark.parametrize("port", ["-1", "65536", "x", "80.5"])
def test_what_is_no_port_is_refused(port, capsys):
  assert "port" in commands.refused(capsys, "serve", f"--port={port}")


def test_a_bad_ledger_is_refused_before_anything_is_served(capsys, tmp_path):
  path = tmp_path / "ledger.toml"
  path.write_text("[ledger]\n", encoding="utf-8")
  refused = commands.refused(capsys, "serve", "--ledger", str(path))
  assert "ledger.toml" in refused


def test_nothing_but_the_loopback_is_bound():
  with serving.listen(0) as bound:
    address, port = bound.getsockname()
    assert address == "127.0.0.1"
    # Another address of this machine, by which others would come.
    with (
        pytest.raises(OSError),
        socket.create_connection(("127.0.0.2", port), timeout=1),
    ):
      pass


def test_the_address_has_a_new_token_each_time(monkeypatch, capsys):
  """Nothing is served here: the server ends at once."""
  import uvicorn

  from accounting.budget.page import pool as pool_lib

  class Closed:

    def __init__(self, **_):
      self.ask = None

    def __enter__(self):
      return self

    def __exit__(self, *_):
      pass

  def run(self, sockets):
    raise KeyboardInterrupt

  monkeypatch.setattr(pool_lib, "Pool", Closed)
  monkeypatch.setattr(uvicorn.Server, "run", run)
  tokens = set()
  for _ in range(2):
    assert budget.main(["serve"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert last == "the page is closed"
    tokens.add(first.split("/")[-2])
  assert len(tokens) == 2 and all(len(token) == 43 for token in tokens)
