"""Planted faults of sums in whole steps: `check_sensitivity` catches them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import sensitivity, testing

_SCALE = 1000


def _planted(fun, bound=_SCALE):
  return sensitivity.BoundedSensitivityCallable(
      fun=fun, l2_norm_bound=float(bound), has_aux=False, grid_step=1.0
  )


def _in_steps(rows, bound):
  norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
  return rows * jnp.minimum(1.0, bound / norms)


def _faulty(name):
  """Sums of rows, in steps; the clip norm is 100 steps, of 4,096 entries."""
  scale = 100

  def total(params, rows, is_padding_example):
    keep = ~is_padding_example[:, None]
    if name == "not tightened":
      steps = jnp.round(_in_steps(rows, scale))
    elif name == "tightened by a quarter step":
      steps = jnp.round(_in_steps(rows, scale - 16))
    elif name == "the grid half as fine as claimed":
      steps = 2 * jnp.round(_in_steps(rows, scale - 32) / 2) * 2
    elif name == "rounded after the sum":
      total = jnp.sum(jnp.where(keep, _in_steps(rows, scale), 0), axis=0)
      return jnp.round(total).astype(jnp.int32)
    else:
      steps = jnp.round(_in_steps(rows, scale - 32))
    steps = jnp.where(keep, steps, 0).astype(jnp.int32)
    return jnp.sum(steps, axis=0, dtype=jnp.int32) + 0 * params.astype(
        jnp.int32
    )

  return _planted(total, scale)


_FAULTS = (
    "not tightened",
    "tightened by a quarter step",
    "the grid half as fine as claimed",
    "rounded after the sum",
)


@pytest.mark.parametrize("name", [*_FAULTS, "sound"])
def test_planted_faults_are_caught(name):
  # Rows of 1.51 in each of 4096 entries, of norm 96.6, round to norm 128; in
  # 3090 entries, of norm 83.9, to 111. After the sum, 0.25 and 0.26 make all
  # entries round up at once.
  rows = np.full((5, 4096), 1.51)
  rows[4, 3090:] = 0.0
  rows[2] = 0.25
  rows[3] = 0.26
  rows = jnp.asarray(rows * np.where(np.arange(4096) % 2, 1, -1), jnp.float32)
  check = lambda: testing.check_sensitivity(
      _faulty(name), jnp.zeros(4096), rows
  )
  if name == "sound":
    check()
    return
  with pytest.raises(
      testing.SensitivityError, match="more than the claimed|is"
  ):
    check()


def test_an_integer_sum_without_a_grid_is_refused():
  fun = _faulty("sound").fun
  plain = sensitivity.BoundedSensitivityCallable(
      fun=fun, l2_norm_bound=100.0, has_aux=False
  )
  rows = jnp.ones((2, 4096))
  with pytest.raises(testing.SensitivityError, match="must be float32 or"):
    testing.check_sensitivity(plain, jnp.zeros(4096), rows)
