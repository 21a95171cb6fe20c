"""Photographs the page of `dp-budget serve` for docs/budget.md.

The invariant: what the picture shows was computed by the page that is checked
in, with its own start values. It needs Chromium.

Example:
  $ python docs/figures/budget_page.py
"""

import pathlib
import re
import shutil
import subprocess
import sys
import time

_ROOT = pathlib.Path(__file__).parents[2]
_PICTURE = _ROOT / "docs" / "images" / "budget_page.png"
_SIZE = {"width": 1100, "height": 760}
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
_SETTLED = """() =>
  /^[0-9]/.test(document.querySelector("#epsilon").textContent)
  && !document.querySelector("[aria-busy=true]")
"""


def photograph(address: str, path: pathlib.Path) -> None:
  """Writes a picture of the page, once its numbers are there."""
  from playwright import sync_api

  with sync_api.sync_playwright() as made:
    browser = made.chromium.launch(
        executable_path=shutil.which("chromium"), args=_FLAGS
    )
    page = browser.new_page(viewport=_SIZE, color_scheme="light")
    page.goto(address)
    page.wait_for_timeout(500)
    end = time.monotonic() + 300
    while not page.evaluate(_SETTLED):
      if time.monotonic() > end:
        raise TimeoutError("the page showed no numbers in 300 s.")
      page.wait_for_timeout(100)
    page.screenshot(path=path)
    browser.close()


def main() -> None:
  """Serves the page for as long as it takes."""
  server = subprocess.Popen(
      [sys.executable, "-m", "accounting.budget", "serve"],
      cwd=_ROOT,
      stdout=subprocess.PIPE,
      text=True,
  )
  try:
    address = re.search(r"http\S+", server.stdout.readline())[0]
    photograph(address, _PICTURE)
  finally:
    server.terminate()
    server.wait()


if __name__ == "__main__":
  main()
