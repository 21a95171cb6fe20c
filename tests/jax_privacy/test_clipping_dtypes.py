"""`clipped_grad` and `clip_pytree` in each dtype, and at any scale."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from tests.support import float16, oracle
from tests.support.toy import batch as _batch
from tests.support.toy import loss as _loss
from tests.support.toy import params as _params


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("method", ["vmap", "ghost"])
def test_short_dtypes_are_summed_in_float32(dtype, method):
  float16.skip_if_missing(dtype)
  params, batch = _params(dtype), _batch(dtype=dtype)
  grad_fn = jax_privacy.clipped_grad(
      _loss, l2_clip_norm=0.5, return_grad_norms=True, method=method
  )
  # Compiled, a fused loop may keep more than 8 bits within it; as they are,
  # vmap and the oracle round after each operation.
  run = grad_fn if method == "vmap" else jax.jit(grad_fn)
  got, aux = run(params, batch)
  assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype("float32")}
  assert aux.grad_norms.dtype == jnp.float32
  want, _ = oracle.clipped_sum(_loss, params, batch, 0.5, gradient_fn=jax.grad)
  # vmap's and the oracle's gradients come with 8 bits, and their clipped sum
  # adds no error to speak of; ghost does not round gradients to 8 bits at all.
  rounding = 0 if method == "vmap" else float(jnp.finfo(dtype).eps)
  atol = 1e-5 + rounding * np.abs(want).max()
  np.testing.assert_allclose(oracle.flat64(got), want, rtol=0, atol=atol)


def test_float64_is_kept_and_can_be_asked_for():
  with jax.enable_x64(True):
    params = jax.tree.map(lambda x: x.astype(jnp.float64), _params())
    batch = jax.tree.map(lambda x: x.astype(jnp.float64), _batch())
    want, norms = oracle.clipped_sum(_loss, params, batch, 0.7)
    grad_fn = jax_privacy.clipped_grad(
        _loss, l2_clip_norm=0.7, return_grad_norms=True
    )
    got, aux = jax.jit(grad_fn)(params, batch)
    np.testing.assert_allclose(oracle.flat64(got), want, rtol=1e-12)
    np.testing.assert_allclose(aux.grad_norms, norms, rtol=1e-12)
    short = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    grad_fn = jax_privacy.clipped_grad(
        _loss, l2_clip_norm=0.7, dtype=jnp.float64
    )
    cast = jax.tree.map(lambda x: x.astype(jnp.float32), batch)
    sums = jax.jit(grad_fn)(short, cast)
    assert {x.dtype for x in jax.tree.leaves(sums)} == {jnp.dtype("float64")}


def test_float16_squares_that_underflow_are_clipped_all_the_same():
  float16.skip_if_missing(jnp.float16)
  # Each entry, 1e-4, squares to 1e-8: zero in float16, and a norm of zero would
  # let a gradient of norm 1e-4 x 100 through a clip norm of 1e-3.
  loss = lambda params, x: jnp.sum(params * x)
  grad_fn = jax_privacy.clipped_grad(loss, l2_clip_norm=1e-3)
  got = jax.jit(grad_fn)(
      np.zeros((1, 10_000), np.float16),
      np.full((1, 10_000), 1e-4, np.float16),
  )
  assert 0.999e-3 < oracle.norm(got) <= 1e-3


@functools.cache
def _clip_to(clip_norm):
  """`clip_pytree` to a number, compiled."""
  return jax.jit(lambda tree: jax_privacy.clip_pytree(tree, clip_norm))


@pytest.mark.parametrize("exponent", range(-44, 39, 6))
@pytest.mark.parametrize("clip_norm", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_norm_never_above_the_clip_norm_at_any_scale(exponent, clip_norm):
  # A sum of squares that underflows lets gradients through; one that overflows
  # must not either. Zero is allowed where squares overflow.
  scale = np.float32(10.0**exponent)
  pytree = {"a": np.full(1000, scale), "b": np.full((3, 7), -scale)}
  clipped, _ = _clip_to(clip_norm)(pytree)
  assert oracle.norm(clipped) <= clip_norm
  if oracle.norm(pytree) < 0.99 * clip_norm:
    # XLA flushes what is subnormal, below 1.2e-38, to zero.
    np.testing.assert_allclose(clipped["a"], pytree["a"], rtol=0, atol=1.2e-38)


@pytest.mark.few(2)
@pytest.mark.parametrize("size", [1, 10, 10**4, 10**6])
def test_clipped_norm_is_at_most_the_bound_in_exact_arithmetic(size):
  # Rounding of norm and product is bought off by the slack of `clip_factor`:
  # without it about half of these come out above the bound.
  for seed in range(20):
    rng = np.random.default_rng(seed)
    x = 10 * rng.standard_normal(size, dtype=np.float32)
    clipped, norm = _clip_to(0.3)([x])
    if norm > 0.3:
      assert 0.3 * (1 - 2e-6) < oracle.norm(clipped) <= 0.3


def test_clip_pytree_options():
  tree = {"a": jnp.array([3.0, 4.0])}
  clipped, norm = jax_privacy.clip_pytree(tree, 2.0, rescale_to_unit_norm=True)
  np.testing.assert_allclose(clipped["a"], [0.6, 0.8], rtol=1e-6)
  assert norm == 5.0
  clipped, _ = jax_privacy.clip_pytree(tree, 2.0, return_zero=True)
  assert oracle.norm(clipped) == 0
  clipped, norm = jax_privacy.clip_pytree({}, 1.0)
  assert clipped == {} and norm == 0
  zero, norm = jax_privacy.clip_pytree(jnp.zeros(3), 1.0)
  assert oracle.norm(zero) == 0 and norm == 0
  jitted = jax.jit(jax_privacy.clip_pytree)
  for bad in (0.0, -1.0, jnp.nan, jnp.inf):  # Known only when it runs.
    clipped, _ = jitted(tree, jnp.float32(bad))
    assert oracle.norm(clipped) == 0
  for bad in (-1.0, jnp.nan):
    with pytest.raises(ValueError, match="clip_norm must be a positive"):
      jax_privacy.clip_pytree(tree, jnp.float32(bad))  # Known beforehand.
  with pytest.raises(TypeError, match="real and floating point, got int32"):
    jax_privacy.clip_pytree(jnp.arange(3), 1.0)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1.0, 1e15])
def test_clip_pytree_to_0_or_infinity(size):
  tree = {"a": size * jnp.array([3.0, 0.0]), "b": size * jnp.array([4.0])}
  clip = jax_privacy.clip_pytree
  clipped, norm = clip(tree, jnp.inf)
  np.testing.assert_array_equal(clipped["a"], tree["a"])
  np.testing.assert_allclose(norm, 5 * size, rtol=1e-6)
  for options in ((0.0, False), (jnp.inf, True)):
    assert oracle.norm(clip(tree, *options)[0]) == 0
  unit, _ = clip(tree, 0.0, True)
  np.testing.assert_allclose(unit["b"], 0.8 * (size > 0), rtol=1e-6)
  assert oracle.norm(unit) <= 1
  assert oracle.norm(clip(tree, jnp.inf, return_zero=True)[0]) == 0
  tree["b"] = jnp.array([jnp.nan])
  for clip_norm in (0.0, jnp.inf):
    assert oracle.norm(clip(tree, clip_norm, clip_norm == 0)[0]) == 0
  assert np.isnan(clip(tree, jnp.inf, nan_safe=False)[0]["b"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_clip_pytree_keeps_short_dtypes_and_the_bound(dtype):
  float16.skip_if_missing(dtype)
  # Rounded to nearest, about half of these come out above the bound.
  for seed in range(5):
    x = np.random.default_rng(seed).standard_normal(50).astype(np.float32)
    x = jnp.asarray(10 * x, dtype)
    clipped, _ = jax_privacy.clip_pytree([x], 0.3)
    assert clipped[0].dtype == x.dtype
    # Rounding takes at most a unit, 2^-7 of an entry, from it.
    assert 0.3 * (1 - 2**-7) < oracle.norm(clipped) <= 0.3


def test_clip_pytree_keeps_the_largest_of_a_short_dtype():
  float16.skip_if_missing("float16")
  huge, _ = jax_privacy.clip_pytree(jnp.float16(6e4), 1e6)
  assert huge == jnp.float16(6e4)


def _parts():
  return {"a": jnp.array([3.0, 4.0]), "b": {"c": jnp.array([0.3]), "d": 0.4}}


@pytest.mark.parametrize("is_traced", [False, True])
def test_clip_pytree_takes_a_norm_for_each_part(is_traced):
  norms = {"a": 2.5, "b": 1.0}
  clip = jax_privacy.clip_pytree
  tree = jax.tree.map(jnp.asarray, _parts())
  if is_traced:
    clip = jax.jit(clip, static_argnums=2)
    norms = jax.tree.map(jnp.float32, norms)
  clipped, found = clip(tree, norms)
  np.testing.assert_allclose(clipped["a"], [1.5, 2.0], rtol=1e-5)
  np.testing.assert_allclose(clipped["b"]["c"], [0.3], rtol=1e-6)
  np.testing.assert_allclose([found["a"], found["b"]], [5.0, 0.5], rtol=1e-6)
  rescaled, _ = clip(tree, norms, True)
  want = np.array([1.5, 2.0]) / np.hypot(2.5, 1.0)
  np.testing.assert_allclose(rescaled["a"], want, rtol=1e-5)
  # One part that is not finite takes the others with it.
  tree["b"]["d"] = jnp.float32(jnp.nan)
  clipped, _ = clip(tree, norms)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(clipped))


@pytest.mark.parametrize(
    "norms, text",
    [
        ({"a": 1.0}, "clip_norm must be a pytree prefix"),
        ({"a": 1.0, "b": 0.0}, "clip_norm must be a positive"),
        ({}, "clip_norm must be a number or a pytree"),
    ],
)
def test_clip_pytree_refuses_other_norms(norms, text):
  with pytest.raises(ValueError, match=text):
    jax_privacy.clip_pytree(_parts(), norms)
