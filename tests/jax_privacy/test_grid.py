"""Sums in whole steps: the bound to the last integer, and planted faults."""

import math
import types
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_privacy
from jax_privacy import dp_sgd, grid, secure_noise, testing

_SCALE = 1000


def _linear(params, x):
  """Its gradient is the example itself, whatever the parameters."""
  return sum(jnp.sum(a * b) for a, b in zip(params, x, strict=True))


def _grad_fn(**options):
  options = {"l2_clip_norm": 2.0, "grid_scale": _SCALE} | options
  return jax_privacy.clipped_grad(_linear, keep_batch_dim=False, **options)


def _sum(*args, is_padding_example=None, **options):
  """The sum of a jitted `_grad_fn(**options)`."""
  grad_fn = jax.jit(_grad_fn(**options))
  return grad_fn(*args, is_padding_example=is_padding_example)


def _params(*sizes):
  return tuple(jnp.zeros(size) for size in sizes)


def _squares(tree):
  """The exact squared L2 norm of integers, of at most 2^63."""
  leaves = [np.asarray(x, np.int64).ravel() for x in jax.tree.leaves(tree)]
  assert max(np.abs(x).max() for x in leaves) < 2**24
  return sum(int(x @ x) for x in leaves)


def _adversarial(size, bound, rng):
  """Gradients whose rounding goes as far up as it can, and all others.

  `bound` is the clip norm in steps; rows are in steps too. Worst is an
  entry just above a half in every coordinate.
  """
  even = bound / math.sqrt(size)
  halves = np.floor(even) + 0.5 + np.array([[1e-3], [1e-6], [0.0], [-1e-6]])
  rows = [np.full((4, size), 1.0) * halves]
  rows.append(rng.normal(size=(4, size)) * bound)
  rows.append(rng.normal(size=(4, size)) * even)
  signs = rng.choice([-1.0, 1.0], size=(4, size))
  rows.append((np.floor(np.abs(rows[2])) + 0.5 + 1e-6) * signs)
  rows.append(np.eye(4, size) * bound * np.array([[1], [1.0001], [1e10], [-1]]))
  rows.append(np.full((1, size), 1e30))
  rows.append(np.full((1, size), 1e-30))
  return np.concatenate(rows)


@pytest.mark.parametrize("size, scale", [(1, 4), (4, 3), (900, 40), (2000, 23)])
def test_no_example_moves_the_sum_by_more_than_the_scale(size, scale):
  # To the integer: the exact sum of squares, no tolerance.
  rng = np.random.default_rng(0)
  rows = _adversarial(size, scale, rng) * 2.0 / scale
  grad_fn = jax.jit(_grad_fn(grid_scale=scale))
  shares = []
  for row in rows:
    total = grad_fn(_params(size), (jnp.asarray(row[None], jnp.float32),))
    assert total[0].dtype == jnp.int32
    shares.append(np.asarray(total[0], np.int64))
    assert _squares(total) <= scale**2
  sensitive = _grad_fn(grid_scale=scale).sensitivity
  assert sensitive("add_or_remove_one") == sensitive("replace_special") == scale
  assert sensitive("replace_one") == 2 * scale
  for a in shares:  # Any one replaced by any other.
    for b in shares:
      assert _squares(a - b) <= (2 * scale) ** 2
  # Not by being far below it: some use more than the tightened bound.
  assert max(_squares(a) for a in shares) > (0.5 * (scale - size**0.5 / 2)) ** 2


def test_the_sum_is_the_sum_of_rounded_gradients():
  # By hand, in exact arithmetic: clip to K - sqrt(d) / 2 steps, then round.
  rng = np.random.default_rng(1)
  x = rng.normal(size=(6, 5)).astype(np.float32)
  grad_fn = _grad_fn(l2_clip_norm=2.0, normalize_by=7.0)
  (got,) = jax.jit(grad_fn)(_params(5), (jnp.asarray(x),))
  tight = 2.0 * (1 - 2**-20) - math.sqrt(5) / 2 * 2.0 / _SCALE
  want = np.zeros(5, int)
  for row in x.astype(float):
    clipped = row * min(1.0, tight / np.linalg.norm(row))
    want += np.rint(clipped * _SCALE / 2.0).astype(int)
  np.testing.assert_array_equal(got, want)
  # What a step is worth, and so what the sum says.
  assert grad_fn.grid_step == 2.0 / 7.0 / _SCALE
  plain = _grad_fn(l2_clip_norm=tight, normalize_by=7.0, grid_scale=None)
  (near,) = jax.jit(plain)(_params(5), (jnp.asarray(x),))
  half_steps = 6 * 0.5 * grad_fn.grid_step
  np.testing.assert_allclose(
      np.asarray(got) * grad_fn.grid_step, near, atol=half_steps
  )


def test_rescaling_changes_what_a_step_is_worth_and_nothing_else():
  x = (jnp.asarray(np.random.default_rng(2).normal(size=(6, 5)), jnp.float32),)
  one, two = _grad_fn(), _grad_fn(rescale_to_unit_norm=True)
  sums = [jax.jit(grad_fn)(_params(5), x) for grad_fn in (one, two)]
  np.testing.assert_array_equal(*sums)
  assert (one.grid_step, two.grid_step) == (0.002, 0.001)


def test_tightened_clip_in_closed_form():
  (one,) = grid.tighten([3.0], [100], grid_scale=50)
  assert one == pytest.approx(3.0 * (1 - 2**-20) - 10 / 2 * 3.0 / 50)
  # Parts: each by its own size, in the steps of all together.
  two = grid.tighten([3.0, 4.0], [100, 16], grid_scale=50)
  assert two[0] == pytest.approx(3.0 * (1 - 2**-20) - 10 / 2 * 5.0 / 50)
  assert two[1] == pytest.approx(4.0 * (1 - 2**-20) - 4 / 2 * 5.0 / 50)
  # Sound in exact arithmetic: tightened and rounded parts stay within C.
  for clips, sizes, scale in [
      ([3.0], [100], 50),
      ([1e-3, 7.0], [9, 10**7], 10**5),
      ([0.1] * 3, [5, 6, 7], 99),
  ]:
    total = Fraction(math.hypot(*clips))
    tight = grid.tighten(clips, sizes, grid_scale=scale)
    for clip, kept, size in zip(clips, tight, sizes, strict=True):
      rounding = Fraction(math.isqrt(size * 10**30)) / 10**15 / 2
      assert Fraction(kept) + rounding * total / scale <= Fraction(clip)


def test_parts_have_bounds_of_their_own():
  grad_fn = _grad_fn(l2_clip_norm=(3.0, 4.0), grid_scale=100)
  assert grad_fn.sensitivity() == 100
  x = (jnp.full((1, 50), 1e6), jnp.full((1, 70), 1e6))
  first, second = jax.jit(grad_fn)(_params(50, 70), x)
  assert _squares(first) <= 60**2 and _squares(second) <= 80**2
  assert _squares((first, second)) <= 100**2


def test_examples_that_are_not_finite_count_zero():
  x = np.ones((3, 4), np.float32)
  (want,) = _sum(_params(4), (x[::2],))
  grad_fn = jax.jit(_grad_fn())
  nobody, second = np.zeros(3, bool), np.arange(3) == 1
  for bad in (np.nan, np.inf, 3e38):
    x[1, 2] = bad
    for mask in (nobody, second):
      (got,) = grad_fn(_params(4), (x,), is_padding_example=mask)
      np.testing.assert_array_equal(got, want)
  (empty,) = _sum(_params(4), (x[:0],))
  np.testing.assert_array_equal(empty, np.zeros(4, np.int32))


def test_sums_have_the_same_bits_in_any_order_and_split():
  # In float32 they have not, as the same search shows. Gradients that are not
  # clipped, since the norm's last bit depends on the layout: see below.
  rng = np.random.default_rng(3)
  x = jnp.asarray(rng.normal(size=(64, 300)) * 0.05, jnp.float32)
  order = rng.permutation(64)
  for scale, same in ((10**6, True), (None, False)):
    grad_fn = jax.jit(_grad_fn(grid_scale=scale, method="vmap"))
    whole = np.asarray(grad_fn(_params(300), (x,))[0])
    parts = [grad_fn(_params(300), (x[i : i + 8],))[0] for i in range(0, 64, 8)]
    options = {"grid_scale": scale, "method": "vmap", "microbatch_size": 5}
    others = [
        sum(parts[1:], parts[0]),
        grad_fn(_params(300), (x[order],))[0],
        _sum(_params(300), (x,), **options)[0],
    ]
    assert all((whole == np.asarray(o)).all() for o in others) == same


def test_one_at_a_time_an_examples_bits_do_not_depend_on_its_place():
  # All are clipped, on a grid so fine that the last bit of a norm shows.
  rng = np.random.default_rng(4)
  x = jnp.asarray(rng.normal(size=(64, 300)) * 3, jnp.float32)
  grad_fn = jax.jit(_grad_fn(grid_scale=10**7, microbatch_size=1))
  (whole,) = grad_fn(_params(300), (x,))
  for order in (rng.permutation(64), np.arange(64)[::-1]):
    (other,) = grad_fn(_params(300), (x[order],))
    np.testing.assert_array_equal(whole, other)
  # And the sum is that of 64 calls with everyone else padded.
  alone = [
      grad_fn(_params(300), (x,), is_padding_example=jnp.arange(64) != i)[0]
      for i in range(64)
  ]
  np.testing.assert_array_equal(whole, sum(alone[1:], alone[0]))


def test_grids_that_do_not_fit_are_refused():
  with pytest.raises(
      ValueError,
      match="grid_scale must be at least 51 for 10000 entries.*got 50",
  ):
    _grad_fn(grid_scale=50)(_params(10_000), (jnp.zeros((1, 10_000)),))
  _sum(_params(10_000), (jnp.zeros((1, 10_000)),), grid_scale=51)
  with pytest.raises(
      ValueError, match="grid_scale must be at most 134217728, that 8 examples"
  ):
    _grad_fn(grid_scale=2**27 + 1)(_params(2), (jnp.zeros((8, 2)),))
  _sum(_params(2), (jnp.zeros((8, 2)),), grid_scale=2**27)
  with pytest.raises(ValueError, match="stddev must be at most 76695844 steps"):
    secure_noise.secure_gaussian_privatizer(
        stddev=8e7, key=bytes(32), grid_step=1.0
    )


@pytest.mark.parametrize("scale", [0, -5, 2.5, math.nan, True, "9"])
def test_bad_scales_are_named(scale):
  with pytest.raises(ValueError, match="grid_scale must be an integer"):
    _grad_fn(grid_scale=scale)


def test_what_does_not_go_with_a_grid_is_named():
  with pytest.raises(ValueError, match='method must be "vmap".*grid_scale'):
    _grad_fn(method="ghost")
  with pytest.raises(ValueError, match="nan_safe must be True with a grid"):
    _grad_fn(nan_safe=False)
  noise = secure_noise.secure_gaussian_privatizer(
      stddev=5.0, key=bytes(32), grid_step=0.5
  )
  with pytest.raises(TypeError, match="on a grid must be int32.*float32"):
    noise.update(jnp.zeros(3), noise.init(None))
  for step in (0.0, -1.0, math.nan, True):
    with pytest.raises(ValueError, match="grid_step must be a positive"):
      secure_noise.secure_gaussian_privatizer(
          stddev=5.0, key=bytes(32), grid_step=step
      )


def test_noise_is_whole_and_its_sum_exact():
  stddev, step = 3e5, 2.0**-9
  noise = secure_noise.secure_gaussian_privatizer(
      stddev=stddev, key=bytes(32), grid_step=step
  )
  # Sums where float32 has no odd numbers any more.
  sums = jnp.array([2**24 + 1, -(2**29) + 1, 0, 7], jnp.int32)
  update = jax.jit(noise.update)
  noised, _ = update(sums, noise.init(None))
  key = secure_noise.secure_random.SecureKey(bytes(32))
  (draws,) = secure_noise.draw(key, step=0, sizes=[4])
  whole = np.asarray(sums, np.int64) + np.rint(stddev * draws).astype(np.int64)
  # round(v + z), which is what makes it post-processing of v + z.
  np.testing.assert_array_equal(
      whole, np.rint(np.asarray(sums, np.float64) + stddev * draws)
  )
  np.testing.assert_array_equal(noised, whole.astype(np.float32) * step)
  assert noised.dtype == jnp.float32


def test_a_sum_too_large_wraps_and_stays_private():
  # (v + round(z)) mod 2^32 is a function of the exact value.
  noise = secure_noise.secure_gaussian_privatizer(
      stddev=1e6, key=bytes(32), grid_step=1.0
  )
  sums = jnp.full(8, 2**31 - 5, jnp.int32)
  noised, _ = noise.update(sums, noise.init(None))
  shifted, _ = noise.update(sums * 0, noise.init(None))
  exact = np.asarray(shifted, np.float64) + 2**31 - 5
  wrapped = (exact + 2**31) % 2**32 - 2**31
  np.testing.assert_allclose(noised, wrapped, rtol=1e-6)
  assert (np.asarray(noised) < 0).any()


_MECHANISM = types.SimpleNamespace(
    noise_multiplier=1.5,
    num_steps=6,
    sampling="poisson",
    sampling_prob=0.25,
    num_examples=64,
    max_batch_size=None,
)


def _private(**options):
  options = {"secure_random": True, "grid_scale": _SCALE} | options
  return dp_sgd.make_private(
      lambda params, x: _linear((params,), (x,)),
      optax.sgd(1.0),
      _MECHANISM,
      l2_clip_norm=2.0,
      key=5,
      keep_batch_dim=False,
      **options,
  )


def test_make_private_puts_sum_and_noise_on_one_grid():
  private = _private()
  assert private.grad_fn.grid_step == 2.0 / 16 / _SCALE
  rng = np.random.default_rng(0)
  batch = jnp.asarray(rng.normal(size=(6, 40)), jnp.float32)
  report = testing.check_private(
      private, jnp.zeros(40), batch, mechanism=_MECHANISM
  )
  assert report.sensitivity.bounds["replace_one"] == 2 * _SCALE
  assert report.noise.stddev == 1.5 * _SCALE
  # Through the pipeline, in the units of a mean over the expected batch size.
  state = private.optimizer.init(jnp.zeros(40))
  grads = jax.jit(private.grad_fn)(
      jnp.zeros(40), batch, is_padding_example=jnp.zeros(6, bool)
  )
  updates, _ = private.optimizer.update(grads, state, jnp.zeros(40))
  steps = -np.asarray(updates, np.float64) / private.grad_fn.grid_step
  np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


def test_make_private_refuses_what_would_not_be_covered():
  with pytest.raises(
      ValueError, match="secure_random must be True with a grid"
  ):
    _private(secure_random=False)
  with pytest.raises(ValueError, match="grid_scale must be at most"):
    _private(grid_scale=2**26)
  with pytest.raises(ValueError, match="stddev must be at most"):
    dp_sgd.make_private(
        lambda params, x: _linear((params,), (x,)),
        optax.sgd(1.0),
        types.SimpleNamespace(
            **(vars(_MECHANISM) | {"noise_multiplier": 1000.0})
        ),
        l2_clip_norm=2.0,
        key=5,
        secure_random=True,
        grid_scale=2**20,
    )
