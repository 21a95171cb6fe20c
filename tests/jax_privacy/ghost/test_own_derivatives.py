"""Derivatives of one's own, which need not be linear in what they are given.

`jax.custom_vjp` lets a loss say any derivative. This one gives a cotangent unit
norm, so whoever scales or adds cotangents before it gets another gradient, of a
norm that clipping does not see. One example at a time is the oracle.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from tests.support import oracle

_CLIP_NORM = 0.01


@jax.custom_vjp
def _unit(x):
  """x, whose derivative makes a cotangent's norm one."""
  return x


def _unit_of(g):
  return g / jnp.sqrt(jnp.sum(g * g) + jnp.finfo(g.dtype).tiny)


_unit.defvjp(lambda x: (x, None), lambda _, g: (_unit_of(g),))


@jax.custom_vjp
def _product(x, w):
  return x @ w


def _product_backward(residuals, g):
  x, w = residuals
  return g @ w.T, _unit_of(x.T @ g)


_product.defvjp(lambda x, w: (x @ w, (x, w)), _product_backward)


def _scan(step, h, rows=None, length=None):
  step_fn = lambda h, row: (jnp.tanh(step(h, row)), None)
  return jax.lax.scan(step_fn, h, rows, length=length)[0]


def _nested(w, x):
  inner = lambda h, _: _scan(lambda h, _: h @ _unit(w), h, length=2)
  return _scan(inner, x, length=2)


_CASES = {
    "of_a_weight": lambda w, x: jnp.tanh(x @ _unit(w[0])),
    "of_a_product": lambda w, x: jnp.tanh(_product(x, w[0])),
    "of_what_is_made": lambda w, x: _unit(jnp.tanh(x @ w[0])),
    "of_a_mask": lambda w, x: jnp.tanh(x @ (_unit(w[0]) * jnp.tri(4))),
    "of_a_weight_in_a_loop": lambda w, x: _scan(
        lambda h, _: h @ _unit(w[0]), x, length=3
    ),
    "of_a_layer_in_a_loop": lambda w, x: _scan(
        lambda h, layer: h @ _unit(layer), x, w
    ),
    "of_a_product_in_a_loop": lambda w, x: _scan(
        lambda h, _: _product(h, w[0]), x, length=3
    ),
    "of_what_a_loop_makes": lambda w, x: _scan(
        lambda h, layer: _unit(h @ layer), x, w
    ),
    "of_a_weight_in_loops": lambda w, x: _nested(w[0], x),
    "of_a_branch_in_a_loop": lambda w, x: _scan(
        lambda h, _: jax.lax.cond(
            h[0, 0] > 0, lambda h: h @ _unit(w[0]), lambda h: h, h
        ),
        x,
        length=3,
    ),
    "of_a_checkpoint": lambda w, x: _scan(
        jax.checkpoint(lambda h, layer: _unit(h @ layer)), x, w
    ),
}


def _args():
  rng = np.random.default_rng(0)
  w = rng.normal(size=(3, 4, 4)).astype(np.float32)
  return w, rng.normal(size=(3, 2, 4)).astype(np.float32)


def _loss(make):
  return lambda w, x: jnp.sum(jnp.square(make(w, x)))


@pytest.mark.few(2)
@pytest.mark.parametrize("make", _CASES.values(), ids=_CASES)
def test_sums_are_those_of_one_example_at_a_time(make):
  loss, (w, x) = _loss(make), _args()
  got = jax.jit(
      jax_privacy.clipped_grad(
          loss, l2_clip_norm=_CLIP_NORM, keep_batch_dim=False
      )
  )(w, x)
  want, norms = oracle.clipped_sum(loss, w, x, _CLIP_NORM, keep_batch_dim=False)
  assert (norms > _CLIP_NORM).all()  # So each cotangent would be scaled.
  # Each example is right to some 64 roundings of its norm.
  atol = 64 * len(norms) * np.finfo(np.float32).eps * _CLIP_NORM
  np.testing.assert_allclose(oracle.flat64(got), want, rtol=0, atol=atol)


def test_it_is_refused_in_two_passes():
  # Scaled before it, the cotangent gave 168 times the clip norm.
  loss, args = _loss(_CASES["of_a_checkpoint"]), _args()
  grad_fn = jax_privacy.clipped_grad(
      loss, l2_clip_norm=_CLIP_NORM, keep_batch_dim=False, passes=2
  )
  with pytest.raises(ValueError, match="custom_vjp.* need not be linear"):
    grad_fn(*args)


@pytest.mark.slow
def test_without_it_a_checkpoint_takes_two_passes():
  """The refusal is of the derivative, not of all that is checkpointed."""
  layer = jax.checkpoint(lambda h, w: jnp.tanh(h @ w))
  loss, args = _loss(lambda w, x: _scan(layer, x, w)), _args()
  one, two = (
      jax_privacy.clipped_grad(
          loss, l2_clip_norm=_CLIP_NORM, keep_batch_dim=False, passes=passes
      )(*args)
      for passes in (1, 2)
  )
  np.testing.assert_allclose(one, two, rtol=0, atol=1e-5 * _CLIP_NORM)
