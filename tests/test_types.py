"""Type checkers accept what the README shows, and refuse what breaks a rule."""

import dataclasses
import inspect
import pathlib
import re
import subprocess
import sys
import tomllib

import jax
import pytest

import accounting
import jax_privacy
from jax_privacy import contracts
from tests.support import launch, public_api

_PYREFLY = pathlib.Path(sys.executable).with_name("pyrefly")
_README = (launch.ROOT / "README.md").read_text("utf-8")
_EXAMPLES = re.findall(r"```python\n(.*?)```", _README, flags=re.DOTALL)
# What is put in place of a part of the example -> the kind of error.
_WRONG = {
    ", is_padding_example=is_padding_example)": (
        ")",
        "missing-argument",
    ),
    "l2_clip_norm=1.0,": ("l2_clip_norm=1.0, metod='vmap',", "unexpected-key"),
    "batch_size=200,": ("bach_size=200,", "unexpected-key"),
}


def _check(text, folder):
  (folder / "example.py").write_text(text, encoding="utf-8")
  (folder / "pyrefly.toml").write_text(
      f'preset = "default"\nsearch-path = ["{launch.ROOT}"]\n', encoding="utf-8"
  )
  done = subprocess.run(
      [_PYREFLY, "check", "--python-interpreter-path", sys.executable],
      capture_output=True,
      text=True,
      cwd=folder,
  )
  return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(not _PYREFLY.exists(), reason="pyrefly is not installed")
def test_the_readme_is_well_typed(tmp_path):
  assert _EXAMPLES
  for text in _EXAMPLES:
    status, said = _check(text, tmp_path)
    assert status == 0, said


@pytest.mark.few(1)
@pytest.mark.skipif(not _PYREFLY.exists(), reason="pyrefly is not installed")
@pytest.mark.parametrize("part", _WRONG)
def test_a_wrong_call_is_refused(part, tmp_path):
  (text,) = (text for text in _EXAMPLES if part in text)
  wrong, kind = _WRONG[part]
  status, said = _check(text.replace(part, wrong), tmp_path)
  assert status == 1 and kind in said, said


def test_the_options_are_those_of_clipped_grad():
  there = set(inspect.signature(jax_privacy.clipped_grad).parameters)
  own = {"fun", "l2_clip_norm", "microbatch_size", "mesh", "clipping"}
  refused = {"normalize_by", "nan_safe"}
  options = set(contracts.ClippedGradOptions.__annotations__)
  assert options == there - own - refused


def test_for_batch_size_has_the_fields_and_defaults_of_a_mechanism():
  taken = inspect.signature(accounting.Mechanism.for_batch_size).parameters
  for field in dataclasses.fields(accounting.Mechanism):
    if field.name == "sampling_prob":
      assert field.name not in taken
    elif field.name != "num_examples":  # Needed there.
      missing = field.default is dataclasses.MISSING
      default = inspect.Parameter.empty if missing else field.default
      assert taken[field.name].default == default


def test_few_kinds_of_errors_are_let_pass():
  config = tomllib.loads((launch.ROOT / "pyproject.toml").read_text("utf-8"))
  levels = config["tool"]["pyrefly"]["errors"]
  # What is not ours: SciPy, scikit-learn and others have no types.
  assert levels == {"untyped-import": "ignore"}
  # Within ghost clipping alone, a path or its reason follows from the plan.
  (ghost,) = config["tool"]["pyrefly"]["sub-config"]
  assert ghost["matches"] == "jax_privacy/ghost/**"
  assert set(ghost["errors"]) <= {
      "bad-argument-type",
      "missing-attribute",
      "untyped-import",
  }


@pytest.mark.skipif(not _PYREFLY.exists(), reason="pyrefly is not installed")
def test_a_users_program_is_well_typed_by_default(tmp_path):
  text = (launch.ROOT / "tests" / "support" / "public_api.py").read_text()
  status, said = _check(text, tmp_path)
  assert status == 0, said
  # It is a check only if the names have types.
  wrong = text.replace("value: float = accounting", "value: str = accounting")
  status, said = _check(wrong, tmp_path)
  assert status == 1 and "bad-assignment" in said, said


def test_a_users_program_calls_the_public_names():
  text = (launch.ROOT / "tests" / "support" / "public_api.py").read_text()
  for name in accounting.__all__:
    assert re.search(rf"\b(accounting\.)?{name}\b", text), name
  unused = {n for n in jax_privacy.__all__ if not re.search(rf"\b{n}\b", text)}
  assert unused == {"auditing"}
  taken = inspect.signature(jax_privacy.dp_sgd.make_private).parameters
  options = {*taken, *contracts.ClippedGradOptions.__annotations__}
  options -= {"loss_fn", "optimizer", "mechanism", "clipped_grad_options"}
  for name in options:
    assert f"{name}=" in text, name


@pytest.mark.slow
def test_a_users_program_runs(tmp_path):
  # As in a user's process, where JAX is less strict than in these tests.
  with jax.numpy_dtype_promotion("standard"):
    with jax.numpy_rank_promotion("allow"):
      public_api.main(str(tmp_path / "checkpoints"))
