"""Ghost clipping where parameters are shared, unused, or not weights at all.

The norm of a sum is not the sum of norms: uses of one parameter must be added
before they are squared, wherever they are.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo

_ARRAYS = zoo.Arrays(8)
_normal, _batch, _integers = _ARRAYS.normal, _ARRAYS.batch, _ARRAYS.integers
_W = _normal(3, 3)
_GAINED = {"v": _normal(3, 3), "gain": 1 + 0.1 * _normal(1, 3)}


def _case(
    name, loss, params, *, run=zoo.F64, runs=zoo.RUNS, batch=None, **options
):
  batch = (_batch(4, 3),) if batch is None else batch
  return zoo.Case(
      name=name,
      loss=loss,
      params=params,
      batch=batch,
      options=options,
      run=run,
      runs=runs,
  )


def _in_and_outside_a_scan(params, x):
  x = 0.5 * x.reshape(-1, 3)
  step = lambda h, row: (jnp.tanh(h @ params["w"] + row[None]), None)
  h, _ = jax.lax.scan(step, x[:1] @ params["w"], x)
  return zoo.readout(h @ params["w"].T)


def _tied_embedding(table, ids):
  hidden = jnp.tanh(jnp.mean(table[ids], axis=-2))
  return zoo.readout(hidden @ table.T)


def _tied_through_a_layer(params, ids):
  hidden = jnp.tanh(params["table"][ids] @ params["w"])
  return zoo.readout(hidden @ (0.5 * params["table"]).T)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        _case(
            "used_twice",
            lambda w, x: zoo.readout(x @ w) + zoo.readout(2 * x @ w),
            _W,
            runs=zoo.NOT_JITTED,
        ),
        _case(
            "two_layers",
            lambda w, x: zoo.readout(jnp.tanh(x @ w) @ w),
            _W,
            runs=zoo.NOT_JITTED,
        ),
        _case(
            "two_layers_dropped",
            lambda w, x: zoo.readout(jnp.tanh(x @ w) @ w),
            _W,
            keep_batch_dim=False,
        ),
        _case(
            "transposed_in_the_second",
            lambda w, x: zoo.readout(jnp.tanh(x @ w) @ w.T),
            _normal(3, 5),
        ),
        # Uses that all but cancel: adding squares would be far too large.
        dataclasses.replace(
            _case(
                "opposite_uses",
                lambda w, x: zoo.readout(x @ w) - 0.999 * zoo.readout(x @ w),
                _W,
                run=zoo.F32,
            ),
            # A gradient g less 0.999 g: 1.999 |g| over 0.001 |g|.
            cancels=1999.0,
        ),
        _case(
            "two_slices",
            lambda w, x: zoo.readout(jnp.tanh(x @ w[:, :4]) @ w[:2, 2:].T),
            _normal(3, 6),
        ),
        _case(
            "weight_and_its_norm",
            lambda w, x: zoo.readout(x @ w) * (1 + jnp.sum(w**2)),
            _W,
            run=zoo.F32,
        ),
        _case(
            "bias_used_twice",
            lambda p, x: zoo.readout(
                zoo.add_bias(jnp.tanh(zoo.add_bias(x @ p["w"], p["b"])), p["b"])
            ),
            {"w": _W, "b": _normal(3)},
            run=zoo.F32,
        ),
        _case(
            "in_and_outside_a_scan",
            _in_and_outside_a_scan,
            {"w": _W},
            run=zoo.F32,
        ),
        _case(
            "tied_embedding",
            _tied_embedding,
            _normal(6, 3),
            batch=(_integers(0, 6, 4, 5),),
            runs=zoo.NOT_JITTED,
        ),
        _case(
            "tied_embedding_dropped",
            _tied_embedding,
            _normal(6, 3),
            batch=(_integers(0, 6, 4, 5),),
            keep_batch_dim=False,
        ),
        _case(
            "tied_embedding_through_a_layer",
            _tied_through_a_layer,
            {"table": _normal(6, 3), "w": _W},
            batch=(_integers(0, 6, 4, 5),),
        ),
    ],
    ids=str,
)
def test_shared(case):
  zoo.check(case)


def _lora(frozen, adapter, x):
  h = x @ frozen["w"] + 0.5 * (x @ adapter["a"] @ adapter["b"])
  return zoo.readout(jax.nn.relu(h) @ frozen["out"])


@pytest.mark.few(1)
@pytest.mark.parametrize("keep_batch_dim", [True, False])
def test_lora(keep_batch_dim):
  zoo.check(
      zoo.Case(
          name="lora",
          loss=_lora,
          params={"w": _W, "out": _W},
          batch=({"a": _W[:, :2], "b": _W[1:]}, zoo.Arrays(9).batch(4, 3)),
          options={
              "argnums": 1,
              "batch_argnums": (2,),
              "keep_batch_dim": keep_batch_dim,
          },
          runs=zoo.NOT_JITTED,
      )
  )


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "case",
    [
        _case(
            "unused",
            lambda p, x: zoo.readout(x @ p["v"]),
            _GAINED,
            runs=zoo.NOT_JITTED,
        ),
        _case(
            "used_and_thrown_away",
            lambda p, x: (p["gain"] * 2, zoo.readout(x @ p["v"]))[1],
            _GAINED,
        ),
        _case(
            "stopped",
            lambda p, x: zoo.readout(
                x @ (jax.lax.stop_gradient(p["gain"]) * p["v"])
            ),
            _GAINED,
            run=zoo.F32,
        ),
        _case(
            "only_its_shape",
            lambda p, x: zoo.readout(x @ p["v"]) / p["gain"].size,
            _GAINED,
        ),
        _case(
            "empty_parameter",
            lambda p, x: zoo.readout(x @ p["v"]) + jnp.sum(p["none"]),
            {"v": _W, "none": np.zeros((0, 3))},
            run=zoo.F32,
        ),
        # Weight decay: a part of the gradient that no example's data enters.
        _case(
            "weight_decay",
            lambda p, x: zoo.readout(x @ p["v"]) + 0.1 * jnp.sum(p["v"] ** 2),
            _GAINED,
            runs=zoo.NOT_JITTED,
        ),
        _case(
            "decay_of_another",
            lambda p, x: zoo.readout(x @ p["v"]) + jnp.sum(p["gain"] ** 4),
            _GAINED,
        ),
        _case(
            "decay_scaled_by_the_data",
            lambda p, x: jnp.mean(x**2) * jnp.sum(p["v"] ** 2),
            _GAINED,
        ),
    ],
    ids=str,
)
def test_partly_used(case):
  zoo.check(case)
