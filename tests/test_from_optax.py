"""docs/from_optax_dpsgd.md: each program runs, and prints what is shown."""

import contextlib
import io
import re

import jax
import numpy as np
import pytest

from tests.support import launch

_PAGE = launch.ROOT / "docs/from_optax_dpsgd.md"


@pytest.fixture(name="page", scope="module")
def _page():
  """Runs the page's programs in turn; returns names, w's and outputs."""
  page = _PAGE.read_text(encoding="utf-8")
  programs = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
  found, weights, printed = {}, [], ""
  with (
      jax.numpy_dtype_promotion("standard"),
      jax.numpy_rank_promotion("allow"),
  ):
    for program in programs:
      out = io.StringIO()
      with contextlib.redirect_stdout(out):
        exec(compile(program, _PAGE.name, "exec"), found)  # noqa: S102
      weights.append(np.asarray(found["w"]))
      printed += out.getvalue()
  shown = "".join(re.findall(r"```\n([\d.]+\n)```", page))
  return weights, printed, shown


def test_outputs_are_as_shown(page):
  _, printed, shown = page
  assert printed == shown and len(shown.split()) == 2


def test_every_program_learns(page):
  weights, _, _ = page
  assert len(weights) == 4
  for w in weights:
    # A step's noise is 0.3 x 2 / 64 = 0.0094 a coordinate. The Hessian is 2,
    # so with momentum 0.5 the eigenvalues of a step are below 0.75 in size:
    # what is left has a standard deviation below 0.0094 / (1 - 0.75) = 0.04.
    np.testing.assert_allclose(w, [1.0, -2.0, 0.5], atol=0.4)
