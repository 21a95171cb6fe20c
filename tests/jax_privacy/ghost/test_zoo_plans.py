"""Ghost clipping by each of its plans, on losses for which any could be chosen.

Which plan is the fastest depends on shapes and platform; what it gives must
not. Rates that no machine has make a plan win wherever it is possible.
"""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jax_privacy.ghost import costs
from jax_privacy.models import layers
from tests.support import zoo

# `test_plans.py` has each plan by itself; these are whole losses.
pytestmark = pytest.mark.slow

_ARRAYS = zoo.Arrays(16)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch
_FREE, _DEAR = 1e30, 1e-3  # Flops, or bytes, in a second.
_FAVOURED = {
    "ghost": {"gram": _FREE, "moved": _DEAR},
    "keep": {"gram": _DEAR, "moved": _FREE, "kept": _FREE, "launched": 1.0},
    "redo": {"gram": _DEAR, "moved": _DEAR, "kept": 0.0},
}


def _conv(x, w, **options):
  return jax.lax.conv_general_dilated(
      x,
      w,
      options.pop("strides", (1, 1)),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      **options,
  )


def _standardised(p, x):
  return zoo.readout(_conv(x, layers.standardise_weight(p["w"], p["gain"])))


def _scan(w, x):
  step = lambda h, row: (jnp.tanh(h @ w + row[None]), None)
  return zoo.readout(jax.lax.scan(step, x[0, :1], x[0])[0])


_CASES = {
    "dense": (lambda w, x: zoo.readout(x @ w), _normal(4, 3), _batch(5, 4)),
    "dense_one_position": (
        lambda w, x: zoo.readout(x @ w),
        _normal(4, 3),
        _batch(4),
    ),
    "dense_shared_axis": (
        lambda w, x: zoo.readout(jnp.einsum("btgi,gio->btgo", x, w)),
        _normal(2, 4, 3),
        _batch(5, 2, 4),
    ),
    "transposed": (lambda w, x: zoo.readout(x @ w.T), _normal(3, 4),
                   _batch(5, 4)),
    "two_layers": (
        lambda w, x: zoo.readout(jnp.tanh(x @ w) @ w),
        _normal(4, 4),
        _batch(5, 4),
    ),
    "embedding": (
        lambda w, ids: zoo.readout(jnp.sin(w[ids])),
        _normal(6, 3),
        _ARRAYS.integers(-7, 7, 4, 5),
    ),
    "conv": (lambda w, x: zoo.readout(_conv(x, w)), _normal(3, 3, 2, 3),
             _batch(4, 5, 2)),
    "conv_strided": (
        lambda w, x: zoo.readout(_conv(x, w, strides=(2, 1))),
        _normal(3, 2, 2, 3),
        _batch(5, 4, 2),
    ),
    "conv_dilated": (
        lambda w, x: zoo.readout(
            _conv(x, w, rhs_dilation=(2, 1), strides=(1, 2))
        ),
        _normal(2, 3, 2, 3),
        _batch(5, 4, 2),
    ),
    "conv_grouped": (
        lambda w, x: zoo.readout(_conv(x, w, feature_group_count=2)),
        _normal(3, 3, 2, 4),
        _batch(4, 4, 4),
    ),
    "standardised": (
        _standardised,
        {"w": _normal(3, 3, 2, 4), "gain": 1 + 0.2 * _normal(4)},
        _batch(4, 4, 2),
    ),
    "bias": (
        lambda p, x: zoo.readout(zoo.add_bias(x @ p["w"], p["b"])),
        {"w": _normal(4, 3), "b": _normal(3)},
        _batch(5, 4),
    ),
    "scan": (_scan, _normal(4, 4), _batch(3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("plan", list(_FAVOURED))
@pytest.mark.parametrize("name", list(_CASES))
def test_plan(monkeypatch, name, plan):
  rates = dataclasses.replace(costs.RATES["cpu"], **_FAVOURED[plan])
  monkeypatch.setitem(costs.RATES, jax.default_backend(), rates)
  loss, params, data = _CASES[name]
  zoo.check(zoo.Case(name=name, loss=loss, params=params, batch=(data,)))
