"""docs/from_*.md: each program of ours runs, and does what its page says."""

import contextlib
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import launch


def _run(name):
  """Runs a page's programs in turn; returns names, w's and outputs."""
  page = (launch.ROOT / "docs" / name).read_text(encoding="utf-8")
  programs = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
  found, weights, printed = {}, [], ""
  with (
      jax.numpy_dtype_promotion("standard"),
      jax.numpy_rank_promotion("allow"),
  ):
    for program in programs:
      out = io.StringIO()
      with contextlib.redirect_stdout(out):
        exec(compile(program, name, "exec"), found)  # noqa: S102
      weights.append(np.asarray(found.get("w")))
      printed += out.getvalue()
  shown = "".join(re.findall(r"```\n([\d.]+\n)```", page))
  return found, weights, printed, shown


@pytest.fixture(name="optax_page", scope="module")
def _optax_page():
  return _run("from_optax_dpsgd.md")


def test_outputs_are_as_shown(optax_page):
  _, _, printed, shown = optax_page
  assert printed == shown and len(shown.split()) == 2


def test_every_program_learns(optax_page):
  _, weights, _, _ = optax_page
  assert len(weights) == 4
  for w in weights:
    # A step's noise is 0.3 x 2 / 64 = 0.0094 a coordinate. The Hessian is 2,
    # so with momentum 0.5 the eigenvalues of a step are below 0.75 in size:
    # what is left has a standard deviation below 0.0094 / (1 - 0.75) = 0.04.
    np.testing.assert_allclose(w, [1.0, -2.0, 0.5], atol=0.4)


@pytest.mark.slow
def test_opacus():
  found, _, printed, _ = _run("from_opacus.md")
  assert printed == "True\n"
  params, x = found["params"], found["x"]
  right = ((x @ params["w"] + params["b"] > 0) == (found["y"] > 0)).mean()
  # 100 steps of separable data; chance is half, 500 rows are off by 0.02.
  assert right > 0.8


@pytest.mark.slow
def test_tf_privacy():
  found, (w,), _, _ = _run("from_tf_privacy.md")
  right = (jnp.argmax(found["x"] @ w, axis=1) == found["y"]).mean()
  # Chance is a third.
  assert right > 0.7
  assert "1000" in str(found["statement"]).replace(",", "")


def test_jax_privacy():
  _, weights, printed, _ = _run("from_jax_privacy.md")
  assert printed == "True\n" and len(weights) == 2
  for w in weights:
    # The Hessian is 2, so a step of 0.1 takes a fifth away. Noise of 2 / 50 a
    # step (less than 0.1 calibrated) leaves 0.1 x 0.1 / sqrt(1 - 0.8^2) = 0.02.
    np.testing.assert_allclose(w, [1.0, -2.0, 0.5], atol=0.4)
