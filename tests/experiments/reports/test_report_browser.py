"""A report in a browser: what is drawn, sorted and printed; no request."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from experiments.reports import gather, output
from experiments.reports import page as page_lib
from tests.support import browser as browser_lib
from tests.support import run_folders

pytestmark = browser_lib.MARKS
_ATTACK = '"><script>document.title="hit"</script><img src=x onerror=hit()>'


@pytest.fixture(scope="module")
def browser():
  with browser_lib.started() as chromium:
    yield chromium


@pytest.fixture(scope="module")
def address(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs")
  bins = {f"{i / 5:.1f}": 0.2 * i for i in range(1, 6)}
  calibration = run_folders.evaluation(
      bins, confidences=[0.2, 0.4, 0.5, 0.8, 1]
  )
  sections = calibration["params"]["ema"]
  sections["calibration"] = sections.pop("class")
  first = run_folders.write(
      folder / "first",
      summary={"test_accuracy": 0.5, "name": _ATTACK},
      own={"name": _ATTACK},
      evaluation_json=calibration,
  )
  picture = io.BytesIO()
  Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture, "PNG")
  run_folders.write(
      first / "samples", summary=False, manifest_json={"step": 50}
  )
  (first / "samples" / "grid.png").write_bytes(picture.getvalue())
  headline = {"metric": _ATTACK, "value": 0.95, "values": {"ema": 0.95}}
  second = run_folders.write(
      folder / _ATTACK.replace("/", ""), summary={"headline": headline}
  )
  made = gather.page([first, second])
  path = folder / "page.html"
  output.write(path, page_lib.html(made, title=gather.title(made)))
  return path.as_uri()


@pytest.fixture
def open_page(browser, address):
  contexts = []

  def make(**options):
    context = browser.new_context(**options)
    contexts.append(context)
    page = context.new_page()
    page.complaints, page.asked = [], []
    page.on("console", lambda said: page.complaints.append(said.text))
    page.on("pageerror", lambda raised: page.complaints.append(raised))
    page.on("request", lambda sent: page.asked.append(sent.url))
    page.goto(address)
    page.wait_for_function("document.querySelectorAll('.main-svg').length > 9")
    return page

  yield make
  for context in contexts:
    for page in context.pages:
      assert not page.complaints
      others = [url for url in page.asked if not url.startswith("data:")]
      assert set(others) == {address}
    context.close()


def test_plots_are_drawn_and_no_text_is_markup(open_page):
  page = open_page()
  assert page.title() == "Training report: 2 runs"
  assert page.evaluate("document.querySelectorAll('img').length") == 1
  assert page.evaluate("document.querySelector('img').naturalWidth") == 8
  # The attack is the name of a line of each plot, and is read in its legend.
  legend = page.text_content("#log-0 .legend")
  assert "<script>document.title" in legend
  assert page.evaluate("window.hit") is None
  assert page.evaluate("document.querySelectorAll('.plot script').length") == 0
  # The policy holds: no script that is added runs, and nothing is fetched.
  assert page.evaluate(
      "fetch('https://example.com/').then(() => false, () => true)"
  )
  assert any("Content Security Policy" in said for said in page.complaints)
  page.complaints.clear()


def test_the_table_sorts_by_keys(open_page):
  page = open_page()
  names = (
      "[...document.querySelectorAll('#runs tbody th')].map((e) => e.innerText)"
  )
  before = page.evaluate(names)
  assert before[0] == "first"
  head = page.locator("#runs thead th", has_text="value")
  head.locator("button").focus()
  page.keyboard.press("Enter")
  assert head.get_attribute("aria-sort") == "ascending"
  assert page.evaluate(names) == before
  page.keyboard.press("Enter")
  assert head.get_attribute("aria-sort") == "descending"
  assert page.evaluate(names) == before[::-1]
  page.locator("#runs thead button").first.click()
  assert head.get_attribute("aria-sort") is None
  # The first key leads to the results.
  page.reload()
  page.keyboard.press("Tab")
  assert page.evaluate("document.activeElement.className") == "skip"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_every_width_in_both_schemes(open_page, scheme, width):
  page = open_page(
      viewport={"width": width, "height": 800}, color_scheme=scheme
  )
  assert page.evaluate("document.documentElement.scrollWidth") <= width
  color = "getComputedStyle(document.body).backgroundColor"
  red = int(re.findall(r"\d+", page.evaluate(color))[0])
  assert (red < 60) == (scheme == "dark")
  # The letters of a plot are as light as the page is dark; on paper, as dark.
  letters = "getComputedStyle(document.querySelector('#log-0 .xtitle')).fill"
  red = int(re.findall(r"\d+", page.evaluate(letters))[0])
  assert (red > 200) == (scheme == "dark")
  page.emulate_media(media="print", color_scheme=scheme)
  page.wait_for_timeout(500)
  red = int(re.findall(r"\d+", page.evaluate(letters))[0])
  assert red < 60
  assert base64.b64encode(page.screenshot())


def test_all_is_there_without_scripts(browser, address):
  context = browser.new_context(java_script_enabled=False)
  page = context.new_page()
  page.goto(address)
  assert "differentially private" in page.inner_text("main")
  page.click("#log-0-card summary")
  assert "0.250" in page.inner_text("#log-0-card table")
  context.close()
