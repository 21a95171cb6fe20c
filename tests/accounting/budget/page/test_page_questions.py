"""The page's numbers are the command's, to the digit; its errors too."""

import json
import pathlib
import shlex

import pytest

from accounting import budget
from accounting.budget.page import entries as entries_lib
from accounting.budget.page import forms, questions
from tests.support import commands

_ROOT = pathlib.Path(__file__).parents[4]
_RUN = {
    "noise_multiplier": "3",
    "num_examples": "50000",
    "batch_size": "4096",
    "num_steps": "50",
    "delta": "1e-5",
}
_LAPLACE = {
    "kind": "laplace",
    "name": "ages",
    "scale": "10",
    "sensitivity": "1",
    "count": "3",
    "unit": "",
    "neighboring_relation": "add_or_remove_one",
}


def _ask(part, form=_RUN, ledger=None, **more):
  reply = questions.answer({"part": part, "form": form} | more, ledger=ledger)
  json.dumps(reply, allow_nan=False)  # What a browser can read.
  return reply


def _printed(capsys, command):
  """What the command line prints that the page shows to copy."""
  program, *argv = shlex.split(command)
  assert program == "dp-budget"
  assert budget.main(argv) == 0
  return capsys.readouterr()


# One that each changes the number, and all that can be said of a run.
_FORMS = (
    {},
    {"noise_multiplier": "0.7", "num_steps": "1e2", "accountant": "rdp"},
    {"num_steps": "", "epochs": "3", "delta": "1e-7"},
    {"neighboring": "replace_one", "batches": "shuffled"},
    {"sampling": "truncated_poisson", "max_batch_size": "4400"},
    {"sampling": "deterministic"},
    {"sampling": "shuffle", "neighboring": "replace_special"},
)


@pytest.mark.few(4)
@pytest.mark.parametrize("changes", _FORMS)
def test_epsilon_is_that_of_the_command(changes, capsys):
  reply = _ask("epsilon", _RUN | changes)
  printed = _printed(capsys, reply["command"])
  assert printed.out.splitlines() == [*reply["notes"], reply["text"]]
  warned = [f"warning: {text}" for text in reply["warnings"]]
  assert printed.err.splitlines() == warned
  assert reply["text"].startswith(f"epsilon {reply['epsilon']} at delta")


@pytest.mark.few(2)
@pytest.mark.parametrize("part", ["users", "curve", "profile", "statement"])
def test_what_follows_is_that_of_the_command(part, capsys):
  form = _RUN | {"examples_per_user": "2", "unit": "patient"}
  reply = _ask(part, form)
  printed = _printed(capsys, reply["command"])
  assert printed.out.rstrip("\n") == reply["text"].rstrip("\n")
  # Every number shown in a table is one of the text.
  assert all(cell in reply["text"] for row in reply["rows"] for cell in row)
  assert reply["rows"] or part in ("users", "statement")


def test_the_paragraphs_are_those_of_the_command(capsys):
  reply = _ask("explain", _RUN | {"unit": "patient", "examples_per_user": "2"})
  printed = _printed(capsys, reply["command"]).out
  assert "one patient" in printed and "with 2, epsilon" in printed
  assert " ".join(reply["paragraphs"]) == " ".join(printed.split())


def test_points_are_the_data_of_the_command(capsys):
  curve = _ask("curve")
  found = commands.answer(capsys, *shlex.split(curve["command"])[1:])
  assert (curve["x"], curve["y"]) == (found["steps"], found["epsilon"])
  profile = _ask("profile")
  found = commands.answer(capsys, *shlex.split(profile["command"])[1:])
  points = [list(each.values()) for each in found["profile"]]
  # The texts of the hovering numbers are upper bounds too.
  for (_, delta), text in zip(points, profile["points"], strict=True):
    bound = float(text[1].removeprefix("below "))
    assert delta <= bound <= max(1.01 * delta, 1e-10)
  assert [[*p] for p in zip(profile["x"], profile["y"], strict=True)] == points


@pytest.mark.few(2)
@pytest.mark.parametrize("what", ["noise", "steps", "batch-size"])
def test_a_number_is_found_for_a_target(what, capsys):
  reply = _ask("find", find={"what": what, "epsilon": "1"})
  assert _printed(capsys, reply["command"]).out == reply["text"] + "\n"
  found = _ask("epsilon", _RUN | {reply["name"]: reply["value"]})
  assert float(found["epsilon"]) <= 1


def test_releases_together_are_those_of_the_command(
    capsys, tmp_path, monkeypatch
):
  run = {"kind": "run", "name": "an earlier run", "count": "2", "unit": ""}
  run["run"] = _RUN | {"noise_multiplier": "5"}
  reply = _ask("compose", entries=[_LAPLACE, run])
  monkeypatch.chdir(tmp_path)
  pathlib.Path("releases.toml").write_text(reply["toml"], encoding="utf-8")
  printed = _printed(capsys, reply["command"]).out
  assert printed == reply["text"] + "\n"
  assert [row[1] for row in reply["rows"]] == ["1", "3", "2"]
  assert reply["lines"] == printed.splitlines()[4:]
  alone = _ask("epsilon")["epsilon"]
  assert float(reply["epsilon"]) > float(alone) == float(reply["rows"][0][2])


@pytest.mark.few(2)
@pytest.mark.parametrize("part", ["profile", "statement", "explain"])
def test_what_follows_is_of_all_releases(part, capsys, tmp_path, monkeypatch):
  form = _RUN | {"examples_per_user": "2", "batches": "poisson"}
  reply = _ask(part, form, entries=[_LAPLACE])
  assert reply["text"] != _ask(part, form)["text"]
  monkeypatch.chdir(tmp_path)
  written = _ask("compose", form, entries=[_LAPLACE])["toml"]
  pathlib.Path("releases.toml").write_text(written, encoding="utf-8")
  printed = _printed(capsys, reply["command"])
  assert printed.out.rstrip("\n") == reply["text"].rstrip("\n")


def test_a_ledger_is_read_and_planned_against(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  written = (_ROOT / "docs" / "ledger.toml").read_bytes()
  pathlib.Path("led ger.toml").write_bytes(written)
  begin = _ask("begin", {}, "led ger.toml")
  assert begin["start"]["unit"] == "patient"
  form = _RUN | {"unit": "patient"}
  entry = _LAPLACE | {"unit": "patient"}
  reply = _ask("ledger", form, "led ger.toml", entries=[entry])
  pathlib.Path("releases.toml").write_text(reply["toml"], encoding="utf-8")
  printed = _printed(capsys, reply["command"]).out
  assert printed.splitlines() == [reply["state"], *reply["planned"]]
  assert 0 < reply["share"] < reply["share_after"] <= 1
  # What does not fit is refused in the command's words.
  reply = _ask("ledger", form | {"noise_multiplier": "1"}, "led ger.toml")
  pathlib.Path("releases.toml").write_text(reply["toml"], encoding="utf-8")
  argv = shlex.split(reply["command"])[1:]
  refused = commands.refused(capsys, *argv).removeprefix("dp-budget: ")
  assert refused == reply["refused"] + "\n"
  # Nothing was written.
  assert pathlib.Path("led ger.toml").read_bytes() == written
  assert sorted(path.name for path in tmp_path.iterdir()) == [
      "led ger.toml", "releases.toml",
  ]  # fmt: skip


def test_a_ledger_is_read_again_once_it_is_written(tmp_path):
  path = tmp_path / "ledger.toml"
  lines = (_ROOT / "docs" / "ledger.toml").read_text(encoding="utf-8")
  path.write_text(lines, encoding="utf-8")
  form = _RUN | {"unit": "patient"}
  assert "refused" not in _ask("ledger", form, str(path))
  path.write_text(lines.replace("epsilon = 4", "epsilon = 9"), encoding="utf-8")
  assert "must be as it was sealed" in _ask("ledger", form, str(path))["error"]


_WRONG = [
    ({"noise_multiplier": "nan"}, "noise_multiplier"),
    ({"noise_multiplier": "-3"}, "noise_multiplier"),
    ({"noise_multiplier": "three"}, "noise_multiplier"),
    ({"noise_multiplier": ""}, "noise_multiplier"),
    ({"noise_multiplier": "--help"}, "noise_multiplier"),
    ({"noise_multiplier": "3 --json"}, "noise_multiplier"),
    ({"num_examples": "1.5"}, "num_examples"),
    ({"batch_size": "60000"}, "batch_size"),
    ({"batch_size": "1e400"}, "batch_size"),
    ({"num_steps": "0"}, "num_steps"),
    ({"num_steps": "1e99"}, "num_steps"),
    ({"num_steps": "", "epochs": "-1"}, "epochs"),
    ({"delta": "1"}, "delta"),
    ({"delta": ""}, "delta"),
    ({"sampling": "shuffles"}, "sampling"),
    ({"sampling": "truncated_poisson"}, "max_batch_size"),
    ({"sampling": "shuffle"}, "accountant"),
    ({"neighboring": "none"}, "neighboring"),
    ({"accountant": "prv"}, "accountant"),
    ({"batches": "some"}, "batches"),
]


@pytest.mark.parametrize(("changes", "field"), _WRONG)
def test_an_error_is_the_command_s_and_has_its_field(changes, field, capsys):
  form = _RUN | changes
  reply = _ask("epsilon", form)
  refused = commands.refused(capsys, *forms.argv("epsilon", form))
  assert refused == f"dp-budget: {reply['error']}\n"
  assert reply["field"] == field


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("x", "must be a whole number"),
        ("0", "examples_per_user must be an integer of at least 1"),
        ("1e17", "must be a whole number of at most 2"),
    ],
)
def test_an_error_of_users_has_its_field(value, match):
  reply = _ask("users", _RUN | {"examples_per_user": value})
  assert match in reply["error"]
  assert reply["field"] == "examples_per_user"


@pytest.mark.parametrize(
    ("question", "match"),
    [
        ({"part": "report"}, "part must be one of"),
        ({"part": ["epsilon"]}, "part must be one of"),
        ({"part": "epsilon", "form": []}, "form must be a mapping"),
        ({"part": "epsilon", "form": {"output": "x"}}, "form must be of noise"),
        ({"part": "epsilon", "form": {"delta": 1}}, "delta must be a text"),
        (
            {"part": "epsilon", "form": {"delta": "1" * 101}},
            "must be a text of",
        ),
        ({"part": "epsilon", "path": "/"}, "question must be of part, form"),
        ({"part": "compose", "entries": {}}, "releases must be a list"),
        ({"part": "compose", "entries": [3]}, "releases must be a list"),
        ({"part": "compose", "entries": [{}] * 101}, "releases must be a list"),
        ({"part": "compose", "entries": [{"kind": 3}]}, "kind must be a text"),
        ({"part": "compose", "entries": [{}]}, "kind must be one of laplace"),
        ({"part": "find", "find": None}, "releases must be a list"),
        ({"part": "find", "find": {"what": "delta"}}, "find must be one of"),
        ({"part": "ledger"}, "ledger must be given"),
    ],
)
def test_no_question_is_trusted(question, match):
  reply = questions.answer({"form": _RUN} | question, ledger=None)
  assert match in reply["error"]


@pytest.mark.parametrize(
    ("changes", "match", "field"),
    [
        ({"scale": "-1"}, "scale must be a finite number above 0", "scale"),
        ({"scale": "nan"}, "scale must be", "scale"),
        ({"scale": "ten"}, "scale must be a finite", "scale"),
        ({"scale": ""}, "scale must be given for laplace", "scale"),
        ({"count": "0"}, "count must be an integer of at least 1", "count"),
        ({"count": "1.5"}, "count must be an integer of at least 1", "count"),
        ({"name": "a\nkind = 3"}, "name must be a name", "name"),
        ({"sigma": "1"}, "laplace must be a mapping of", None),
        # A folder of this machine, which the page has no business with.
        ({"kind": "run", "run": "/etc"}, "form must be a mapping", None),
        ({"kind": "run"}, "form must be a mapping", None),
        ({"kind": "dp_sgd"}, "kind must be one of laplace", None),
        # What its sensitivity means was said for another unit, or relation.
        (
            {"unit": "patient"},
            "unit must be 'patient', as when it was add",
            None,
        ),
        (
            {"neighboring_relation": "near"},
            "neighboring_relation must be",
            None,
        ),
    ],
)
def test_a_release_is_checked_when_it_is_added(changes, match, field):
  reply = _ask("entry", entries=[_LAPLACE | changes])
  assert match in reply["error"]
  assert reply["field"] == field


def test_another_relation_never_reads_a_release_anew():
  form = _RUN | {"neighboring": "replace_one"}
  reply = _ask("compose", form, entries=[_LAPLACE])
  assert "neighboring_relation must be the same for all" in reply["error"]


def test_every_kind_can_be_added():
  values = {"what": "bins", "num_answers": "3", "sensitivity": "1"}
  for kind in entries_lib.kinds():
    entry = {"kind": kind["kind"], "name": "<b>x</b>", "unit": ""}
    entry["neighboring_relation"] = kind["relation"]
    for field in kind["fields"]:
      entry[field["name"]] = values.get(field["name"], "0.5")
    reply = _ask("entry", entries=[entry])
    assert len(reply["words"]) == 1, reply


def test_a_planted_rounding_is_noticed(capsys, monkeypatch):
  """Planted: a page that writes numbers by a rule of its own."""
  monkeypatch.setattr(questions.claims, "at_most", lambda v: f"{v - 5e-4:.3f}")
  reply = _ask("epsilon")
  monkeypatch.undo()
  assert reply["epsilon"] not in _printed(capsys, reply["command"]).out
