"""Ghost clipping of losses and data made to defeat it, and the zoo's own test.

Whatever the numbers are, one example adds no more than the clip norm.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from tests.support import zoo

_ARRAYS = zoo.Arrays(15)
_PARAMS = {"w": _ARRAYS.normal(4, 3), "b": _ARRAYS.normal(3)}
_BATCH = (_ARRAYS.batch(5, 4), _ARRAYS.batch(5, 3))


def _loss(params, x, y):
  return jnp.sum(zoo.add_bias(x @ params["w"], params["b"]) * y)


def _conv_loss(params, x, y):
  kernel = params["w"].reshape(2, 2, 1, 3)
  out = jax.lax.conv_general_dilated(
      x[..., None], kernel, (1, 1), "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )  # fmt: skip
  return jnp.sum(jnp.sum(out, axis=2) * y)


def _tied_loss(params, x, y):
  return _loss(params, x, y) + jnp.sum((x @ params["w"] @ params["w"].T) * x)


# Each with what was compiled for it.
_PROGRAMS = {_loss: {}, _conv_loss: {}, _tied_loss: {}}
_LOSSES = pytest.mark.parametrize("loss", list(_PROGRAMS))


def _lone(loss, *batch):
  """A case of one example."""
  return zoo.Case(
      name="lone",
      loss=loss,
      params=_PARAMS,
      batch=batch,
      programs=_PROGRAMS[loss],
  )


@pytest.mark.few(2)
@_LOSSES
@pytest.mark.parametrize(
    "size",
    [
        *(1e-20, 1e-12, 1e12, 1e18),
        # Between them.
        *(pytest.param(s, marks=pytest.mark.slow) for s in (1e-6, 1e6)),
    ],
)
def test_gradients_of_any_size(loss, size):
  """Sizes whose squares leave float32; clip norms of the same size and not."""
  x, y = (a[:1] for a in _BATCH)
  case = _lone(loss, x, y * size)
  zoo.check_bound(case, clip_norms=(1e-3 * size, 10 * size, 1.0))


@pytest.mark.few(2)
@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e6, 1e12])
def test_norms_of_any_size(size):
  case = zoo.Case(
      name="sized", loss=_loss, params=_PARAMS,
      batch=(_BATCH[0], _BATCH[1] * size), run=zoo.F32, runs=zoo.NOT_JITTED,
  )  # fmt: skip
  zoo.check(case)  # With a clip norm of that size.


@pytest.mark.few(1)
@_LOSSES
@pytest.mark.parametrize(
    "seed",
    [0, 1, *(pytest.param(s, marks=pytest.mark.slow) for s in (2, 3))],
)
def test_positions_that_nearly_cancel(loss, seed):
  """+v at one position and -(1 - 1e-6)v at the next: squares lose the rest."""
  arrays = zoo.Arrays(seed)
  v = np.repeat(arrays.normal(8, 4), 2, axis=0)[None] * 1e3
  signs = np.tile([1.0, -1.0 + 1e-6], 8)
  y = signs[None, :, None] * np.ones((1, 16, 3))
  zoo.check_bound(_lone(loss, v, y), clip_norms=(1e-6, 1e-3, 1.0))


def _closed_over(w, x):
  constant = jnp.asarray(_BATCH[0][0, :1], x.dtype)[None]
  return zoo.readout(x * constant @ w["w"])


def _flags(w, x, i, flag):
  scale = jnp.where(flag, i, -2 * i).astype(x.dtype)
  return zoo.readout(x * scale.reshape(1, 1, 1) @ w["w"])


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "case",
    [
        zoo.Case(
            name="constant_closed_over",
            loss=_closed_over,
            params=_PARAMS,
            batch=(_BATCH[0],),
            runs=zoo.NOT_JITTED,
        ),
        zoo.Case(
            name="integer_and_bool_data",
            loss=_flags,
            params=_PARAMS,
            batch=(
                _BATCH[0],
                np.array([1, 3, 2, 5]),
                np.array([True, False, True, True]),
            ),
            runs=zoo.NOT_JITTED,
            run=zoo.EAGER,
        ),
        zoo.Case(
            name="data_not_used",
            loss=lambda p, x, y: jnp.sum(jnp.sin(p["w"])),
            params=_PARAMS,
            batch=_BATCH,
            clip_norm=1.0,
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        zoo.Case(
            name="gradient_is_zero",
            loss=lambda p, x, y: jnp.sum(jax.lax.stop_gradient(x @ p["w"])),
            params=_PARAMS,
            batch=_BATCH,
            clip_norm=1.0,
            runs=zoo.NOT_JITTED,
        ),
        zoo.Case(
            name="one_example_is_zero",
            loss=_loss,
            params=_PARAMS,
            batch=(_BATCH[0], np.where(np.arange(4) == 2, 0, _BATCH[1].T).T),
            run=zoo.F32,
        ),
        zoo.Case(
            name="all_examples_are_clipped",
            loss=_tied_loss,
            params=_PARAMS,
            batch=_BATCH,
            clip_norm=1e-8,
        ),
        zoo.Case(
            name="none_is_clipped",
            loss=_tied_loss,
            params=_PARAMS,
            batch=_BATCH,
            clip_norm=1e8,
            run=zoo.F32,
        ),
        zoo.Case(
            name="data_of_several_sizes_in_a_pytree",
            loss=lambda p, d: _loss(p, d["x"], d["more"][0]),
            params=_PARAMS,
            batch=({"x": _BATCH[0], "more": [_BATCH[1], np.arange(4)]},),
            run=zoo.F32,
        ),
    ],
    ids=str,
)
def test_odd_losses(case):
  zoo.check(case)


@pytest.mark.parametrize(
    "loss",
    [
        lambda w, x: jnp.sum(x * w) if x.sum() > 0 else jnp.sum(w),
        lambda w, x: float(x.sum()) * w,
        lambda w, x: w * np.asarray(x).sum(),
        lambda w, x: w * jnp.sum(jnp.arange(int(x.sum()))),
    ],
)
def test_a_loss_that_asks_for_a_value(loss):
  grad_fn = jax_privacy.clipped_grad(loss, l2_clip_norm=1.0, method=zoo.METHOD)
  for run in (grad_fn, jax.jit(grad_fn)):
    with pytest.raises(TypeError, match=r"use jax\.lax\.cond or jnp\.where"):
      run(jnp.float32(1.0), jnp.ones((4, 3)))


@pytest.mark.parametrize(
    "loss", [lambda w, x: w * x, lambda w, x: jnp.int32(3)]
)
def test_a_loss_that_is_no_real_scalar(loss):
  grad_fn = jax_privacy.clipped_grad(loss, l2_clip_norm=1.0, method=zoo.METHOD)
  with pytest.raises(TypeError, match="scalar"):
    grad_fn(jnp.float32(1.0), jnp.ones((4, 3)))


def _without_bias(params, x, y):
  return _loss({**params, "b": jax.lax.stop_gradient(params["b"])}, x, y)


def _slightly_less(params, x, y):
  # Of the gradient, 1e-9: in float64 it shows.
  small = jax.tree.map(lambda p: p - 1e-9 * jax.lax.stop_gradient(p), params)
  return _loss(params, x, y) - 1e-9 * _loss(small, x, y)


@pytest.mark.few(1)
@pytest.mark.parametrize("wrong", [_without_bias, _slightly_less])
def test_the_zoo_sees_a_term_that_is_missing(monkeypatch, wrong):
  case = zoo.Case(
      name="planted",
      loss=_loss,
      params=_PARAMS,
      batch=_BATCH,
      runs=(),
  )
  zoo.check(case)
  right = zoo.reference(case)
  monkeypatch.setattr(zoo, "reference", lambda case: right)
  with pytest.raises(AssertionError, match="norms of planted"):
    zoo.check(dataclasses.replace(case, loss=wrong))


def test_the_zoo_sees_an_example_that_is_not_clipped(monkeypatch):
  batch = tuple(a[:1] for a in _BATCH)
  case = zoo.Case(name="planted", loss=_loss, params=_PARAMS, batch=batch)
  clipped = zoo.clipped
  monkeypatch.setattr(
      zoo, "clipped", lambda case, clip_norm, **kw: clipped(case, 1e9, **kw)
  )
  with pytest.raises(AssertionError, match="above 0.1"):
    zoo.check_bound(case, clip_norms=(0.1,))
