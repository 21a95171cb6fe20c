"""Numbers of a claim are rounded to the safe side, and in one place only."""

import ast
import fractions
import math
import pathlib
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from accounting import claims

_ROOT = pathlib.Path(__file__).parents[2]
_VALUES = st.floats(min_value=0, allow_infinity=False)


@pytest.mark.parametrize(
    ("value", "up", "down"),
    [
        (2.0930469, "2.094", "2.093"),
        (2.9993, "3.000", "2.999"),
        (2.9999999999, "3.000", "2.999"),
        (3.0, "3.000", "3.000"),
        (math.nextafter(3, 4), "3.001", "3.000"),
        (0.1, "0.100", "0.100"),
        (0.1 + 0.2, "0.301", "0.300"),  # The double above that of 0.3.
        (4.35, "4.350", "4.350"),  # 4.35 * 1000 is 4350 less an ulp.
        (0.0, "0.000", "0.000"),
        (-0.0, "0.000", "0.000"),
        (-1e-9, "0.000", "-0.001"),
        (1e-13, "0.001", "0.000"),
        (5e-324, "0.001", "0.000"),
        (1234567.8901, "1234567.891", "1234567.890"),
        (1.00001e300, "1.001e+300", "1.000e+300"),
        (10**400, "1.000e+400", "1.000e+400"),
        (np.float64(2.5), "2.500", "2.500"),
        (math.inf, "infinite", "infinite"),
        (None, "infinite", "infinite"),
    ],
)
def test_bounds_are_rounded_to_the_safe_side(value, up, down):
  assert claims.at_most(value) == up
  assert claims.at_least(value) == down


@pytest.mark.parametrize(
    ("value", "short", "scientific"),
    [
        (1e-5, "1e-05", "1.000e-05"),
        (1.2345612e-5, "1.23457e-05", "1.235e-05"),
        (0.08192, "0.08192", "8.192e-02"),
        (0.0001, "0.0001", "1.000e-04"),
        (999999.5, "1e+06", "1.000e+06"),
        (9.9999e-5, "9.9999e-05", "1.000e-04"),
        (0.0, "0", "0"),
        (math.inf, "infinite", "infinite"),
    ],
)
def test_short_and_scientific(value, short, scientific):
  assert claims.at_most_short(value) == short
  assert claims.at_most_scientific(value) == scientific


@pytest.mark.parametrize(
    ("value", "up", "given"),
    [
        (0.0, "0%", "0%"),
        (0.001, "0.1%", "0.1%"),
        (0.67031, "67.04%", "67.031%"),
        (0.9999999, "100%", "99.99999%"),
        (3.1234e-7, "0.000032%", "0.000031234%"),
        (1.0, "100%", "100%"),
    ],
)
def test_percent(value, up, given):
  assert claims.at_most_percent(value) == up
  assert claims.exact_percent(value) == given


@hypothesis.given(_VALUES)
def test_no_text_is_on_the_wrong_side_or_further_than_it_must(value):
  """Read exactly, so that no rounding of the test's own hides a fault."""
  low, high = (
      fractions.Fraction(write(value))
      for write in (claims.at_least, claims.at_most)
  )
  exact = fractions.Fraction(repr(value))
  assert low <= exact <= high
  unit = fractions.Fraction(1, 1000)
  assert high - low <= (unit if value < 1e9 else exact * unit)
  for write in (claims.at_most_short, claims.at_most_scientific):
    assert exact <= fractions.Fraction(write(value)) <= exact * (1 + unit)
  assert float(claims.exact(value)) == value


def test_what_is_no_number_is_no_claim():
  for write in (claims.at_most, claims.at_least, claims.at_most_short):
    with pytest.raises(ValueError, match="claim must be a number, got nan"):
      write(math.nan)


# What a claim is about, in the names of variables, attributes and keys.
_CLAIMED = re.compile(
    r"epsilon|delta|\beps\b|bound|advantage|bayes|tpr|regret|confidence"
    r"|\bmu\b|_mu\b|\bspent\b"
)
# A precision or a type that rounds; a width alone does not.
_ROUNDS = re.compile(r"\.\d|[eEfFgGn%]$")
_IN_TEMPLATE = re.compile(r"\{([^{}:!]+)(?:![rsa])?:([^{}]*)\}")
_ROUNDERS = ("round", "format", "ceil", "floor", "rint", "around")


def _names(node) -> str:
  """All identifiers and keys of an expression, but for those of its calls."""
  if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("claims"):
    return ""  # Rounded already.
  own = ""
  if isinstance(node, ast.Name):
    own = node.id
  elif isinstance(node, ast.Attribute):
    own = node.attr
  elif isinstance(node, ast.Constant) and isinstance(node.value, str):
    own = node.value
  return " ".join([own, *map(_names, ast.iter_child_nodes(node))])


def _is_claim(node) -> bool:
  return bool(_CLAIMED.search(_names(node)))


def _docstrings(tree) -> set[int]:
  """Of modules, classes and functions, whose examples may round."""
  return {
      id(node.body[0].value)
      for node in ast.walk(tree)
      if isinstance(getattr(node, "body", None), list)
      and node.body
      and isinstance(node.body[0], ast.Expr)
  }


def _rounds(node) -> bool:
  """Tells whether an expression rounds a number of a claim by itself."""
  if isinstance(node, ast.FormattedValue) and node.format_spec:
    spec = "".join(
        part.value if isinstance(part, ast.Constant) else ".9"
        for part in node.format_spec.values
    )
    return bool(_ROUNDS.search(spec)) and _is_claim(node.value)
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    return any(
        _CLAIMED.search(name) and _ROUNDS.search(spec)
        for name, spec in _IN_TEMPLATE.findall(node.value)
    )
  if isinstance(node, ast.Call):
    rounder = ast.unparse(node.func).rsplit(".", maxsplit=1)[-1]
    return rounder in _ROUNDERS and any(map(_is_claim, node.args))
  if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
    text = getattr(node.left, "value", None)
    return isinstance(text, str) and _is_claim(node.right)
  return False


def _faults(source: str) -> list[int]:
  """Lines in which a claim's number is rounded by hand."""
  tree = ast.parse(source)
  docs = _docstrings(tree)
  return [
      node.lineno
      for node in ast.walk(tree)
      if id(node) not in docs and _rounds(node)
  ]


def _files():
  for folder in ("accounting", "experiments", "examples", "benchmarks"):
    for path in sorted((_ROOT / folder).glob("**/*.py")):
      if path.name != "claims.py":
        yield path


def test_nothing_else_rounds_a_claim():
  found = {
      str(path.relative_to(_ROOT)): lines
      for path in _files()
      if (lines := _faults(path.read_text(encoding="utf-8")))
  }
  assert not found


@pytest.mark.parametrize(
    "planted",
    [
        'text = f"epsilon {epsilon:.3f}, loss"',
        "print(f\"({summary['epsilon']:g})\")",
        'print(f"{self.delta:>8.2e}")',
        'print(f"{value.epsilon:.{digits}f}")',
        'print("epsilon {epsilon:.3f}".format(epsilon=1.0))',
        '_TEXT = "delta {delta:.1e} of {total}"',
        'print("%.3f" % found.epsilon)',
        'print("%.3f %d" % (epsilon, steps))',
        "shown = round(epsilon, 3)",
        'shown = format(audit["bounds"][name], ".2f")',
        "shown = math.ceil(epsilon * 1000) / 1000",
        "shown = np.round(bounds, 4)",
        'print(f"{100 * confidence:g}%")',
    ],
)
def test_the_search_finds_what_is_planted(planted):
  assert _faults(planted) == [1]


@pytest.mark.parametrize(
    "fine",
    [
        'print(f"{claims.at_most(epsilon):>8}, {loss:.3f}")',
        'raise ValueError(f"epsilon must be above 0, got {epsilon!r}.")',
        '"""Returns epsilon.\n\n>>> round(epsilon(run), 3)\n"""',
        'print("{epsilon} and {loss:.2f}")',
    ],
)
def test_the_search_leaves_the_rest(fine):
  assert not _faults(fine)
