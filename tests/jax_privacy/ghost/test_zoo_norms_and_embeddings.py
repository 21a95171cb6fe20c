"""Ghost clipping of normalisation, embedding and attention layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy.models import layers
from tests.support import zoo

_ARRAYS = zoo.Arrays(5)
_normal, _batch, _integers = _ARRAYS.normal, _ARRAYS.batch, _ARRAYS.integers


def _along_last(vector, x):
  return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def _layer_norm(params, x):
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
  return zoo.add_bias(x * _along_last(params["scale"], x), params["bias"])


def _rms_norm(params, x):
  x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
  return x * _along_last(params["scale"], x)


def _group_norm(params, x, num_groups=2):
  grouped = x.reshape(len(x), -1, num_groups, x.shape[-1] // num_groups)
  grouped -= jnp.mean(grouped, axis=(1, 3), keepdims=True)
  square = jnp.mean(grouped**2, axis=(1, 3), keepdims=True)
  x = (grouped * jax.lax.rsqrt(square + 1e-5)).reshape(x.shape)
  return zoo.add_bias(x * _along_last(params["scale"], x), params["bias"])


def _of_this_library(params, x):
  norm = layers.GroupNorm(4, num_groups=2)
  norm.scale, norm.bias = nnx.Param(params["scale"]), nnx.Param(params["bias"])
  return norm(x)


def _norm_case(name, layer, *shape, keep=True, run=zoo.F64, runs=zoo.RUNS):
  loss = lambda params, x, y: jnp.sum(layer(params, x) ** 2 * y)
  params = {"scale": _normal(shape[-1]), "bias": _normal(shape[-1])}
  if layer is _rms_norm:
    del params["bias"]
  return zoo.Case(
      name=f"{name}-{'x'.join(map(str, shape))}-{'kept' * keep}",
      loss=loss,
      params=params,
      # The output does not depend on x's scale, so y's must differ.
      batch=(_batch(*shape), _batch(*shape)),
      options={"keep_batch_dim": keep},
      run=run,
      runs=runs,
  )


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "case",
    [
        _norm_case("layer", _layer_norm, 5, runs=zoo.NOT_JITTED),
        _norm_case("layer", _layer_norm, 5, keep=False, runs=zoo.NOT_JITTED),
        _norm_case("layer", _layer_norm, 3, 5),
        _norm_case("layer", _layer_norm, 2, 3, 5, keep=False, run=zoo.F32),
        _norm_case("rms", _rms_norm, 5, runs=zoo.NOT_JITTED),
        _norm_case("rms", _rms_norm, 3, 5, keep=False),
        _norm_case("rms", _rms_norm, 2, 3, 5, run=zoo.F32),
        _norm_case("group", _group_norm, 3, 4, runs=zoo.NOT_JITTED),
        _norm_case("group", _group_norm, 3, 2, 4),
        _norm_case("group", _group_norm, 2, 3, 3, 4, keep=False, run=zoo.F32),
        _norm_case("library", _of_this_library, 3, 2, 4, run=zoo.F32),
        _norm_case("library", _of_this_library, 2, 3, 3, 4, keep=False),
    ],
    ids=str,
)
def test_norm(case):
  zoo.check(case)


def _lookup(mode):
  """Rows of a table, by one of JAX's rules for ids out of range."""
  if mode == "index":
    return lambda table, ids: table[ids]
  if mode == "promise_in_bounds":
    return lambda table, ids: table.at[ids].get(mode=mode)
  return lambda table, ids: jnp.take(table, ids, axis=0, mode=mode)


def _embedding(
    mode, *shape, keep=True, run=zoo.F64, runs=zoo.RUNS, low=0, high=5
):
  look_up = _lookup(mode)

  def loss(table, ids, weight):
    rows = jnp.tanh(look_up(table, ids))
    # Rows out of range are NaN under jnp.take's own mode, "fill".
    return jnp.sum(jnp.where(jnp.isnan(rows), 0, rows) * weight)

  ids = _integers(low, high, 4, *shape)
  return zoo.Case(
      name=f"{mode}-{'x'.join(map(str, shape))}-{low}-{high}-{'kept' * keep}",
      loss=loss,
      params=_normal(5, 3),
      batch=(ids, _batch(*shape, 3)),
      options={"keep_batch_dim": keep},
      run=run,
      runs=runs,
  )


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        _embedding("index", run=zoo.EAGER, runs=zoo.NOT_JITTED),
        _embedding("index", keep=False, run=zoo.F32),
        # More ids than rows: some must repeat.
        _embedding("index", 9, runs=zoo.NOT_JITTED),
        _embedding("index", 2, 4, keep=False),
        _embedding("index", 7, low=-5, high=0, run=zoo.F32),
        # NumPy's rules: -1 is the last row; beyond either end, the end.
        _embedding("index", 11, low=-9, high=9, runs=zoo.NOT_JITTED),
        _embedding("clip", 9, low=-9, high=9),
        _embedding("fill", 9, low=-9, high=9, runs=zoo.NOT_JITTED),
        _embedding("wrap", 9, low=-9, high=9, keep=False),
        _embedding("promise_in_bounds", 9),
    ],
    ids=str,
)
def test_embedding(case):
  zoo.check(case)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "case",
    [
        zoo.Case(
            name="one_hot",
            loss=lambda w, ids: zoo.readout(
                jax.nn.one_hot(ids, 5, dtype=w.dtype) @ w
            ),
            params=_normal(5, 3),
            batch=(_integers(0, 5, 4, 6),),
            options={"keep_batch_dim": False},
            run=zoo.F32,
        ),
        zoo.Case(
            name="second_axis",
            loss=lambda w, ids: zoo.readout(jnp.take(w, ids, axis=1)),
            params=_normal(3, 5),
            batch=(_integers(0, 5, 4, 6),),
            run=zoo.F32,
        ),
        zoo.Case(
            name="two_indices",
            loss=lambda w, i, j: zoo.readout(w[i, j]),
            params=_normal(3, 4, 2),
            batch=(_integers(-3, 3, 4, 6), _integers(-4, 4, 4, 6)),
            options={"keep_batch_dim": False},
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        zoo.Case(
            name="take_along_axis",
            loss=lambda w, ids: zoo.readout(
                jnp.take_along_axis(w, ids.reshape(-1, 1), axis=1)
            ),
            params=_normal(6, 4),
            batch=(_integers(0, 4, 4, 6),),
            run=zoo.F32,
        ),
        zoo.Case(
            name="window_at_an_index",
            loss=lambda w, i: zoo.readout(
                jax.lax.dynamic_slice_in_dim(w, i.reshape(()), 3)
            ),
            params=_normal(7, 2),
            batch=(np.array([0, 2, 5, -3]),),  # 5 is moved to the last window.
        ),
        zoo.Case(
            name="position_table_and_token_table",
            loss=lambda p, ids: zoo.readout(
                (p["token"][ids] + p["position"][: ids.shape[-1]][None])
                @ p["out"]
            ),
            params={
                "token": _normal(6, 4),
                "position": _normal(9, 4),
                "out": _normal(4, 3),
            },
            batch=(_integers(0, 6, 4, 5),),
            runs=zoo.NOT_JITTED,
        ),
        zoo.Case(
            name="row_frozen_by_a_mask",
            loss=lambda w, ids: zoo.readout(
                jnp.where(
                    (jnp.arange(6) == 0)[:, None], jax.lax.stop_gradient(w), w
                )[ids]
            ),
            params=_normal(6, 3),
            batch=(_integers(0, 3, 4, 5),),
        ),
        zoo.Case(
            name="scaled_and_summed_rows",
            loss=lambda w, ids: zoo.readout(
                jnp.sum((2.0 * w["table"] * w["scale"])[ids], axis=-2)
            ),
            params={"table": _normal(6, 3), "scale": _normal(1, 3)},
            batch=(_integers(0, 6, 4, 5),),
        ),
    ],
    ids=str,
)
def test_indexing(case):
  zoo.check(case)


def _attention(params, x, heads=2):
  split = lambda y: y.reshape(*y.shape[:-1], heads, -1)
  q, k, v = (split(x @ params[name]) for name in ("q", "k", "v"))
  scores = jnp.einsum("...qhd,...khd->...hqk", q, k)
  mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
  mask = jnp.broadcast_to(mask, scores.shape)
  scores = jnp.where(mask, scores, -1e9)
  mixed = jnp.einsum("...hqk,...khd->...qhd", jax.nn.softmax(scores), v)
  return mixed.reshape(x.shape) @ params["o"]


def _attention_einsum(params, x):
  q, k, v = (jnp.einsum("...td,dhk->...thk", x, params[n]) for n in "qkv")
  scores = jax.nn.softmax(jnp.einsum("...qhd,...khd->...hqk", q, k))
  mixed = jnp.einsum("...hqk,...khd->...qhd", scores, v)
  return jnp.einsum("...thk,hkd->...td", mixed, params["o"])


def _transformer(params, ids, targets):
  """One block before the norm, and an output layer tied to the embedding."""
  x = params["embed"][ids] + params["position"].reshape(
      (1,) * (ids.ndim - 1) + params["position"].shape
  )
  x += _attention(params["attention"], _layer_norm(params["norm"], x))
  hidden = _layer_norm(params["norm2"], x) @ params["up"]
  x += jax.nn.gelu(zoo.add_bias(hidden, params["b"])) @ params["down"]
  log_probs = jax.nn.log_softmax(x @ params["embed"].T)
  return -jnp.mean(jnp.take_along_axis(log_probs, targets[..., None], -1))


def _scaled(scale, *shapes):
  return [scale * _normal(*shape) for shape in shapes]


_QKVO = dict(zip("qkvo", _scaled(0.5, *[(6, 6)] * 4), strict=True))
_NORM = {"scale": 1 + 0.1 * _normal(6), "bias": 0.1 * _normal(6)}


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "case",
    [
        *zoo.both(
            name="attention",
            loss=lambda p, x: zoo.readout(_attention(p, x)),
            params=_QKVO,
            batch=(_batch(4, 6),),
        ),
        zoo.Case(
            name="attention_by_einsum",
            loss=lambda p, x: zoo.readout(_attention_einsum(p, x)),
            params=dict(
                zip(
                    "qkvo",
                    _scaled(0.5, *[(6, 2, 3)] * 3, (2, 3, 6)),
                    strict=True,
                )
            ),
            batch=(_batch(4, 6),),
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        *zoo.both(
            name="transformer",
            loss=_transformer,
            params={
                "embed": 0.5 * _normal(7, 6),
                "position": 0.3 * _normal(4, 6),
                "attention": _QKVO,
                "norm": _NORM,
                "norm2": _NORM,
                "up": _normal(6, 8),
                "b": _normal(8),
                "down": _normal(8, 6),
            },
            batch=(_integers(0, 7, 4, 4), _integers(0, 7, 4, 4)),
        ),
    ],
    ids=str,
)
def test_attention(case):
  zoo.check(case)
