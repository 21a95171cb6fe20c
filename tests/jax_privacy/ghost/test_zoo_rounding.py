"""What rounding, and numbers of any size, do to one example's share of a sum.

A sum of equal numbers rounds each time to the same side, and so further than
one of random numbers by the root of how many there are.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy.ghost import clip, norms, patches, sums


def _program(loss, plan, clip_norm=1.0):
  """The clipped sum of `loss` by that plan, to be compiled."""
  sum_fn = clip.GhostSum(
      fun=lambda w, *row: (loss(w, *row), None),
      argnums=0,
      batch_argnums=(1, 2),
      prng_argnum=None,
      clip_norms=clip_norm,
      divide_by=1.0,
      keep_batch_dim=False,
      nan_safe=True,
      dtype=None,
      spmd_axis_name=None,
      choose=lambda *_, **__: plan,
  )
  return jax.jit(sum_fn)


_kept_program = functools.cache(_program)


def _sum_and_norm(program, shape, batch):
  """Clipped sum of one example, and its norm beforehand."""
  args = np.zeros(shape, np.float32), *(x[None] for x in batch)
  total, _, norm, _ = program(args, np.zeros(1, bool))
  return np.asarray(total, np.float64), np.float64(norm[0])


def _share(program, shape, batch):
  """Norm of the one example's share of the sum over the clip norm, less 1."""
  total, _ = _sum_and_norm(program, shape, batch)
  return np.linalg.norm(total) - 1


def _dense(w, x, z):
  return jnp.sum((x @ w) * z)


def _embedding(w, ids, z):
  return jnp.sum(w[ids] * z)


def _conv(w, x, z):
  numbers = ("NHWC", "HWIO", "NHWC")
  out = jax.lax.conv_general_dilated(
      x[None], w, (1, 1), "SAME", dimension_numbers=numbers
  )
  return jnp.sum(out * z)


def _filled(kind, *shape):
  i = np.arange(np.prod(shape))
  ratio = {"constant": 1.0, "alternating": -1.0, "geometric": 1 - 1e-4}[kind]
  return (1.3 * ratio**i).reshape(shape).astype(np.float32)


_DENSE = (4, 65536), (65536, 2)  # Four positions; 65,536 inputs.
_MANY = (256, 300), (300, 40)
_LONG = (4096, 2), (2, 3)  # XLA sums 4,096 positions in one accumulator.


@pytest.mark.few(3)
@pytest.mark.parametrize("plan", ["ghost", "redo", "keep"])
@pytest.mark.parametrize("x_shape, w_shape", [_DENSE, _MANY, _LONG])
def test_share_of_constant_inputs(plan, x_shape, w_shape):
  z = np.full((x_shape[0], w_shape[1]), 0.7, np.float32)
  batch = _filled("constant", *x_shape), z
  assert _share(_kept_program(_dense, plan), w_shape, batch) <= 1e-6


@pytest.mark.parametrize("kind", ["alternating", "geometric"])
def test_share_of_other_inputs_that_round_to_one_side(kind):
  z = np.full((4, 2), 0.7, np.float32)
  batch = _filled(kind, *_DENSE[0]), z
  assert _share(_kept_program(_dense, "ghost"), _DENSE[1], batch) <= 1e-6


def test_share_of_a_token_that_is_all_the_text():
  ids = np.full(1500, 3)
  z = np.full((1500, 16), 1.3, np.float32)
  program = _program(_embedding, "ghost")
  assert _share(program, (7, 16), (ids, z)) <= 1e-6


@pytest.mark.parametrize("plan", ["ghost", "redo"])
def test_share_of_a_flat_image(plan):
  x = np.full((14, 14, 16), 1.3, np.float32)
  z = np.full((1, 14, 14, 16), 0.7, np.float32)
  assert _share(_program(_conv, plan), (3, 3, 16, 16), (x, z)) <= 1e-6


def test_sums_in_one_go_are_caught(monkeypatch):
  # And of the rounding up that is left, none.
  monkeypatch.setattr(patches, "GRAM_BLOCK", 10**9)
  monkeypatch.setattr(norms, "_FREE", 10**9)
  z = np.full((4, 2), 0.7, np.float32)
  shares, program = [], _program(_dense, "ghost")
  for value in (1.1, 1.3, 1.7):
    x = np.full(_DENSE[0], value, np.float32)
    shares.append(_share(program, _DENSE[1], (x, z)))
  assert max(map(abs, shares)) > 1e-6


def test_outer_in_blocks():
  rng = np.random.default_rng(31)
  for inputs, outputs in ((3, 5), (5, 3)):
    x = rng.normal(size=(2, 2, 2 * sums.POSITION_BLOCK + 5, inputs))
    z = rng.normal(size=(2, 2, 2 * sums.POSITION_BLOCK + 5, outputs))
    with jax.enable_x64(True):
      got = sums.outer(jnp.asarray(x), jnp.asarray(z))
    want = np.einsum("bstd,bstp->sdp", x, z)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_merged_keeps_the_sum_of_each_id():
  rng = np.random.default_rng(32)
  ids, z = rng.integers(-2, 4, 150), rng.normal(size=(150, 3))
  with jax.enable_x64(True):
    is_row = jnp.asarray(ids >= 0)
    got = np.asarray(sums.merged(jnp.asarray(ids), is_row, jnp.asarray(z)))
  assert np.sum(np.any(got, axis=1)) <= 3 * 4  # Of three blocks, four ids.
  for i in range(-2, 4):
    want = z[ids == i].sum(axis=0) * (i >= 0)
    np.testing.assert_allclose(got[ids == i].sum(axis=0), want, atol=1e-12)


@pytest.mark.few(1)
@pytest.mark.parametrize("rescale", [False, True])
def test_methods_agree_at_any_clip_norm(rescale):
  # Beside the clip norm: what vanishes, what is kept, what is cut.
  relative = np.array([1e-25, 1e-12, 0.3, 7.0, 1e6], np.float32)
  tree = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
  loss = lambda p, x: jnp.sum((jnp.full((1, 3), x) @ p["w"]) + p["b"][None] * x)
  for clip_norm in (1e-30, 1e-20, 1e-5, 1e5, 1e30):
    # A gradient that is subnormal is 0 by either method.
    sizes = np.float32(relative * clip_norm / 3)
    x = jnp.asarray(np.where(sizes < 1e-37, 0, sizes))
    results = []
    for method in ("ghost", "vmap"):
      grad_fn = jax_privacy.clipped_grad(
          loss,
          l2_clip_norm=clip_norm,
          rescale_to_unit_norm=rescale,
          keep_batch_dim=False,
          return_grad_norms=True,
          method=method,
      )
      total, aux = grad_fn(tree, x)
      results.append((total["w"], total["b"], aux.grad_norms))
    for got, want in zip(*results, strict=True):
      atol = 1e-14 * clip_norm
      np.testing.assert_allclose(got, want, rtol=1e-5, atol=atol)
    # Two that are cut and one that is not: no zeros.
    assert np.linalg.norm(np.float64(results[0][0])) > (
        1.0 if rescale else clip_norm
    )


@pytest.mark.few(6)
@pytest.mark.parametrize("plan", ["ghost", "redo", "keep"])
@pytest.mark.parametrize(
    "clip_norm, of_x", [(1e-20, 1e-25), (1e-20, 1.0), (1e20, 1.0), (1e20, 1e25)]
)
def test_an_extreme_norm_may_come_from_either_operand(plan, clip_norm, of_x):
  # Of 3 x 2 numbers of that size and four positions: 4 sqrt(6) of it.
  x = np.full((4, 3), of_x, np.float32)
  z = np.full((4, 2), clip_norm / of_x, np.float32)
  program = _kept_program(_dense, plan, clip_norm)
  total, norm = _sum_and_norm(program, (3, 2), (x, z))
  np.testing.assert_allclose(norm / clip_norm, 4 * np.sqrt(6), rtol=1e-5)
  np.testing.assert_allclose(total / clip_norm, np.sqrt(1 / 6), rtol=1e-5)


@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_gradients_far_below_the_clip_norm_are_kept(method):
  # Scaled to a clip norm of 1e30 they would be 0.
  loss = lambda w, x: jnp.sum(x * w)
  for clip_norm, size in ((1e30, 1e-9), (1.0, 1e-30), (1e-20, 1e-22)):
    grad_fn = jax_privacy.clipped_grad(
        loss, l2_clip_norm=clip_norm, method=method
    )
    got = grad_fn(jnp.float32(1), jnp.full((2, 1), size))
    np.testing.assert_allclose(got, 2 * size, rtol=1e-5)


@pytest.mark.parametrize("clip_norm", [1e-31, 1.1e30, 1e-38])
def test_clip_norms_out_of_range_are_refused(clip_norm):
  rule = "must be between 1e-30 and 1e.30, got"
  with pytest.raises(ValueError, match=f"^l2_clip_norm {rule}"):
    jax_privacy.clipped_grad(_dense, l2_clip_norm=clip_norm)
  with pytest.raises(ValueError, match=f"^clip_norm {rule}"):
    jax_privacy.clip_pytree(jnp.ones(2), clip_norm)
  with pytest.raises(ValueError, match="^normalize_by must be such that"):
    jax_privacy.clipped_grad(_dense, l2_clip_norm=1.0, normalize_by=1e31)
  got, _ = jax.jit(jax_privacy.clip_pytree)(jnp.ones(2), jnp.float32(clip_norm))
  assert not np.any(got)
