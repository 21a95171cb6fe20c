"""The processes that calculate for the page: limits, staleness, ends."""

import concurrent.futures
import time

import pytest

from accounting.budget.page import pool as pool_lib
from tests.support import page_worker


@pytest.fixture(scope="module")
def pool():
  with pool_lib.Pool(work=page_worker.work, limit_seconds=2.0) as pool:
    yield pool


def test_a_question_is_answered(pool):
  for number in range(3):
    assert pool.ask("a", {"echo": number}) == {"echo": number}


def test_a_calculation_that_takes_long_is_ended(pool):
  reply = pool.ask("a", {"sleep": 600})
  assert "within 2 s on this page" in reply["error"]
  # Both processes answer after that.
  assert pool.ask("a", {"echo": 1}) == {"echo": 1}
  assert pool.ask("a", {"echo": 2}) == {"echo": 2}


def test_a_process_that_dies_is_replaced(pool):
  assert "ended first" in pool.ask("a", {"die": True})["error"]
  assert pool.ask("a", {"echo": 1}) == {"echo": 1}


def test_a_process_that_cannot_be_begun_is_tried_again(monkeypatch):
  with pool_lib.Pool(work=page_worker.work) as pool:

    def no_memory():
      raise OSError("Cannot allocate memory")

    with monkeypatch.context() as patched:
      patched.setattr(pool._context, "Pipe", no_memory)
      for _ in range(4):  # Both processes die, and there are no new ones.
        assert "ended first" in pool.ask("a", {"die": True})["error"]
    assert not pool._jobs
    assert pool.ask("a", {"echo": 1}) == {"echo": 1}


def test_a_newer_question_takes_the_place_of_an_older_one(pool, monkeypatch):
  monkeypatch.setattr(pool_lib, "_STALE_SECONDS", 0.0)
  with concurrent.futures.ThreadPoolExecutor() as threads:
    # Four, of which two are calculated and two wait.
    old, newest = [], None
    for _ in range(4):
      old.append(threads.submit(pool.ask, "b", {"sleep": 600}))
      while pool._jobs.get("b") in (None, newest):
        time.sleep(0.01)
      newest = pool._jobs["b"]
    assert pool.ask("b", {"echo": 1}) == {"echo": 1}
    assert [each.result() for each in old] == 4 * [pool_lib.STALE]
  assert not pool._jobs


def test_tabs_do_not_disturb_each_other(pool):
  with concurrent.futures.ThreadPoolExecutor() as threads:
    asked = {
        tab: threads.submit(pool.ask, tab, {"echo": tab}) for tab in "cdefgh"
    }
    for tab, reply in asked.items():
      assert reply.result() == {"echo": tab}


def test_not_all_may_wait(pool, monkeypatch):
  monkeypatch.setattr(pool_lib, "_MAX_WAITING", 0)
  assert "asked less at once" in pool.ask("a", {"echo": 1})["error"]


def test_a_closed_pool_answers_no_more():
  with pool_lib.Pool(work=page_worker.work) as pool:
    held = list(pool._all)
  assert pool.ask("a", {"echo": 1}) == pool_lib.STALE
  assert not any(each.process.is_alive() for each in held)
