"""Ghost clipping of short dtypes: what is rounded, and what must not be.

Gradients of bfloat16 and float16 losses are rounded on their way, so sums can
only be near the float64 reference; but a norm is of squares, and squares must
be taken in float32, or float16 gradients of 1e-4 have a norm of 0 and are let
through unclipped.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy.ghost import clip
from tests.support import float16, zoo

_ARRAYS = zoo.Arrays(14)
_PARAMS = {"w": _ARRAYS.normal(4, 3), "b": _ARRAYS.normal(3)}
_X, _IMAGES = _ARRAYS.batch(5, 4), _ARRAYS.batch(6, 6, 2)
# Bits of the significand, and some for a few roundings one after the other.
_TOLERANCE = {"bfloat16": 8 * 2.0**-8, "float16": 8 * 2.0**-11}


def _dense(params, x):
  y = zoo.add_bias(x @ params["w"], params["b"])
  return jnp.sum((jnp.tanh(y) ** 2).astype(jnp.float32))


def _conv(params, x):
  y = jax.lax.conv_general_dilated(
      x, params["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  return jnp.sum((jnp.tanh(y) ** 2).astype(jnp.float32))


def _embedding(params, ids):
  return jnp.sum((jnp.tanh(params["t"][ids]) ** 2).astype(jnp.float32))


_LOSSES = {
    "dense": (_dense, _PARAMS, _X),
    "conv": (_conv, {"k": _ARRAYS.normal(3, 3, 2, 3) / 4}, _IMAGES),
    "embedding": (
        _embedding,
        {"t": _ARRAYS.normal(6, 3)},
        _ARRAYS.integers(0, 6, 4, 5),
    ),
}


def _in_dtype(loss, dtype):
  """The loss with activations, and so all of its work, in a short dtype."""

  def short(params, x):
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    return loss(params, x.astype(dtype) if x.dtype != jnp.int32 else x)

  return short


def _clipped(loss, params, x, clip_norm, **options):
  grad_fn = jax_privacy.clipped_grad(
      loss,
      l2_clip_norm=clip_norm,
      return_grad_norms=True,
      method=zoo.METHOD,
      **options,
  )
  return jax.jit(grad_fn)(params, x)


@pytest.mark.few(3)
@pytest.mark.parametrize("short_params", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", list(_LOSSES))
def test_short_dtypes(name, dtype, short_params):
  float16.skip_if_missing(dtype)
  loss, params, x = _LOSSES[name]
  case = zoo.Case(name=name, loss=loss, params=params, batch=(x,))
  clip_norm, norms, want = zoo.expected(case, zoo.reference(case)[2])
  given = zoo.cast(params, dtype if short_params else "float32")
  got, aux = _clipped(
      _in_dtype(loss, dtype), given, zoo.cast(x, "float32"), clip_norm
  )
  assert aux.grad_norms.dtype == jnp.float32
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(got))
  np.testing.assert_allclose(aux.grad_norms, norms, rtol=_TOLERANCE[dtype])
  zoo.close_whole(got, want, _TOLERANCE[dtype], name)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", list(_LOSSES))
def test_squares_do_not_underflow(name):
  float16.skip_if_missing("float16")
  # Gradients near 1e-4 are float16 numbers; their squares are all 0.
  loss, params, x = _LOSSES[name]
  params, x = zoo.cast(params, "float16"), zoo.cast(x, "float32")
  small = lambda params, x: _in_dtype(loss, "float16")(params, x) * 1e-4
  _, aux = _clipped(small, params, x, 1.0)
  _, large = _clipped(_in_dtype(loss, "float16"), params, x, 1.0)
  # Numbers below 6e-5 have fewer bits yet, hence 5 per cent.
  np.testing.assert_allclose(aux.grad_norms, 1e-4 * large.grad_norms, rtol=0.05)


@pytest.mark.few(3)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", list(_LOSSES))
def test_short_sums_stay_under_the_clip_norm(name, dtype):
  float16.skip_if_missing(dtype)
  # Rounding a clipped gradient to a short dtype could lift it above.
  loss, params, x = _LOSSES[name]
  params, x = zoo.cast(params, dtype), zoo.cast(x, "float32")
  got, aux = _clipped(_in_dtype(loss, dtype), params, x[:1], 0.01)
  assert aux.grad_norms > 0.01
  flat = [np.asarray(g, np.float64).ravel() for g in jax.tree.leaves(got)]
  assert np.linalg.norm(np.concatenate(flat)) <= 0.01 * (1 + 1e-5)


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_dtype_of_the_sum(dtype):
  with jax.enable_x64(True):
    params, x = zoo.cast((_PARAMS, _X), "float32")
    got, aux = _clipped(_dense, params, x, 1.0, dtype=dtype)
    want, _ = _clipped(_dense, params, x, 1.0)
  for leaf in jax.tree.leaves(got):
    assert leaf.dtype == jnp.dtype(dtype or "float32")
  assert aux.grad_norms.dtype == jnp.dtype(dtype or "float32")
  zoo.close_whole(got, want, 1e-5, f"sum in {dtype}")


def test_parameters_of_two_dtypes():
  params = zoo.cast(_PARAMS, "float32")
  params["w"] = params["w"].astype("bfloat16")
  x = zoo.cast(_X, "float32")
  loss = functools.partial(_in_dtype(_dense, "float32"))
  got, aux = _clipped(loss, params, x, 1.0)
  whole = {name: p.astype("float32") for name, p in params.items()}
  want, want_aux = _clipped(loss, whole, x, 1.0)
  # w's own gradient may be rounded to its dtype; b's may not.
  np.testing.assert_allclose(aux.grad_norms, want_aux.grad_norms, rtol=2**-7)
  zoo.close_whole(got, want, 2.0**-7, "two dtypes")


def _sum_by(plan, loss, x):
  """Sum and norms, float64 operands and a float32 parameter, by that plan."""
  sum_fn = clip.GhostSum(
      fun=lambda w, x: (loss(w.astype("float64"), x), None),
      argnums=0,
      batch_argnums=(1,),
      prng_argnum=None,
      clip_norms=1.0,
      divide_by=1.0,
      keep_batch_dim=False,
      nan_safe=True,
      dtype=None,
      spmd_axis_name=None,
      choose=lambda *_, **__: plan,
  )
  w, is_padding = jnp.zeros((3, 2), "float32"), jnp.zeros(len(x), bool)
  total, _, norms, _ = jax.jit(sum_fn)((w, x), is_padding)
  return np.asarray(total), np.asarray(norms)


@pytest.mark.few(1)
@pytest.mark.parametrize("plan", ["ghost", "keep", "redo"])
def test_float64_operands_are_not_cut(plan):
  # In float32 x is infinite and its cotangents are 0: their product is NaN.
  with jax.enable_x64(True):
    x = jnp.full((2, 4, 3), 1e100, "float64")
    loss = lambda w, x: jnp.sum(x @ w) * 1e-100 / 8
    total, norms = _sum_by(plan, loss, x)
  # Two gradients of 6 times 1/2.
  np.testing.assert_allclose(norms, np.sqrt(6) / 2, rtol=1e-5)
  np.testing.assert_allclose(total, 2 / np.sqrt(6), rtol=1e-5)


@pytest.mark.parametrize("plan", ["ghost", "keep", "redo"])
def test_what_is_finite_in_float64_alone_counts_zero(plan):
  # Kept in float32 it is infinite, and infinity times a small factor too.
  with jax.enable_x64(True):
    x = jnp.array([1e60, 1.0], "float64").reshape(2, 1, 1)
    x = jnp.broadcast_to(x, (2, 4, 3))
    total, _ = _sum_by(plan, lambda w, x: jnp.sum(x @ w), x)
  np.testing.assert_allclose(total, 1 / np.sqrt(6), rtol=1e-5)
