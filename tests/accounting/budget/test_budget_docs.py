"""The page on dp-budget: each command gives what the page shows."""

import pathlib
import re
import sys

import numpy as np
import pytest
from scipy import special

from accounting import budget
from benchmarks import budget_page

_ROOT = pathlib.Path(__file__).parents[3]
_PAGE = _ROOT / "docs" / "budget.md"
_TEXT = _PAGE.read_text(encoding="utf-8")
_BLOCKS = budget_page.blocks(_TEXT)


def test_the_page_shows_every_calculation():
  shown = {arguments[0] for arguments, _ in _BLOCKS}
  # `delta` is the inverse of the first; two are too long to show, and the
  # last one does not end.
  left_out = {"delta", "statement", "report", "serve"}
  assert shown == set(budget.COMMANDS) - left_out
  # None is in a form that this test would pass over.
  assert len(_BLOCKS) == len(re.findall(r"^\$ ", _TEXT, re.MULTILINE))


@pytest.mark.parametrize(
    ("arguments", "output"), _BLOCKS, ids=[a[0] for a, _ in _BLOCKS]
)
def test_output_is_as_shown(arguments, output):
  assert budget_page.printed(arguments) == output


def _profile_of_a_run(blocks):
  [block] = [
      b for b in blocks if b[0][0] == "profile" and "--num-steps" in b[0]
  ]
  return block


def test_a_changed_digit_is_noticed():
  """Planted: the page as it was, on a processor that rounds otherwise."""
  planted = _TEXT.replace("1.474 ", "1.475 ")
  assert planted != _TEXT
  arguments, output = _profile_of_a_run(budget_page.blocks(planted))
  assert budget_page.printed(arguments) != output


def test_readme_shows_the_same():
  shown, wanted = budget_page.readme_output(
      (_ROOT / "README.md").read_text(encoding="utf-8")
  )
  assert shown == wanted


def test_prose_says_what_the_outputs_show():
  epsilon = {
      tuple(row.split()[:3]): float(row.split()[3])
      for row in _TEXT.splitlines()
      if re.match(r"(poisson|deterministic) +\w+ +(pld|rdp) ", row)
  }
  [percent] = re.findall(r"some (\d+)% higher", _TEXT)
  pair = ("poisson", "add_or_remove_one")
  ratio = epsilon[*pair, "rdp"] / epsilon[*pair, "pld"]
  assert round(100 * (ratio - 1)) == int(percent)
  # What a reader could compare with an output stands in one.
  prose = re.sub(
      r"```.*?```|^\|.*?$", "", _TEXT, flags=re.DOTALL | re.MULTILINE
  )
  assert set(re.findall(r"\d+\.\d+", prose)) <= {"0.1", "0.01", "0.2", "0.5"}


def _clear_caches():
  for name, module in list(sys.modules.items()):
    if name.startswith("accounting"):
      for value in vars(module).values():
        if hasattr(value, "cache_clear"):
          value.cache_clear()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_profile_does_not_hang_on_the_last_bits(seed, monkeypatch):
  """As on another processor, whose exp and log are off by an ulp elsewhere.

  Two ulps here: those of NumPy's AVX512 loops are up to four, and rarely more
  than one. Zeros and ones are exact on all of them.
  """
  rng = np.random.default_rng(seed)

  def perturbed(fn):
    def moved(*args, **kwargs):
      value = fn(*args, **kwargs)
      if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        return value
      ulps = rng.integers(-2, 3, value.shape) * 2.0**-53
      return np.where(value == 1, value, value * (1 + ulps))

    return moved

  arguments, output = _profile_of_a_run(_BLOCKS)
  for module, name in (
      *((np, name) for name in ("exp", "log", "expm1", "log1p")),
      *((special, name) for name in ("ndtr", "ndtri", "log_ndtr")),
  ):
    monkeypatch.setattr(module, name, perturbed(getattr(module, name)))
  _clear_caches()
  try:
    assert budget_page.printed(arguments) == output
  finally:
    _clear_caches()


def test_python_example_runs(capsys):
  [example] = re.findall(r"```python\n(.*?)```", _TEXT, re.DOTALL)
  exec(compile(example, str(_PAGE), "exec"), {})
  assert capsys.readouterr().out.startswith("3.71517 2.999")


def test_the_plot_is_there():
  [name] = re.findall(r"!\[.*\]\((.*\.svg)\)", _TEXT)
  assert (_PAGE.parent / name).read_text(encoding="utf-8").count("<svg") == 1
