"""A page about runs: what is on it, what is not, and that texts are inert."""

import doctest
import html.parser
import importlib
import json
import os
import pathlib
import shutil

import pytest

from experiments.reports import gather, output
from experiments.reports import page as page_lib
from tests.support import launch, records, run_folders

_ATTACK = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'</title>"
_VOID = ("meta", "link", "img", "br")


class _Parser(html.parser.HTMLParser):
  """Elements of a page, the texts of each, and what is not closed."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts, self.open = [], [], []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in _VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if "script" not in self.open and "style" not in self.open:
      self.texts.append(data)

  @property
  def text(self):
    return "\n".join(self.texts)


@pytest.fixture(autouse=True)
def _no_plotly(monkeypatch):
  """It is 5 MB of each page, and drawn by no test but the browser's."""
  monkeypatch.setattr(page_lib.assets, "plotly", lambda: "var none = 0;")


def _page(*folders, **options):
  made = gather.page(list(folders), **options)
  return made, page_lib.html(made, title=gather.title(made))


def test_the_examples_of_the_modules_run():
  folder = pathlib.Path(page_lib.__file__).parent
  for path in folder.glob("*.py"):
    module = importlib.import_module(f"experiments.reports.{path.stem}")
    flags = doctest.NORMALIZE_WHITESPACE
    assert not doctest.testmod(module, optionflags=flags).failed


def test_it_shows_what_was_trained_reached_and_promised(tmp_path):
  rows = {"zero": 0.75, "one": 0.5, "two": 1.0}
  counts = [[7, 1, 1], [0, 9, 0], [2, 0, 7]]
  folder = run_folders.write(
      tmp_path / "run",
      evaluation_json=run_folders.evaluation(rows, confusion=counts),
  )
  made, text = _page(folder)
  shown = _Parser(text).text
  epsilon = records.summary()["epsilon"]
  assert made.privacy[0].epsilon == epsilon
  assert f"({page_lib.claims.at_most(epsilon)}, 0.0001)-differentially" in shown
  for wanted in ("digits", "one example", "0.91", "last", "Accounting", "zero"):
    assert wanted in shown, wanted
  # Each plot has its numbers in a table: loss, clipped fraction and norms too.
  for value in (0.25, run_folders.LOSS + 1, run_folders.CLIPPED):
    assert f"{value:.5g}" in shown
  assert shown.count("private, not for release") >= 3
  assert "NOT FOR RELEASE" in shown
  drawn = json.loads(text.partition('id="plots">')[2].partition("</script")[0])
  assert len(drawn) == 6  # Epsilon, loss, clipped, norms, speed, classes.
  assert drawn["log-0"]["lines"][0]["y"] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("public", [None, True])
def test_nothing_private_is_on_a_public_page(tmp_path, public):
  # A secret seed makes a page public; a fixed one, by the flag alone.
  seed = None if public is None else 0
  private = {"private_not_for_release": run_folders.evaluation({"a": 0.123454})}
  folder = run_folders.write(
      tmp_path / "run",
      summary={"seed": seed},
      own={"seed": seed},
      evaluation_json={"step": 50, "split": "train", **private},
  )
  made, text = _page(folder, public=public)
  assert made.is_public
  for secret in (run_folders.LOSS, run_folders.CLIPPED, run_folders.NORM):
    for number in range(5):
      assert f"{secret + number:.4g}"[:5] not in text
  assert "0.1234" not in text and "quantile" not in text
  assert "is left out: it is of training examples" in text
  # An error's text may quote what it met.
  secret = '{"step": 1, "train_seconds": 1}\n["0.73512"]\n{"step": 2}\n'
  (folder / "metrics.jsonl").write_text(secret)
  (folder / "evaluation.json").write_text("[0.73512]")
  assert "0.7351" not in _page(folder, public=public)[1]


def test_a_secret_seed_is_not_overruled_by_another_run(tmp_path):
  folders = [
      run_folders.write(
          tmp_path / name, summary={"seed": seed}, own={"seed": seed}
      )
      for name, seed in (("a", 0), ("b", None))
  ]
  assert not gather.page(folders[:1]).is_public
  assert gather.page(folders).is_public
  assert not gather.page(folders, public=False).is_public
  # That it is not known is no reason to think it was fixed.
  (folders[0] / "config.json").unlink()
  (folders[0] / "summary.json").write_text("{}")
  assert gather.page(folders[:1]).is_public


def test_texts_of_a_run_are_no_markup(tmp_path):
  headline = {"metric": _ATTACK, "value": 0.5, "values": {_ATTACK: 0.5}}
  manifest = {"texts": [_ATTACK], "prompt": _ATTACK, "sampler": {_ATTACK: 1}}
  evaluation = run_folders.evaluation(
      {_ATTACK + str(i): 0.5 for i in range(3)},
      notes=[_ATTACK],
      worst=_ATTACK,
      largest_gap=_ATTACK,
  )
  evaluation |= {"split": _ATTACK, "step": _ATTACK}
  folder = run_folders.write(
      tmp_path / "<img src=y onerror=alert(3)>",
      summary={"name": _ATTACK, "headline": headline, "task": _ATTACK},
      own={"name": _ATTACK, "data.source": _ATTACK, "eval.params": _ATTACK},
      evaluation_json=evaluation,
  )
  run_folders.write(folder / "samples", summary=False, manifest_json=manifest)
  other = run_folders.write(tmp_path / "other", own={"name": "\ud800"})
  _, text = _page(folder, other, public=False)
  text.encode("utf-8")
  parser = _Parser(text)
  tags = [tag for tag, _ in parser.elements]
  assert tags.count("script") == 3 and tags.count("img") == 0
  names = {name for _, attributes in parser.elements for name in attributes}
  assert not [name for name in names if name.startswith("on")]
  assert parser.text.count("<script>alert(1)</script>") > 10
  # What is drawn is JSON that holds no tag at all.
  data = text.partition('id="plots">')[2].partition("</script")[0]
  assert "<" not in data and "alert(1)" in data


def test_the_page_asks_for_nothing_and_runs_its_own_scripts_alone(tmp_path):
  _, text = _page(run_folders.write(tmp_path / "run"))
  parser = _Parser(text)
  (policy,) = [
      a["content"]
      for _, a in parser.elements
      if a.get("http-equiv") == "Content-Security-Policy"
  ]
  assert policy.startswith("default-src 'none'; script-src 'sha256-")
  scripts = policy.partition("script-src ")[2].partition(";")[0]
  assert "unsafe" not in scripts and "http" not in policy
  for tag, attributes in parser.elements:
    assert tag != "script" or "src" not in attributes
    href = attributes.get("href", "data:")
    assert href.startswith(("data:", "#"))


def test_every_part_can_be_found_without_seeing_it(tmp_path):
  folders = [run_folders.write(tmp_path / name) for name in "ab"]
  parser = _Parser(_page(*folders)[1])
  ids = [a["id"] for _, a in parser.elements if "id" in a]
  assert len(ids) == len(set(ids))
  tags = [tag for tag, _ in parser.elements]
  assert tags.count("main") == tags.count("h1") == 1
  assert tags.count("table") == tags.count("caption")
  for tag, attributes in parser.elements:
    if tag == "section":
      assert attributes["aria-labelledby"] in ids
    if attributes.get("role") == "img":
      assert " against steps: " in attributes["aria-label"]
    if tag == "th":
      assert attributes["scope"] in ("row", "col")


def test_a_claim_that_is_not_verified_is_not_made(tmp_path):
  folder = run_folders.write(tmp_path / "run", summary={"epsilon": 1.234567})
  made, text = _page(folder)
  assert made.privacy[0].epsilon is None
  assert "No guarantee is claimed: " in text and "not claimed" in text
  statement = text.partition("No guarantee")[0]
  assert "1.235" not in statement


@pytest.mark.parametrize("name", ["epsilon", "seed", "versions", "mesh"])
@pytest.mark.parametrize("value", [[], {"a": [1]}, "x", 10**400, True, None])
def test_a_damaged_summary_is_survived(tmp_path, name, value):
  folder = run_folders.write(tmp_path / "run", summary={name: value})
  _Parser(_page(folder, public=True)[1])


def test_a_run_that_goes_on_shows_what_is_spent(tmp_path):
  folder = run_folders.write(tmp_path / "run", summary=False)
  with (folder / "metrics.jsonl").open("a") as file:
    file.write('{"step": 60, "train_')
  made, text = _page(folder)
  assert "1.000 so far" in text and "By step 50 its log says" in text
  assert made.runs[0].notes == ()
  run_folders.write(tmp_path / "run", summary=False, lines=[])
  assert "has logged no step" in _page(folder)[1]


def test_a_run_without_privacy_says_so(tmp_path):
  folder = run_folders.write(
      tmp_path / "run",
      summary={"private": False, "epsilon": None, "delta": None},
      own={"dp.enabled": False},
  )
  made, text = _page(folder)
  assert "NOT PRIVATE" in text and made.privacy[0].epsilon is None


def test_what_cannot_be_read_is_named_and_all_else_is_shown(tmp_path):
  good = run_folders.write(tmp_path / "good")
  damaged = run_folders.write(
      tmp_path / "damaged",
      lines='{"step": 1}\n{"step": 2, "train_seconds": 1.0}\n',
      evaluation_json="{",
      audit_json="[]",
  )
  (damaged / "samples").mkdir()
  (damaged / "samples" / "manifest.json").write_text('{"step": 50}')
  (damaged / "samples" / "grid.png").write_text("<svg onload=alert(1)>")
  other = tmp_path / "photos"
  other.mkdir()
  made, text = _page(good, damaged, other, tmp_path / "nowhere")
  assert [run.name for run in made.runs] == ["good", "damaged"]
  notes = list(gather.notes(made))
  for wanted in ("photos", "nowhere", "metrics.jsonl", "grid.png"):
    assert sum(wanted in note for note in notes) == 1, wanted
  assert len(notes) == 6 and all("\n" not in note for note in notes)
  for note in notes:
    assert note.partition(": ")[2][:40].split("'")[0] in _Parser(text).text


def test_runs_of_several_tasks_share_no_axis_of_losses(tmp_path):
  one = run_folders.write(tmp_path / "one")
  two = run_folders.write(
      tmp_path / "two",
      summary={"task": "language"},
      own={"train.learning_rate": 0.125},
  )
  made, text = _page(one, two)
  shown = _Parser(text).text
  assert "Loss, classification against steps" in shown
  assert "Loss, language against steps" in shown
  assert "train.learning_rate" in shown and "0.125" in shown
  # The same folder twice is one run; two of one name keep apart.
  assert len(_page(one, one)[0].runs) == 1
  again = run_folders.write(tmp_path / "x" / "one")
  names = [run.name for run in _page(one, again)[0].runs]
  assert len(set(names)) == 2


def test_an_audit_goes_with_its_run(tmp_path):
  records.write_run_and_audit(tmp_path)
  run, audit = tmp_path / "run", tmp_path / "audit"
  made, text = _page(run, audits=[audit])
  assert "measured: at least, by one_run" in text
  # A folder that is an audit is shown as one, and claims nothing.
  made, text = _page(audit)
  assert "does not contradict the claim" in text
  assert made.privacy[0].epsilon is None
  # One of another run is left out with a line; one that refutes ends the claim.
  _, text = _page(run_folders.write(tmp_path / "other"), audits=[audit])
  assert "audit in audit is left out" in text
  bounds = json.loads((audit / "audit.json").read_text())
  for key in ("bounds", "bounds_jointly"):
    bounds[key]["one_run"] = 99.0
  bounds["contradicts_claim"] = True
  (audit / "audit.json").write_text(json.dumps(bounds))
  made, text = _page(run, audits=[audit])
  assert made.privacy[0].epsilon is None
  assert "the audit contradicts the claim" in text
  assert "CONTRADICTS" in _page(audit)[1]


def test_what_a_ledger_says_is_shown(tmp_path):
  ledger = tmp_path / "ledger.toml"
  shutil.copy(launch.ROOT / "docs" / "ledger.toml", ledger)
  run = run_folders.write(tmp_path / "run")
  _, text = _page(run, ledger=ledger)
  assert "not booked in ledger.toml" in text and "spent of" in text


@pytest.fixture
def command(tmp_path):
  folder = run_folders.write(tmp_path / "run")
  return lambda *flags: launch.command(
      "experiments.report", f"--workdir={folder}", *flags
  )


def test_the_command(tmp_path, command):
  other = run_folders.write(tmp_path / "other")
  out = tmp_path / "page.html"
  done = command(str(other), str(tmp_path / "none"), f"--out={out}")
  assert done.returncode == 0, done.stderr
  assert done.stdout == f"wrote {out}, with private numbers: 2 runs\n"
  assert done.stderr.count("\n") == 1 and "none is left out" in done.stderr
  assert out.stat().st_mode & 0o777 == 0o600
  text = out.read_text()
  assert "plotly.js v" in text and "The 2 runs" in text
  done = command("--out=run/summary.json")
  assert done.returncode == 2
  assert done.stderr == (
      "error: out must be a file's name ending in .html, got"
      " run/summary.json.\n"
  )


def test_a_full_disk_leaves_the_older_page(tmp_path, monkeypatch):
  path = tmp_path / "page.html"
  output.write(path, "older")

  def full(*unused):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "replace", full)
  with pytest.raises(OSError, match="No space left"):
    output.write(path, "newer")
  assert path.read_text() == "older"
  assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
  for name in ("page", "a.json", str(tmp_path), "no/page.html"):
    with pytest.raises(ValueError, match="^out must be "):
      output.check(name)
