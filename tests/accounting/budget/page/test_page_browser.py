"""The page in a browser: Chromium, by its own protocol, on this machine alone.

It is a user's: nothing of the page's own code is called.
"""

import contextlib
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support import browser as browser_lib
from tests.support import launch

pytestmark = browser_lib.MARKS
_SECONDS = 300
# What is shown is of what is typed, and both plots are there.
_SETTLED = """() =>
  /^[0-9.–]+/.test(document.querySelector("#epsilon").textContent)
  && !document.querySelector("[aria-busy=true]")
"""


@contextlib.contextmanager
def _serving(folder):
  """Runs `dp-budget serve` with a ledger; gives its address and how it ends."""
  ledger = folder / "ledger.toml"
  shutil.copy(launch.ROOT / "docs" / "ledger.toml", ledger)
  process = subprocess.Popen(
      [sys.executable, "-m", "accounting.budget", "serve"]
      + ["--ledger", str(ledger)],
      cwd=launch.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )
  try:
    first = process.stdout.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{43}/", first)
    assert address, (first, process.communicate())
    yield address[0], process
  finally:
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
  with _serving(tmp_path_factory.mktemp("served")) as server:
    yield server


@pytest.fixture(scope="module")
def browser():
  with browser_lib.started() as chromium:
    yield chromium


class _Tab:
  """A page that was opened, and all that it complained of or asked for."""

  def __init__(self, browser, address, **options):
    self.context = browser.new_context(**options)
    self.page = self.context.new_page()
    self.complaints, self.requests = [], []
    self.page.on("console", lambda said: self.complaints.append(said.text))
    self.page.on("pageerror", lambda raised: self.complaints.append(raised))
    self.page.on("request", lambda sent: self.requests.append(sent.url))
    self.page.goto(address)
    self.settle()

  def settle(self):
    # Long enough for a change to be noticed, then until it is answered.
    self.page.wait_for_timeout(300)
    self.until(_SETTLED)

  def until(self, condition):
    end = time.monotonic() + _SECONDS
    while not self.page.evaluate(condition):
      assert time.monotonic() < end, self.page.inner_text("body")
      self.page.wait_for_timeout(50)

  def text(self, selector):
    return self.page.inner_text(selector)

  def type(self, name, value):
    self.page.fill(f"#{name}", value)
    self.settle()


@pytest.fixture
def open_tab(browser, server):
  tabs = []

  def make(**options):
    tabs.append(_Tab(browser, server[0], **options))
    return tabs[-1]

  yield make
  for tab in tabs:
    assert not tab.complaints
    origin = server[0].rsplit("/", 2)[0]
    assert all(url.startswith((origin, "data:")) for url in tab.requests)
    tab.context.close()


def _command(*argv):
  done = launch.process("accounting.budget", *argv)
  assert done.returncode == 0, done.stderr
  return done.stdout.strip()


def test_loads_moves_and_follows(open_tab):
  tab = open_tab()
  assert tab.text("#epsilon") == "3.883"
  plots = "document.querySelectorAll('.plot .main-svg').length >= 2"
  tab.until(plots)
  before = tab.text("#attack")
  # Keys move a slider, its field and the numbers.
  slider = tab.page.get_by_label("Noise multiplier, as a slider")
  slider.focus()
  for _ in range(40):
    slider.press("ArrowRight")
  tab.settle()
  noise = tab.page.input_value("#noise_multiplier")
  assert float(noise) > 3 and tab.text("#attack") != before
  wanted = _command(
      *("epsilon", "--noise-multiplier", noise, "--num-examples", "50000"),
      *("--batch-size", "4096", "--num-steps", "1000", "--delta", "1e-5"),
  )
  assert tab.text("#sentence") == wanted
  assert tab.text("#epsilon") == wanted.split()[1]
  copied = tab.text("#command").splitlines()[0].split()
  assert copied[:2] == ["dp-budget", "epsilon"] and noise in copied
  # Epochs, and the note that says how many steps they are.
  tab.page.get_by_label("epochs", exact=True).check()
  tab.type("epochs", "40")
  assert "40 epochs are taken as 489 steps" in tab.text("#notes")
  # A target: the number that is found is put into its field.
  tab.page.select_option("#sought", "steps")
  tab.page.fill("#target", "2")
  tab.page.press("#target", "Enter")
  tab.until("/^steps/.test(document.querySelector('#found').textContent)")
  tab.settle()
  assert tab.page.is_visible("#num_steps")
  assert tab.page.input_value("#num_steps") in tab.text("#found")
  assert 1.9 < float(tab.text("#epsilon")) <= 2
  # A warning of any part is said with the numbers.
  tab.page.click("summary:has-text('Sampling')")
  tab.page.select_option("#batches", "shuffled")
  tab.settle()
  assert "that is not proven. Without counting" in tab.text("#warnings")
  assert tab.text("#warnings").count("that is not proven") == 1
  # What one part alone reads is complained of at its field too.
  tab.type("unit", "x" * 61)
  assert "unit must be a word or two" in tab.text("#unit-error")
  assert tab.text("#explained") == "" and tab.text("#epsilon") != "–"
  tab.type("unit", "patient")
  assert "one patient" in tab.text("#explained")
  # People with several examples.
  tab.type("examples_per_user", "2")
  assert "people with 2 examples: " in tab.text("#users")
  # The statement, once it is asked for.
  tab.page.click("#statement-details summary")
  tab.settle()
  assert "differentially private" in tab.text("#statement")


def test_what_is_wrong_is_said_at_its_field_and_shows_no_number(open_tab):
  tab = open_tab()
  tab.type("noise_multiplier", "-1")
  error = tab.text("#noise_multiplier-error")
  assert error == (
      "noise_multiplier must be a finite number above 0, got -1.0."
  )
  assert tab.page.get_attribute("#noise_multiplier", "aria-invalid") == "true"
  assert tab.text("#epsilon") == "–"
  for place in ("#attack", "#explained", "#command", "#curve-table"):
    assert tab.page.text_content(place) == ""
  tab.type("noise_multiplier", "3")
  assert tab.text("#epsilon") == "3.883"
  assert not tab.page.text_content("#noise_multiplier-error")
  assert tab.page.get_attribute("#noise_multiplier", "aria-invalid") is None


def test_releases_and_the_ledger_follow_and_names_are_no_markup(open_tab):
  tab = open_tab()
  tab.page.select_option("#kind", "laplace")
  tab.page.fill("#name", "<img src=x onerror=alert(1)><b>ages</b>")
  tab.page.fill("#kind-scale", "nothing")
  tab.page.click("#add button")
  tab.until("document.querySelector('#add-error').textContent !== ''")
  assert "scale must be a finite number above 0" in tab.text("#add-error")
  tab.page.fill("#kind-scale", "10")
  tab.page.fill("#count", "3")
  tab.page.press("#count", "Enter")
  tab.until("document.querySelectorAll('#entries li').length === 1")
  tab.settle()
  assert "<img src=x onerror=alert(1)><b>ages</b>" in tab.text("#entries")
  assert tab.page.query_selector("#entries img, #entries b") is None
  assert "together: epsilon 3.959 at delta 1e-05" in tab.text("#composed")
  # Each number says what it is of.
  assert "of the run alone" in tab.text("#claim")
  meaning = tab.text("[data-part=explain]")
  assert "of the run and the other releases" in meaning
  assert "epsilon 3.959" in meaning
  assert "spent epsilon 3.097 of 4" in tab.text("#ledger-state")
  assert "must be within the ledger's budget" in tab.text("#ledger-planned")
  # A reload keeps all of it; another tab has its own.
  tab.page.reload()
  tab.settle()
  assert "3.959" in tab.text("#composed")
  other = open_tab()
  assert other.page.query_selector("#entries li") is None
  other.type("noise_multiplier", "20")
  assert "it fits: epsilon" in other.text("#ledger-planned")
  assert tab.text("#epsilon") == "3.883"
  # Under another relation its sensitivity would mean something else.
  tab.page.click("summary:has-text('Sampling')")
  tab.page.select_option("#neighboring", "replace_one")
  tab.settle()
  composed = tab.page.query_selector("[data-part=compose] > .error")
  assert "neighboring_relation must be the same" in composed.inner_text()
  tab.page.click("#entries button")
  tab.settle()
  assert composed.inner_text() == ""


def test_only_the_last_of_many_moves_is_shown(open_tab):
  tab = open_tab()
  for noise in range(2, 30):
    tab.page.fill("#noise_multiplier", str(noise))
  tab.settle()
  last = tab.text("#sentence")
  command = tab.text("#command").splitlines()[0].split()[1:]
  assert command[2] == "29" and _command(*command) == last


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_fits_every_width_in_both_schemes(open_tab, scheme, width, tmp_path):
  tab = open_tab(viewport={"width": width, "height": 800}, color_scheme=scheme)
  assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
  red, *_ = map(
      int,
      re.findall(
          r"\d+",
          tab.page.evaluate("getComputedStyle(document.body).backgroundColor"),
      ),
  )
  assert (red < 60) == (scheme == "dark")
  # The result is in sight while the last slider is moved.
  tab.page.get_by_label("Examples per person, as a slider").focus()
  assert tab.page.evaluate(
      "(() => { const box = document.querySelector('#epsilon')"
      ".getBoundingClientRect();"
      " return box.top >= 0 && box.bottom <= innerHeight; })()"
  )
  picture = tmp_path / "page.png"
  tab.page.screenshot(path=picture, full_page=True)
  assert picture.stat().st_size > 10_000


def test_every_field_has_a_label_and_is_reached_by_keys(open_tab):
  tab = open_tab()
  tab.page.evaluate(
      "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
  )
  unlabelled = tab.page.evaluate(
      "[...document.querySelectorAll('input, select')].filter((each) =>"
      " !each.labels.length && !each.ariaLabel).map((each) => each.outerHTML)"
  )
  assert not unlabelled
  tab.settle()
  reached, wanted = [], 12
  tab.page.focus("#noise_multiplier")
  for _ in range(wanted):
    reached.append(
        tab.page.evaluate(
            "document.activeElement.id" " || document.activeElement.ariaLabel"
        )
    )
    tab.page.keyboard.press("Tab")
  assert reached[:4] == [
      "noise_multiplier", "Noise multiplier, as a slider",
      "batch_size", "Expected batch size, as a slider",
  ]  # fmt: skip
  assert len(set(reached)) == wanted


def test_ctrl_c_ends_it_with_one_line_and_nothing_was_written(tmp_path):
  with _serving(tmp_path) as (_, process):
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=_SECONDS)
    assert process.returncode == 0 and err == ""
    # The lines at the beginning may have been read with the first.
    assert out.splitlines()[-1] == "the page is closed"
  assert sorted(path.name for path in pathlib.Path(tmp_path).iterdir()) == [
      "ledger.toml"
  ]
