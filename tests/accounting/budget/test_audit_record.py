"""`dp-budget report --audit`: an audit beside the claim, or no statement."""

import json

import pytest

import accounting
from accounting import budget, claims
from accounting.budget import audit as audit_lib
from tests.support import records

# Of 3 bits at most.
_EXPOSURE = {
    "num_references": 7,
    "included_mean": 3.0,
    "excluded_mean": 1.0,
    "included_most": 3.0,
}


def _refused(capsys, arguments):
  assert budget.main(["report", *arguments]) == 2
  captured = capsys.readouterr()
  assert captured.out == "" and captured.err.count("\n") == 1, captured.err
  return captured.err


def test_the_bounds_stand_beside_the_claim(tmp_path, capsys):
  arguments = records.write_run_and_audit(tmp_path)
  assert budget.main(["report", *arguments]) == 0
  lines = [
      " ".join(line.split()) for line in capsys.readouterr().out.splitlines()
  ]
  start = lines.index("Audit")
  assert lines.index("Claim") < start < lines.index("Who is trusted")
  claim = records.summary()["epsilon"]
  rows = lines[start:]
  # Rounded up what is claimed, down what is measured.
  shown = float(next(r for r in rows if r.startswith("claimed")).split()[-1])
  assert claim <= shown < claim + 1e-3
  assert "measured: at least, by one_run (fair coins) 0.500" in rows
  text = " ".join(rows)
  assert "200 canaries (dirac)" in text and "confidence 95% each" in text
  for method in audit_lib.METHODS:
    assert f"by {method} (" in text
  assert "prove none" in text


def test_an_audit_of_persons_is_of_a_run_of_persons(tmp_path, capsys):
  unit = {"unit": "person", "max_rows_per_unit": 2}
  found = records.audit(**unit, private=True)
  arguments = records.write_run_and_audit(tmp_path, found)
  assert "unit 'person' for the run's 'example'" in _refused(capsys, arguments)
  path = tmp_path / "run" / "summary.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | unit))
  assert budget.main(["report", *arguments]) == 0


def test_strings_that_are_there_twice_have_a_claim_of_two(tmp_path, capsys):
  claim = accounting.user_epsilon(
      accounting.Mechanism.for_batch_size(
          expected_batch_size=100,
          num_examples=1000,
          noise_multiplier=2.0,
          num_steps=50,
      ),
      examples_per_user=2,
      delta=1e-4,
  )
  found = records.audit(
      canary="text",
      num_canaries=100,
      num_copies=2,
      epsilon_of_copies=claim,
      exposure=_EXPOSURE,
  )
  arguments = records.write_run_and_audit(tmp_path, found)
  assert budget.main(["report", *arguments]) == 0
  printed = " ".join(capsys.readouterr().out.split())
  shown = f"claimed: epsilon of 2 examples at most {claims.at_most(claim)}"
  assert shown in printed
  assert "mean exposure in bits, strings in 3.00" in printed
  # A bound between the epsilons of one example and of two refutes neither.
  between = (found["epsilon"] + claim) / 2
  bounds = found["bounds"] | {"one_run": between}
  jointly = found["bounds_jointly"] | {"one_run": between}
  found |= {"bounds": bounds, "bounds_jointly": jointly}
  arguments = records.write_run_and_audit(tmp_path, found)
  assert budget.main(["report", *arguments]) == 0


def test_json_holds_the_audit(tmp_path, capsys):
  arguments = records.write_run_and_audit(tmp_path)
  assert budget.main(["report", *arguments, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["audit"]["bounds"] == records.audit()["bounds"]
  assert found["audit"]["confidence"] == 0.95
  assert found["audit"]["epsilon"] == found["epsilon"]
  assert budget.main(["report", arguments[0], "--json"]) == 0
  assert "audit" not in json.loads(capsys.readouterr().out)


def _contradicting(bound):
  jointly = records.audit()["bounds_jointly"] | {"mean_difference": bound}
  bounds = records.audit()["bounds"] | {"mean_difference": bound}
  return records.audit(
      bounds=bounds, bounds_jointly=jointly, contradicts_claim=True
  )


@pytest.mark.parametrize(
    "bound, shown", [(9.0, "at least 9.000"), (None, "at least infinite")]
)
def test_a_contradicted_claim_gets_no_statement(bound, shown, tmp_path, capsys):
  arguments = records.write_run_and_audit(tmp_path, _contradicting(bound))
  message = _refused(capsys, arguments)
  assert "NO STATEMENT: the audit contradicts the claim" in message
  assert f"{shown} by mean_difference" in message


def test_a_bound_above_the_claim_by_itself_is_warned_of(tmp_path, capsys):
  bounds = records.audit()["bounds"] | {"from_gdp": 9.0}
  arguments = records.write_run_and_audit(
      tmp_path, records.audit(bounds=bounds)
  )
  assert budget.main(["report", *arguments, "--json"]) == 0
  said = json.loads(capsys.readouterr().out)["warnings"]
  assert any("bound by from_gdp is above the claimed" in text for text in said)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"epsilon": 1.0}, "epsilon must agree"),
        ({"noise_multiplier": 1.0}, "epsilon must agree"),
        ({"expected_batch_size": 100.0}, "stated 100.0, recomputed 120.0"),
        ({"num_canaries": 100}, "num_examples 1100 for the run's 1000"),
        ({"num_canaries": 0}, "num_canaries must be an integer of at least 1"),
        ({"num_examples": None}, "num_examples must be"),
        ({"l2_clip_norm": 2.0}, "l2_clip_norm 2.0 for the run's 1.0"),
        ({"name": "other"}, "name 'other' for the run's 'small'"),
        ({"private": False}, "private must be true, got"),
        ({"unit": 3}, "unit must be a word or two"),
        ({"unit": "person"}, "unit must be 'example' where max_rows_per_unit"),
        ({"max_rows_per_unit": 0}, "max_rows_per_unit must be an integer"),
        (
            {"unit": "person", "max_rows_per_unit": 2},
            "unit 'person' for the run's 'example'",
        ),
        ({"max_rows_per_unit": 2}, "max_rows_per_unit 2 for the run's None"),
        ({"status": "running"}, "status must be 'finished'"),
        ({"canary": "bird"}, "canary must be one of"),
        ({"canary": ["dirac"]}, "canary must be one of"),
        ({"confidence": 1.0}, "confidence must be a number in (0, 1)"),
        ({"confidence": True}, "confidence must be a number in (0, 1)"),
        ({"audit_seconds": -1}, "audit_seconds must be"),
        ({"seed": -1}, "seed must be an integer"),
        ({"versions": ["a"]}, "versions must be an object"),
        ({"contradicts_claim": True}, "contradicts_claim must be False, as"),
        ({"contradicts_claim": 0}, "contradicts_claim must be true or false"),
        ({"bounds": {"one_run": 1.0}}, "bounds must be one by each method"),
        ({"bounds": [1.0]}, "bounds must be an object of some of"),
        ({"bounds_jointly": {}}, "bounds_jointly must be one at least"),
        (
            {"bounds_jointly": {"magic": 1.0}},
            "bounds_jointly must be an object",
        ),
        ({"bounds_jointly": {"one_run": 0.6}}, "at most the one_run bound by"),
        ({"bounds_jointly": {"one_run": "0"}}, "one_run must be"),
        ({"bounds_jointly": {"one_run": -0.1}}, "one_run must be"),
        ({"num_copies": 0}, "num_copies must be an integer of at least 1"),
        ({"num_copies": 1001}, "num_copies must be at most 1000, got 1001"),
        (
            {"num_copies": 2, "num_canaries": 100},
            "epsilon_of_copies must be",
        ),
        ({"num_copies": 2}, "num_examples 800 for the run's 1000"),
        ({"epsilon_of_copies": 99.0}, "epsilon_of_copies must agree"),
        (
            {"num_copies": 2, "num_canaries": 100, "epsilon_of_copies": 1.0},
            "epsilon_of_copies must agree",
        ),
        ({"exposure": 3.0}, "exposure must be null, or an object of num_ref"),
        ({"exposure": _EXPOSURE | {"most": 1}}, "exposure must be null, or"),
        (
            {"exposure": _EXPOSURE | {"included_mean": 3.5}},
            "included_mean must be",
        ),
        (
            {"exposure": _EXPOSURE | {"num_references": 0}},
            "num_references must be",
        ),
        ({"scores": [1.0]}, "no keys that an audit does not write"),
        ({"delta": "1e-4"}, "delta must be"),
        ({"accountant": ["pld"]}, "accountant must be one of"),
    ],
    ids=str,
)
def test_a_record_that_disagrees_is_refused(changes, match, tmp_path, capsys):
  arguments = records.write_run_and_audit(tmp_path, records.audit(**changes))
  assert match in _refused(capsys, arguments)


def test_an_audit_of_another_mechanism_is_refused(tmp_path, capsys):
  # Consistent in itself: its claim is recomputed, and is another run's.
  other = accounting.Mechanism.for_batch_size(
      expected_batch_size=120,
      num_examples=1200,
      noise_multiplier=3.0,
      num_steps=50,
  )
  epsilon = accounting.epsilon(other, delta=1e-4)
  found = records.audit(noise_multiplier=3.0, epsilon=epsilon)
  arguments = records.write_run_and_audit(tmp_path, found)
  message = _refused(capsys, arguments)
  assert (
      "of the same run, got noise_multiplier 3.0 for the run's 2.0" in message
  )


def test_a_config_may_differ_in_seed_and_canaries_alone(tmp_path, capsys):
  arguments = records.write_run_and_audit(
      tmp_path, ours={"seed": 5, "save_every": 3}
  )
  assert budget.main(["report", *arguments]) == 0
  capsys.readouterr()
  for ours, theirs in (({"train": {}}, {}), ({}, {"augment": 1})):
    arguments = records.write_run_and_audit(tmp_path, ours=ours, theirs=theirs)
    message = _refused(capsys, arguments)
    name = "train" if ours else "augment"
    assert f"of the same config, got another '{name}'" in message
  (tmp_path / "run" / "config.json").unlink()
  assert "workdir must be a folder with config.json in it" in _refused(
      capsys, arguments
  )


@pytest.mark.parametrize("key", sorted(records.audit()))
def test_every_key_is_needed(key, tmp_path, capsys):
  found = records.audit()
  del found[key]
  arguments = records.write_run_and_audit(tmp_path, found)
  message = f"audit.json must have the key {key!r}"
  assert message in _refused(capsys, arguments)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"epsilon": NaN}',
        "[" * 100_000,
        '"' + "x" * 2_000_000 + '"',
        json.dumps(records.audit()).replace("0.75", "1e999"),
    ],
)
def test_any_file_is_survived(content, tmp_path, capsys):
  _refused(capsys, records.write_run_and_audit(tmp_path, content))


def test_a_folder_without_an_audit(tmp_path, capsys):
  arguments = records.write_run_and_audit(tmp_path)
  (tmp_path / "audit" / "audit.json").unlink()
  assert "audit must be a folder with audit.json in it" in _refused(
      capsys, arguments
  )
