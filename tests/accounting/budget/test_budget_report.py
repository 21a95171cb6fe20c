"""`dp-budget report`: a run's summary, recomputed or refused."""

import pytest

from accounting import budget
from tests.support import commands, records

_json = commands.answer
_refused = commands.refused


def _write(tmp_path, content):
  return records.write(tmp_path, "summary.json", content)


def test_report_verifies_a_finished_run(tmp_path, capsys):
  found = _json(capsys, "report", _write(tmp_path, records.summary()))
  assert found["verified"] is True
  assert found["epsilon"] == records.summary()["epsilon"]
  assert "can recompute the noise" in found["warnings"][0]
  assert "for research, not for a release" in found["warnings"][0]
  secret = _json(capsys, "report", _write(tmp_path, records.summary(seed=None)))
  assert secret["warnings"] == []
  packed = records.summary(seed=None, example_is="a packed sequence")
  said = _json(capsys, "report", _write(tmp_path, packed))
  assert said["warnings"] == ["An example is a packed sequence."]
  # A seed of 128 bits is read, and said again, to the last digit.
  big = _json(
      capsys, "report", _write(tmp_path, records.summary(seed=2**128 - 1))
  )
  assert big["summary"]["seed"] == 2**128 - 1
  assert budget.main(["report", str(tmp_path)]) == 0
  assert "were recomputed" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"epsilon": 1.0}, "stated 1.0, recomputed"),
        ({"noise_multiplier": 1.0}, "epsilon must agree"),
        ({"num_steps": 51}, "must agree"),
        ({"expected_batch_size": 99.0}, "stated 99.0, recomputed 100.0"),
        ({"examples_per_second": 9.0}, "stated 9.0, recomputed 2500.0"),
        ({"epsilon_target": 0.5}, "epsilon_target, stated as 0.5"),
        ({"status": "running"}, "status must be 'finished', got 'running'"),
        ({"accountant": "magic"}, "accountant must be one of"),
        ({"accountant": ["pld"]}, "accountant must be one of"),
        ({"epsilon": "3"}, "epsilon must be a finite number"),
        ({"delta": None}, "delta must be a number"),
        ({"train_seconds": 0}, "train_seconds must be"),
        ({"test_accuracy": 1.5}, "test_accuracy must be"),
        ({"test_accuracy": None}, "test_accuracy must be"),
        ({"test_top5_accuracy": {"ema": 1.5}}, "test_top5_accuracy ema must"),
        ({"test_top5_accuracy": {"ema": None}}, "test_top5_accuracy ema must"),
        ({"test_top5_accuracy": {}}, "test_top5_accuracy must be numbers"),
        ({"test_macro_auc": 0.5}, "test_macro_auc must be numbers by name"),
        ({"test_macro_auc": {"a b": 0.5}}, "test_macro_auc must be by names"),
        ({"test_macro_auc": {"ema": True}}, "test_macro_auc ema must be"),
        ({"params_sha256": "x"}, "params_sha256 must be 64"),
        ({"seed": "0"}, "seed must be an integer"),
        ({"seed": True}, "seed must be an integer"),
        ({"seed": -1}, "seed must be an integer"),
        ({"seed": 2**128}, "seed must be an integer"),
        ({"versions": ["a"]}, "versions must be an object"),
        ({"num_examples": None}, "num_examples must be"),
        ({"example_is": "a\nb"}, "example_is must be at most 300 printable"),
        ({"example_is": "a" * 301}, "example_is must be at most 300 printable"),
        ({"example_is": 3}, "example_is must be at most 300 printable"),
        ({"sampling": {"a": 1}}, "sampling must be one of"),
        ({"train_seconds": 10**400}, "train_seconds must be"),
    ],
)
def test_report_refuses_a_summary_that_disagrees(
    changes, match, tmp_path, capsys
):
  message = _refused(
      capsys, "report", _write(tmp_path, records.summary(**changes))
  )
  assert match in message


def test_a_run_of_persons_speaks_of_them(tmp_path, capsys):
  persons = {"unit": "patient", "max_rows_per_unit": 8}
  path = _write(tmp_path, records.summary(**persons))
  assert _json(capsys, "report", path).items() >= persons.items()
  assert budget.main(["report", str(path)]) == 0
  text = " ".join(capsys.readouterr().out.split())
  assert "for one patient at a time" in text
  assert "all rows of one patient, of which at most 8 are used, are one" in text
  assert "Whoever has rows under more than one patient is" in text
  assert "dp-budget users` computes" not in text
  # Under another name, if its user knows a better one.
  assert budget.main(["report", str(path), "--unit=person"]) == 0
  assert "all rows of one person, of which" in " ".join(
      capsys.readouterr().out.split()
  )
  # A row alone: as ever, also of an older summary.
  of_rows = records.summary(unit="example", max_rows_per_unit=None)
  for summary in (of_rows, records.summary()):
    found = _json(capsys, "report", _write(tmp_path, summary))
    assert found["unit"] == "example" and found["max_rows_per_unit"] is None


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"unit": "patient"}, "unit must be 'example' where max_rows_per_unit"),
        ({"unit": 3, "max_rows_per_unit": 8}, "unit must be a word or two"),
        (
            {"unit": "a\nb", "max_rows_per_unit": 8},
            "unit must be a word or two",
        ),
        ({"unit": "a", "max_rows_per_unit": 0}, "max_rows_per_unit must be"),
        ({"unit": "a", "max_rows_per_unit": "8"}, "max_rows_per_unit must be"),
    ],
)
def test_what_is_no_unit_in_a_summary(changes, match, tmp_path, capsys):
  path = _write(tmp_path, records.summary(**changes))
  assert match in _refused(capsys, "report", path)


def test_says_that_training_did_not_begin_afresh(tmp_path, capsys):
  origin = {"path": "a\n# b.npz", "sha256": "5" * 64, "format": "npz"}
  warning = (  # As text of one line, whatever the file says.
      "training began with parameters from elsewhere ('a\\n# b.npz', sha256 5"
  )
  found = _json(
      capsys, "report", _write(tmp_path, records.summary(restored_from=origin))
  )
  assert any(text.startswith(warning) for text in found["warnings"])
  afresh = _json(
      capsys, "report", _write(tmp_path, records.summary(restored_from=None))
  )
  assert not any("elsewhere" in text for text in afresh["warnings"])
  for wrong in (True, [], {"path": 1, "sha256": "5" * 64}, {"path": "a"}):
    text = _refused(
        capsys, "report", _write(tmp_path, records.summary(restored_from=wrong))
    )
    assert "restored_from" in text


def test_report_of_a_run_with_many_labels(tmp_path, capsys):
  areas = {"last": 0.75, "ema": 0.8125, "polyak": None}
  summary = records.summary(
      test_accuracy=None, test_accuracy_ema=None, test_accuracies=None,
      test_macro_auc=areas, test_micro_auc=areas,
  )  # fmt: skip
  path = _write(tmp_path, summary)
  assert _json(capsys, "report", path)["summary"]["test_macro_auc"] == areas
  assert budget.main(["report", path]) == 0
  told = " ".join(capsys.readouterr().out.split())
  assert "test macro auc ema" in told and "0.8125" in told
  assert "polyak" not in told and "test accuracy" not in told


def _with_result(**changes):
  head = {"metric": "accuracy", "is_share": True, "params": "ema"}
  head |= {"value": 0.91, "values": {"last": 0.9, "ema": 0.91}} | changes
  return records.summary(headline=head, eval_params="ema", test_accuracy=0.91)


def test_report_shows_the_result_that_was_chosen_beforehand(tmp_path, capsys):
  path = _write(tmp_path, _with_result())
  assert budget.main(["report", path]) == 0
  lines = capsys.readouterr().out.splitlines()
  (line,) = [x for x in lines if "result: " in x]
  assert line.split("  ")[-1].strip() == "0.91"
  assert "accuracy of the ema parameters (eval.params)" in line
  # No second "test accuracy" without the name of its parameters.
  assert not [x for x in lines if x.strip().startswith("test accuracy ")]


@pytest.mark.parametrize(
    "changes",
    [
        {"params": "last"},
        {"value": 0.9},
        {"value": 1.5, "values": {"ema": 1.5}},
        {"values": {"last": 0.9}},
        {"values": 3},
        {"metric": "a\nb"},
    ],
)
def test_another_result_than_the_chosen_one_is_refused(
    changes, tmp_path, capsys
):
  path = _write(tmp_path, _with_result(**changes))
  assert "headline" in _refused(capsys, "report", path)


@pytest.mark.parametrize("key", sorted(records.summary()))
def test_report_refuses_a_summary_without_a_key(key, tmp_path, capsys):
  summary = records.summary()
  del summary[key]
  optional = ("status", "sampling", "max_batch_size", "epsilon_target")
  optional += ("batch_size_schedule", "test_accuracies")
  if key in (*optional, "neighboring_relation"):
    expected = 2 if key == "neighboring_relation" else 0
    code = budget.main(["report", _write(tmp_path, summary)])
    assert code == expected
  else:
    assert key in _refused(capsys, "report", _write(tmp_path, summary))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{",
        '{"epsilon": NaN}',
        '{"epsilon": Infinity}',
        "[" * 100_000,
        '"' + "x" * 2_000_000 + '"',
        "\x00\x01",
        '{"module_name": "os", "class_name": "system"}',
        '{"a": ' + "9" * 10_000 + "}",
    ],
)
def test_report_survives_any_file(content, tmp_path, capsys):
  _refused(capsys, "report", _write(tmp_path, content))


def test_report_of_no_run(tmp_path, capsys):
  assert "summary.json" in _refused(capsys, "report", str(tmp_path))
  (tmp_path / "summary.json").mkdir()
  assert "summary.json" in _refused(capsys, "report", str(tmp_path))


@pytest.mark.parametrize(
    ("generator", "said"),
    [
        ("threefry", "who can try 2**64 keys can subtract the noise"),
        ("chacha20", "drawn by a cipher, ChaCha20, under keys with 128 bits"),
        (None, "A generator that is not cryptographic could be predicted"),
    ],
)
def test_report_says_what_the_noise_was_drawn_with(
    generator, said, tmp_path, capsys
):
  summary = records.summary(seed=None)
  if generator is not None:
    summary["generator"] = generator
  assert budget.main(["report", _write(tmp_path, summary)]) == 0
  assert said in " ".join(capsys.readouterr().out.split())


def test_report_says_whether_sums_were_exact(tmp_path, capsys):
  for scale, said in (
      (None, "Floating-point sums and noise have been attacked"),
      (4096, "a grid of 4096 steps to the clip norm"),
  ):
    workdir = _write(tmp_path, records.summary(grid_scale=scale))
    assert budget.main(["report", workdir]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
  for scale in (0, -4, 2.5, "9", True):
    workdir = _write(tmp_path, records.summary(grid_scale=scale))
    assert "grid_scale must be an" in _refused(capsys, "report", workdir)


@pytest.mark.parametrize("generator", ["mt19937", 3, ["chacha20"], {}])
def test_report_refuses_another_generator(generator, tmp_path, capsys):
  workdir = _write(tmp_path, records.summary(generator=generator))
  assert "generator must be one of" in _refused(capsys, "report", workdir)
