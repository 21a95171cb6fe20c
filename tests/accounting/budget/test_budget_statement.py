"""`dp-budget statement`: what it says, and that it escapes what it is told."""

import html.parser

import pytest

from accounting import budget
from tests.support import commands

_RUN = commands.RUN
_DELTA = commands.DELTA


class _Checker(html.parser.HTMLParser):
  """Collects the tags and the addresses of a page."""

  def __init__(self):
    super().__init__()
    self.tags, self.addresses = [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.addresses += [v for k, v in attrs if k in ("src", "href")]


def test_statement_names_what_the_reporting_lists_ask_for(capsys):
  assert budget.main(["statement", *_RUN, *_DELTA, "--unit=image"]) == 0
  text = " ".join(capsys.readouterr().out.split())
  for wanted in (
      "(3.883, 1e-05)-differentially private",
      "Central model",
      "one image",
      "add or remove one",
      "All iterates",
      "tuning",
      "preprocessing",
      "early stopping",
      "privacy loss distributions (PLD)",
      "independently, with probability 0.08192",
      "17.074",  # Were batches shuffled.
      "replace_one 8.324",
      "below 1 / 50000 = 2e-05",
      "0.9087-Gaussian",
      "Floating-point",
      "expected epochs",
      "grid",
      "dp-accounting",
  ):
    assert wanted in text, wanted


def test_statement_says_when_its_assumption_is_not_met(capsys):
  arguments = [
      "statement",
      *_RUN,
      *_DELTA,
      "--batches=shuffled",
  ]
  assert budget.main(arguments) == 0
  text = " ".join(capsys.readouterr().out.split())
  assert "the assumption is NOT met" in text
  assert "Warnings" in text


def test_statement_as_html_is_one_file_with_its_plot(tmp_path, capsys):
  path = tmp_path / "statement.html"
  arguments = ["statement", *_RUN, *_DELTA, "--format=html"]
  assert budget.main([*arguments, f"--output={path}"]) == 0
  page = _Checker()
  page.feed(path.read_text())
  assert "svg" in page.tags and "script" not in page.tags
  assert not [a for a in page.addresses if a.startswith(("http", "/"))]


@pytest.mark.few(2)
@pytest.mark.parametrize("how", ["html", "markdown", "text"])
def test_statement_escapes_what_it_is_given(how, capsys):
  evil = "<script>alert(1)</script>|x"
  arguments = ["statement", *_RUN, *_DELTA, f"--format={how}"]
  assert budget.main([*arguments, f"--unit={evil}"]) == 0
  out = capsys.readouterr().out
  if how == "html":
    assert "<script" not in out
  if how == "markdown":
    assert "<script" not in out.replace("\\<", "")


@pytest.mark.parametrize(
    "unit", ["example", "user", "medical record", "device"]
)
@pytest.mark.parametrize("relation", ["add_or_remove", "replace"])
def test_every_unit_reads_as_a_sentence(unit, relation, capsys):
  arguments = ["statement", *_RUN, *_DELTA, f"--unit={unit}"]
  assert budget.main([*arguments, f"--neighboring={relation}"]) == 0
  text = " ".join(capsys.readouterr().out.split())
  assert f"The unit of privacy is one {unit}" in text
  assert f"every {unit} enters every batch independently" in text
  assert "one person's" not in text
  assert ("which of two candidates for one" in text) == (relation == "replace")
  assert ("taken to be one training example" in text) == (unit != "example")


@pytest.mark.parametrize("unit", ["", " ", "a\nb", "x" * 61])
def test_what_is_no_unit_is_refused(unit, capsys):
  message = commands.refused(
      capsys, "statement", *_RUN, *_DELTA, f"--unit={unit}"
  )
  assert "unit must be a word or two" in message
