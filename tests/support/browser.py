"""Chromium without a screen, for the tests of pages: on this machine alone."""

import contextlib
import shutil

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium: apt-get install chromium"
    ),
]
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextlib.contextmanager
def started():
  from playwright import sync_api

  with sync_api.sync_playwright() as made:
    chromium = made.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
    yield chromium
    chromium.close()
