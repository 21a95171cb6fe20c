"""Reading ahead: the same batches in order, the same errors, and no leftovers.

A worker takes a second to start, so tests share what they start.
"""

import io
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from jax_privacy import data
from jax_privacy.data import encoded, reading
from tests.support import read_ahead

_ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pngs():
  """A source of 50 encoded images, each of its own index."""
  files = []
  for i in range(50):
    file = io.BytesIO()
    PIL.Image.fromarray(np.full((4, 4), i, np.uint8)).save(file, "PNG")
    files.append(file.getvalue())
  ends = np.cumsum([len(file) for file in files])
  return encoded.EncodedSource(
      encoded.Slices(
          np.frombuffer(b"".join(files), np.uint8),
          ends - [len(file) for file in files],
          ends,
      ),
      [f"image {i}" for i in range(50)],
      np.arange(50) % 10,
      channels=1,
      num_classes=10,
  )


def _draws():
  """Batches of many sizes, with padding at the end and in between; and none."""
  rng = np.random.default_rng(0)
  return [rng.integers(-1, 50, n) for n in (3, 700, 0, 1, 257, 30)]


def _assert_same(got, want):
  got = list(got)
  assert len(got) == len(want)
  for a, b in zip(got, want, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      assert a[name].dtype == b[name].dtype
      np.testing.assert_array_equal(a[name], b[name])


def test_a_thread_reads_the_same_batches_in_order(pngs, monkeypatch):
  want = [pngs[rows] for rows in _draws()]
  _assert_same(reading.read(pngs, _draws(), prefetch=2), want)
  # Several blocks, as in a long run.
  monkeypatch.setattr(reading, "_BLOCK_INDICES", 300)
  _assert_same(reading.read(pngs, iter(_draws()), prefetch=1), want)
  _assert_same(reading.read(pngs, [], prefetch=1), [])


@pytest.mark.slow
def test_workers_read_the_same_batches_in_order(pngs, monkeypatch):
  # Two blocks; the second, of one part, has one worker.
  monkeypatch.setattr(reading, "_BLOCK_INDICES", 961)
  want = [pngs[rows] for rows in _draws()]
  got = reading.read(pngs, iter(_draws()), num_workers=2, prefetch=1)
  _assert_same(got, want)


def test_what_is_in_memory_starts_no_worker(monkeypatch):
  monkeypatch.setattr(reading, "_reader", pytest.fail)
  source = data.load("digits", split="test")
  _assert_same(
      reading.read(source, [np.array([3, -1])], num_workers=4),
      [source[np.array([3, -1])]],
  )


@pytest.mark.slow
def test_workers_are_strangers_to_this_process(monkeypatch):
  """Neither its memory, which holds keys, nor a device of JAX's."""
  monkeypatch.setattr(read_ahead, "PLANTED", "a key", raising=False)
  batches = reading.read(
      read_ahead.Telling(), [np.arange(2)] * 2, num_workers=1
  )
  (pid, has_backend, knows), (again, _, _) = (b["label"][0] for b in batches)
  assert pid == again != os.getpid()
  assert not has_backend and not knows
  # What they would tell otherwise: here the key is known.
  assert read_ahead.Telling()[np.arange(2)]["label"][0, 2]
  _assert_gone([pid])


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "num_workers, index, error, text",
    [
        (0, 7, data.ImageError, "image 7 must be readable"),
        (1, 7, data.ImageError, "image 7 must be readable"),
        (0, 8, FileNotFoundError, "[Errno 2] No such file: '8.png'"),
        pytest.param(
            *(1, 8, FileNotFoundError, "[Errno 2] No such file: '8.png'"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_error_arrives_as_it_was_raised(num_workers, index, error, text):
  indices = [np.array([1]), np.array([index]), np.array([2])]
  batches = reading.read(
      read_ahead.Failing(), indices, num_workers=num_workers, prefetch=1
  )
  next(batches)
  with pytest.raises(error) as raised:
    next(batches)
  assert type(raised.value) is error and str(raised.value) == text


@pytest.mark.slow  # Each starts a program and its workers.
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_reader(number):
  program = [sys.executable, "-m", "tests.support.read_ahead", "60"]
  process = subprocess.Popen(
      program,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, "PYTHONPATH": str(_ROOT)},
      cwd=_ROOT,
  )
  pids = [int(pid) for pid in process.stdout.readline().split()]
  assert len(pids) == 2 and all(map(_is_alive, pids))
  process.send_signal(number)
  process.wait()
  _assert_gone(pids)


def test_sources_are_opened_anew_by_a_worker(pngs, tmp_path):
  folder = tmp_path / "train" / "a"
  folder.mkdir(parents=True)
  PIL.Image.fromarray(np.full((4, 4), 9, np.uint8)).save(folder / "0.png")
  files = data.load("folder", path=str(tmp_path), split="train")
  for source in (pngs, files):
    copy = pickle.loads(pickle.dumps(source))
    _assert_same([copy[np.array([0])]], [source[np.array([0])]])


def _is_alive(pid):
  try:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
  except FileNotFoundError:
    return False
  return "State:\tZ" not in status


def _assert_gone(pids):
  deadline = time.monotonic() + 60
  while any(map(_is_alive, pids)):
    assert time.monotonic() < deadline, pids
    time.sleep(0.1)
