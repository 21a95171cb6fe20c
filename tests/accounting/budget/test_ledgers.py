"""`dp-budget ledger`: each action, and what it refuses."""

import json
import re

import pytest

import accounting
from accounting import Ledger, Mechanism, budget
from tests.support import commands, records

_json = commands.answer
pytestmark = pytest.mark.filterwarnings("ignore::accounting.LargeDeltaWarning")
_HISTOGRAM = '[[release]]\nkind = "laplace"\nscale = 10.0\n'
_PLANNED = """
[[release]]
kind = "dp_sgd"
noise_multiplier = "free"
expected_batch_size = 500
num_examples = 1000
num_steps = 10
"""


def _new(tmp_path, capsys, epsilon="3"):
  path = tmp_path / "ledger.toml"
  fields = ("--num-examples=1000", f"--epsilon={epsilon}", "--delta=1e-4")
  unit = "--unit=example"
  _json(capsys, "ledger", "init", str(path), unit, *fields)
  return str(path)


def _file(tmp_path, text, name="releases.toml"):
  (tmp_path / name).write_text(text, encoding="utf-8")
  return str(tmp_path / name)


def _add(capsys, ledger, release):
  said = ("--what=ages", "--visible-to=all", "--date=2026-11-28")
  return _json(capsys, "ledger", "add", ledger, release, *said)


def test_it_adds_shows_and_checks(tmp_path, capsys):
  ledger = _new(tmp_path, capsys)
  found = _add(capsys, ledger, _file(tmp_path, _HISTOGRAM + "count = 3\n"))
  assert found["spent"] == accounting.epsilon(
      3 * accounting.Laplace(scale=10.0), delta=1e-4
  )
  shown = _json(capsys, "ledger", "show", ledger)
  assert shown["entries"][0]["date"] == "2026-11-28"
  assert shown["entries"][0]["release"][0]["count"] == 3
  assert budget.main(["ledger", "show", ledger]) == 0
  text = capsys.readouterr().out
  assert "3 x Laplace noise of scale 10" in text
  assert "spent epsilon 0.300 of 3 at delta 0.0001; left 2.700" in text
  first = _json(capsys, "ledger", "check", ledger)["seal"]
  _add(capsys, ledger, _file(tmp_path, _HISTOGRAM))
  _json(capsys, "ledger", "check", ledger, f"--seal={first}")
  refused = commands.refused(
      capsys, "ledger", "check", ledger, f"--seal={'0' * 64}"
  )
  assert "--seal must be one of the ledger's" in refused


def test_a_plan_says_what_it_leaves(tmp_path, capsys):
  ledger = _new(tmp_path, capsys)
  _add(capsys, ledger, _file(tmp_path, _HISTOGRAM))
  before = (tmp_path / "ledger.toml").read_bytes()
  plan = _json(capsys, "ledger", "plan", ledger, _file(tmp_path, _HISTOGRAM))
  assert plan["epsilon_after"] == accounting.epsilon(
      2 * accounting.Laplace(scale=10.0), delta=1e-4
  )
  # A free number takes all that is left, and no more.
  free = _json(capsys, "ledger", "plan", ledger, _file(tmp_path, _PLANNED))
  assert 0.998 * 3 <= free["epsilon_after"] <= 3
  [release] = free["planned"]
  run = Mechanism.from_dict(release["mechanism"])
  assert free["epsilon_after"] == pytest.approx(
      accounting.epsilon(run + accounting.Laplace(scale=10.0), delta=1e-4)
  )
  assert (tmp_path / "ledger.toml").read_bytes() == before
  large = _file(tmp_path, _HISTOGRAM.replace("10.0", "0.2"))
  assert "must be within the ledger's budget" in commands.refused(
      capsys, "ledger", "plan", ledger, large
  )


def _folder(tmp_path, name, **changes):
  (tmp_path / name).mkdir()
  summary = records.summary(**changes)
  return str(records.write(tmp_path / name, "summary.json", summary)), summary


def test_a_run_is_added_once_and_what_it_continued_is_not_twice(
    tmp_path, capsys
):
  ledger = _new(tmp_path, capsys, epsilon="1000")
  first, summary = _folder(tmp_path, "first")
  found = _add(capsys, ledger, first)
  keys = ("noise_multiplier", "num_steps", "sampling_prob", "num_examples")
  run = Mechanism(**{k: summary[k] for k in keys})
  assert found["spent"] == accounting.epsilon(run, delta=1e-4)
  said = ("--what=ages", "--visible-to=all")
  assert "params_sha256 must be new, and not of entry 1" in commands.refused(
      capsys, "ledger", "add", ledger, first, *said
  )
  together = accounting.epsilon(2 * run, delta=summary["delta"])
  origin = {
      "path": "first",
      "sha256": "0" * 64,
      "released": [run.to_dict()],
      "seeds": [1],
      "began_with": None,
  }
  more = {"restored_from": origin, "epsilon_composed": together}
  second, _ = _folder(tmp_path, "next", params_sha256="b" * 64, **more)
  found = _add(capsys, ledger, second)
  assert found["spent"] == accounting.epsilon(2 * run, delta=1e-4)
  assert "its own steps are counted" in found["notes"][0]
  # In a ledger without the first, both are counted.
  (tmp_path / "other").mkdir()
  other = _new(tmp_path / "other", capsys, epsilon="1000")
  assert _add(capsys, other, second)["spent"] == found["spent"]


@pytest.mark.parametrize(
    "arguments, match",
    [
        (("add", "L", "none"), "release must be a TOML file or a run's folder"),
        (("plan", "none", "R"), "ledger must be a file made by"),
        (("add", "L", "R", "--date=soon"), "--date must be a date"),
        (("add", "L", "R", "--date=20261128"), "--date must be a date"),
        (("add", "L", "R", "--date=2026-W48-6"), "--date must be a date"),
        (("add", "L", "F"), "noise_multiplier must be a number; only"),
        (("add", "L", "U"), "unit must be 'example', as all of the ledger is"),
        (("plan", "L", "U"), "unit must be 'example', as all of the ledger is"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, capsys, arguments, match):
  paths = {
      "L": _new(tmp_path, capsys),
      "R": _file(tmp_path, _HISTOGRAM, "r.toml"),
      "F": _file(tmp_path, _PLANNED, "f.toml"),
      "U": _file(tmp_path, 'unit = "patient"\n' + _HISTOGRAM, "u.toml"),
  }
  action, *rest = (paths.get(word, word) for word in arguments)
  said = ("--what=x", "--visible-to=y") if action == "add" else ()
  assert re.search(
      match, commands.refused(capsys, "ledger", action, *rest, *said)
  )


def test_a_line_that_was_changed_is_named(tmp_path, capsys):
  ledger = _new(tmp_path, capsys)
  path = tmp_path / "ledger.toml"
  lines = path.read_text().splitlines()
  number = lines.index("epsilon = 3.0")
  path.write_text(path.read_text().replace("epsilon = 3.0", "epsilon = 30.0"))
  for action in ("show", "check"):
    refused = commands.refused(capsys, "ledger", action, ledger)
    assert f"line {number + 1} of ledger.toml" in refused
    assert "got 'epsilon = 30.0'" in refused


def test_compose_finds_a_free_number(tmp_path, capsys):
  path = _file(tmp_path, _HISTOGRAM + _PLANNED)
  found = _json(
      capsys,
      *("compose", path, "--delta=1e-4", "--epsilon=2"),
      "--examples-per-user=1,2",
  )
  assert 0.998 * 2 <= found["epsilon"] <= 2
  by_count = found["epsilon_by_examples_per_user"]
  assert by_count["1"] == found["epsilon"] < by_count["2"]
  assert "found: noise multiplier " in found["notes"][0]
  for arguments, match in (
      (("--delta=1e-4",), "--epsilon must be given where a number is"),
      (("--delta=1e-4", "--epsilon=0.01"), "at least the epsilon of the other"),
  ):
    assert match in commands.refused(capsys, "compose", path, *arguments)
  fixed = _file(tmp_path, _HISTOGRAM, "fixed.toml")
  assert "--epsilon must be given where a number is" in commands.refused(
      capsys, "compose", fixed, "--delta=1e-4", "--epsilon=2"
  )
  two = _file(tmp_path, _PLANNED + _PLANNED, "two.toml")
  assert "free numbers must be one" in commands.refused(
      capsys, "compose", two, "--delta=1e-4", "--epsilon=2"
  )
  count = _file(tmp_path, _HISTOGRAM + 'count = "free"\n', "count.toml")
  found = _json(capsys, "compose", count, "--delta=1e-4", "--epsilon=0.5")
  assert found["notes"] == ["found: count 5"]


def test_disjoint_parts_and_public_steps_of_a_file(tmp_path, capsys):
  text = '[[release]]\nkind = "public"\nwhat = "a public mean"\n'
  for name, scale in (("north", 2.0), ("south", 4.0)):
    text += '[[release]]\nkind = "laplace"\ndisjoint_by = "hospital"\n'
    text += f'part = "{name}"\nscale = {scale}\n'
  path = _file(tmp_path, text)
  found = _json(capsys, "compose", path, "--delta=1e-6")
  alone = accounting.epsilon(accounting.Laplace(scale=2.0), delta=1e-6)
  assert found["epsilon"] == alone
  assert budget.main(["compose", path, "--delta=1e-6"]) == 0
  shown = capsys.readouterr().out
  assert "disjoint data, split by hospital, as stated" in shown
  assert "  north: Laplace noise of scale 2" in shown
  ledger = _new(tmp_path, capsys)
  assert _add(capsys, ledger, path)["spent"] == pytest.approx(
      accounting.epsilon(accounting.Laplace(scale=2.0), delta=1e-4)
  )
  [entry] = Ledger.read(ledger).entries
  assert json.dumps(entry.fields()["release"]).count("disjoint_by") == 2
  bad = _file(tmp_path, _HISTOGRAM + 'part = "north"\n', "bad.toml")
  assert "disjoint_by must be given with part" in commands.refused(
      capsys, "compose", bad, "--delta=1e-6"
  )


_RUN = ("--sampling-prob=0.1", "--num-steps=10", "--delta=1e-5")


def test_several_targets_are_a_table(tmp_path, capsys):
  found = _json(capsys, "noise", *_RUN, "--epsilon=1,2")
  assert [each["epsilon_target"] for each in found["rows"]] == [1.0, 2.0]
  for each in found["rows"]:
    run = Mechanism(
        noise_multiplier=each["noise_multiplier"],
        sampling_prob=0.1,
        num_steps=10,
    )
    assert each["epsilon"] == accounting.epsilon(run, delta=1e-5)
    assert each["epsilon"] <= each["epsilon_target"]
  plot = str(tmp_path / "noise.svg")
  arguments = ["noise", *_RUN, "--epsilon=1,2"]
  assert budget.main([*arguments, "--csv"]) == 0
  first, *lines = capsys.readouterr().out.splitlines()
  assert first == "epsilon_target,noise_multiplier,epsilon"
  assert [line.split(",")[0] for line in lines] == ["1.0", "2.0"]
  assert budget.main([*arguments, f"--plot={plot}"]) == 0
  assert f"wrote {plot}" in capsys.readouterr().out
  assert "--epsilon must be numbers such as" in commands.refused(
      capsys, "noise", *_RUN, "--epsilon=1,x"
  )


def test_a_target_is_for_all_and_for_people(tmp_path, capsys):
  path = _file(tmp_path, _HISTOGRAM)
  found = _json(
      capsys,
      *("noise", *_RUN, "--epsilon=2", f"--with={path}"),
      "--examples-per-user=3",
  )
  run = Mechanism(
      noise_multiplier=found["noise_multiplier"],
      sampling_prob=0.1,
      num_steps=10,
  )
  assert found["epsilon"] == accounting.user_epsilon(
      run + accounting.Laplace(scale=10.0), examples_per_user=3, delta=1e-5
  )
  assert 0.998 * 2 <= found["epsilon"] <= 2
  table = _json(
      capsys, "users", "--noise-multiplier=20", *_RUN, "--examples-per-user=1,5"
  )
  assert [each["examples_per_user"] for each in table["rows"]] == [1, 5]


def test_a_guarantee_without_a_run_has_a_profile(capsys):
  found = _json(capsys, "profile", "--epsilon=1", "--delta=1e-5")
  e = 2.718281828459045
  # Kairouz, Oh and Viswanath 2015: the worst has these error rates.
  assert found["advantage"] == pytest.approx(
      1e-5 + (1 - 1e-5) * (e - 1) / (e + 1), rel=1e-4
  )
  rate = found["tpr_at_fpr"]["0.01"]
  assert e * 0.01 + 1e-5 <= rate <= (e * 0.01 + 1e-5) * (1 + 1e-4)
  assert "--delta must be given" in commands.refused(
      capsys, "profile", "--epsilon=1"
  )
  assert "--epsilon must be given for a guarantee without" in commands.refused(
      capsys,
      *("profile", "--noise-multiplier=3", "--sampling-prob=0.1"),
      *("--num-steps=10", "--epsilon=1"),
  )


@pytest.mark.parametrize(
    "library, text, flags",
    [
        (
            "opacus",
            "noise_multiplier=2,sample_rate=0.1,steps=10",
            ("--noise-multiplier=2", *_RUN[:2]),
        ),
        (
            "tf-privacy",
            "noise_multiplier=2,number_of_examples=1e3,batch_size=100,epochs=2",
            (
                *("--noise-multiplier=2", "--num-examples=1000"),
                *("--batch-size=100", "--epochs=2"),
            ),
        ),
        (  # Microbatches double the sensitivity.
            "tf-privacy",
            "noise_multiplier=2,number_of_examples=1e3,batch_size=100,"
            "num_epochs=2,used_microbatching=True",
            (
                *("--noise-multiplier=1", "--num-examples=1000"),
                *("--batch-size=100", "--epochs=2"),
            ),
        ),
        (
            "jax-privacy",
            "noise_multiplier=2,num_samples=1000,batch_size=100,num_updates=9",
            (
                *("--noise-multiplier=2", "--num-examples=1000"),
                *("--batch-size=100", "--num-steps=9"),
            ),
        ),
    ],
)
def test_other_libraries_words_are_the_same_run(capsys, library, text, flags):
  ask = ("epsilon", "--delta=1e-5")
  assert _json(capsys, *ask, f"--from-{library}={text}") == _json(
      capsys, *ask, *flags
  )


@pytest.mark.parametrize(
    "arguments, match",
    [
        (("--from-opacus=sigma=1",), "--from-opacus must be pairs such as noi"),
        (("--from-opacus=steps",), "--from-opacus must be pairs such as noise"),
        (("--from-opacus=steps=1,steps=2",), "--from-opacus must be of steps"),
        (("--from-opacus=steps=x",), "steps of --from-opacus must be a number"),
        (
            ("--from-tf-privacy=used_microbatching=1",),
            "used_microbatching of --from-tf-privacy must be True or False",
        ),
        (
            ("--from-tf-privacy=used_microbatching=True",),
            "--from-tf-privacy must be with noise_multiplier, where used_m",
        ),
        (
            ("--from-opacus=steps=1", "--num-steps=1"),
            "--num-steps must be given once, not with --from-opacus",
        ),
        ((), "the following arguments are required: --noise-multiplier"),
    ],
)
def test_words_that_are_wrong_are_named(capsys, arguments, match):
  assert match in commands.refused(
      capsys, "epsilon", "--delta=1e-5", *arguments
  )
