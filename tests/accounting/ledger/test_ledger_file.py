"""A ledger's file survives kills, two writers and a full disk."""

import concurrent.futures
import os
import resource
import signal
import subprocess
import sys
import textwrap

import pytest

from accounting import Laplace, Ledger
from accounting.ledger import file
from tests.support import launch

_STEPS = ("open", "write", "fsync", "replace", "open", "fsync")
# Kills itself before the n-th call of the system that writes the file.
_KILLED = """
import os, signal, sys
from accounting import Laplace, Ledger
ledger, steps = Ledger.read(sys.argv[1]), int(sys.argv[2])
left = [steps]

def before(fn, partly):
  def call(*args, **kwargs):
    left[0] -= 1
    if left[0] < 0:
      if partly:  # Half of it is written.
        fn(args[0], bytes(args[1])[: len(args[1]) // 2])
      os.kill(os.getpid(), signal.SIGKILL)
    return fn(*args, **kwargs)
  return call

from accounting.ledger import file
opened = os.open
os.open = lambda *a, **k: (before(opened, False) if not str(a[0]).endswith(
    ".lock") else opened)(*a, **k)
os.write = before(os.write, True)
os.fsync = before(os.fsync, False)
os.replace = before(os.replace, False)
ledger.append(Laplace(scale=9.0), what="more", visible_to="staff")
"""


def _new(tmp_path):
  ledger = Ledger.create(
      tmp_path / "ledger.toml",
      unit="patient",
      num_examples=1000,
      epsilon=3.0,
      delta=1e-6,
  )
  return ledger.append(Laplace(scale=9.0), what="ages", visible_to="all")


def _python(program, *arguments):
  return subprocess.run(
      [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
      cwd=launch.ROOT,
      capture_output=True,
      text=True,
  )


@pytest.mark.slow
@pytest.mark.parametrize("steps", range(len(_STEPS) + 1))
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path, steps):
  _check_kill(tmp_path, steps)


def test_a_kill_amid_writing_leaves_the_old_file(tmp_path):
  _check_kill(tmp_path, _STEPS.index("write"))


def _check_kill(tmp_path, steps):
  ledger = _new(tmp_path)
  done = _python(_KILLED, ledger.path, steps)
  killed = steps < len(_STEPS)
  assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr
  found = Ledger.read(ledger.path)
  assert len(found.entries) == (1 if steps <= _STEPS.index("replace") else 2)
  # The lock went with the process, and what was half written is in no way.
  again = found.append(Laplace(scale=9.0), what="next", visible_to="all")
  assert len(again.entries) == len(found.entries) + 1


_WRITER = """
import sys
from accounting import Laplace, Ledger
for i in range(4):
  Ledger.read(sys.argv[1]).append(
      Laplace(scale=9.0), what=f"{sys.argv[2]} {i}", visible_to="all")
"""


def test_two_threads_lose_nothing(tmp_path):
  ledger = _new(tmp_path)

  def write(name):
    for i in range(3):
      ledger.append(Laplace(scale=9.0), what=f"{name} {i}", visible_to="all")

  with concurrent.futures.ThreadPoolExecutor() as pool:
    list(pool.map(write, "ab"))
  said = [e.what for e in Ledger.read(ledger.path).entries]
  wanted = [f"{name} {i}" for name in "ab" for i in range(3)]
  assert sorted(said) == sorted(["ages", *wanted])


@pytest.mark.slow
def test_two_processes_lose_nothing(tmp_path):
  ledger = _new(tmp_path)
  writers = [
      subprocess.Popen(
          [sys.executable, "-c", _WRITER, ledger.path, name], cwd=launch.ROOT
      )
      for name in ("a", "b")
  ]
  assert [w.wait() for w in writers] == [0, 0]
  said = [e.what for e in Ledger.read(ledger.path).entries]
  wanted = [f"{name} {i}" for name in ("a", "b") for i in range(4)]
  assert sorted(said) == sorted(["ages", *wanted])


def test_a_budget_is_shared_by_two_writers(tmp_path):
  """Each would fit by itself: the second is refused."""
  ledger = _new(tmp_path)
  rest = Laplace(scale=1 / 2.0)
  ledger.append(rest, what="one", visible_to="all")
  with pytest.raises(ValueError, match="must be within the ledger's budget"):
    ledger.append(rest, what="two", visible_to="all")


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
  ledger = _new(tmp_path)
  before = ledger.path.read_bytes()
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
  try:
    with pytest.raises(OSError, match="ledger.toml must be written whole, got"):
      ledger.append(Laplace(scale=9.0), what="more", visible_to="all")
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert ledger.path.read_bytes() == before
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {"ledger.toml", "ledger.toml.lock"}
  assert len(Ledger.read(ledger.path).entries) == 1


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path, monkeypatch, name
):
  ledger = _new(tmp_path)
  before = ledger.path.read_bytes()

  def fail(*args):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(file.os, name, fail)
  with pytest.raises(OSError, match="No space left on device. It is as it was"):
    ledger.append(Laplace(scale=9.0), what="more", visible_to="all")
  monkeypatch.undo()
  assert ledger.path.read_bytes() == before
  assert not (tmp_path / "ledger.toml.partial").exists()


def test_who_holds_the_lock_is_waited_for(tmp_path):
  path = tmp_path / "a.toml"
  with file.locked(path):
    with pytest.raises(OSError, match="must be written by one process at a ti"):
      with file.locked(path, wait_seconds=0.05):
        pass
  with file.locked(path, wait_seconds=0.0):
    pass


def test_a_link_has_the_lock_of_its_file(tmp_path):
  # Two writers, one by a link: with a lock each, one would lose the other's.
  path, link = tmp_path / "a.toml", tmp_path / "b.toml"
  link.symlink_to(path)
  for held, asked in ((path, link), (link, path)):
    with file.locked(held):
      with pytest.raises(file.LockedError):
        with file.locked(asked, wait_seconds=0.05):
          pass
  assert not (tmp_path / "b.toml.lock").exists()


def test_modes_and_links_stay(tmp_path):
  path, link = tmp_path / "a.toml", tmp_path / "b.toml"
  path.write_text("old")
  path.chmod(0o640)
  link.symlink_to(path)
  file.replace(link, "new")
  assert path.read_text() == "new" and link.is_symlink()
  assert os.stat(path).st_mode & 0o777 == 0o640
