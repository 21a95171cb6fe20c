"""`clipped_fun`: sums of any function's clipped outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy import clipping

_X = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32) * 3


def _moments(x):
  return {"mean": x, "square": x[:, None] * x[None, :]}


def _by_hand(rows, clip, fun=_moments):
  total = None
  for row in rows.astype(np.float64):
    out = {k: np.asarray(v) for k, v in fun(row).items()}
    norm = np.sqrt(sum(np.sum(v**2) for v in out.values()))
    out = {k: v * min(1, clip / norm) for k, v in out.items()}
    total = out if total is None else {k: total[k] + out[k] for k in out}
  return total


def _check(got, want):
  for k, v in want.items():
    # Sums of seven clipped numbers of at most 5 in float32.
    np.testing.assert_allclose(got[k], v, atol=2e-5, err_msg=k)


@pytest.mark.few(2)
@pytest.mark.parametrize("microbatch_size", [None, 3])
@pytest.mark.parametrize("clip", [1.0, 5.0, 1e3])
def test_it_is_the_sum_of_clipped_outputs(clip, microbatch_size):
  fun = clipping.clipped_fun(
      _moments,
      keep_batch_dim=False,
      l2_clip_norm=clip,
      microbatch_size=microbatch_size,
  )
  _check(jax.jit(fun)(_X), _by_hand(_X, clip))
  mask = np.arange(7) >= 4
  _check(fun(_X, is_padding_example=mask), _by_hand(_X[:4], clip))


def test_rows_keep_an_axis_by_default_and_may_be_several_arguments():
  fun = jax_privacy.clipped_fun(
      lambda scale, x, y: scale * (x - y).mean(axis=0),
      batch_argnums=(1, 2),
      l2_clip_norm=2.0,
      normalize_by=4.0,
  )
  other = 0.25 * _X[::-1]
  got = fun(jnp.float32(0.5), _X, other)
  rows = 0.5 * (_X - other)
  want = _by_hand(rows, 2.0, lambda x: {"x": x / 4})
  wrong = np.asarray(got) - want["x"]
  # The clip norm is of the output, not of what it is divided by.
  want = _by_hand(rows, 2.0, lambda x: {"x": x})["x"] / 4
  np.testing.assert_allclose(got, want, atol=1e-5)
  assert np.abs(wrong).max() > 1e-3
  assert fun.sensitivity("add_or_remove_one") == 0.5


@pytest.mark.few(2)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_one_example_moves_it_by_the_clip_norm_at_most(bad):
  fun = clipping.clipped_fun(_moments, keep_batch_dim=False, l2_clip_norm=2.0)
  for row in (_X[0], _X[0] * 1e4, np.full(3, bad, np.float32)):
    with_row = fun(np.concatenate([_X, row[None]]))
    moved = jax.tree.map(lambda a, b: a - b, with_row, fun(_X))
    norm = np.sqrt(sum(np.sum(np.square(v)) for v in moved.values()))
    # Rounding of twelve sums below 16.
    assert norm <= fun.sensitivity("add_or_remove_one") + 1e-5
    assert np.isfinite(norm)


@pytest.mark.parametrize("has_aux", [False, True])
@pytest.mark.parametrize("return_norms", [False, True])
def test_what_is_returned_follows_the_options(has_aux, return_norms):
  def fun(x):
    return (x, x.sum()) if has_aux else x

  clipped = clipping.clipped_fun(
      fun,
      has_aux,
      keep_batch_dim=False,
      l2_clip_norm=2.0,
      return_norms=return_norms,
  )
  assert clipped.has_aux is (has_aux or return_norms)
  found = clipped(_X)
  norms, sums = np.linalg.norm(_X, axis=1), _X.sum(axis=1)
  if not (has_aux or return_norms):
    assert found.shape == (3,)
    return
  total, rest = found
  assert total.shape == (3,)
  if has_aux and return_norms:
    aux, got = rest
    np.testing.assert_allclose(aux, sums, rtol=1e-5)
    np.testing.assert_allclose(got, norms, rtol=1e-5)
  else:
    np.testing.assert_allclose(rest, sums if has_aux else norms, rtol=1e-5)


def test_keys_go_by_position_or_by_example():
  def fun(x, key):
    return x + jax.random.normal(key, x.shape)

  options = {"keep_batch_dim": False, "l2_clip_norm": 5.0, "prng_argnum": 1}
  by_position = clipping.clipped_fun(fun, **options)
  with pytest.raises(ValueError, match="where keys go by position"):
    by_position.sensitivity("add_or_remove_one")
  by_example = clipping.clipped_fun(fun, keys_by_example=True, **options)
  keys = jax.random.split(jax.random.key(0), 7)
  whole = by_example(_X, keys)
  rest = by_example(_X[1:], keys[1:])
  alone = by_example(_X[:1], keys[:1])
  np.testing.assert_allclose(whole - rest, alone, atol=2e-5)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"l2_clip_norm": 0.0}, "l2_clip_norm must be a positive"),
        ({"batch_argnums": ()}, "batch_argnums must be one or several"),
        ({"prng_argnum": 0}, "must be disjoint"),
        ({"dtype": jnp.bfloat16}, "dtype must be float32, float64 or None"),
        ({"normalize_by": -1.0}, "normalize_by must be a positive"),
    ],
)
def test_wrong_options_are_refused(options, text):
  with pytest.raises(ValueError, match=text):
    clipping.clipped_fun(_moments, **options)


def test_outputs_that_are_no_numbers_are_refused():
  counts = clipping.clipped_fun(lambda x: x.astype(int), keep_batch_dim=False)
  with pytest.raises(TypeError, match="real and floating"):
    counts(_X)


# Of clipped_grad: arguments by name, NumPy's numbers.


def _loss(w, x, y=None, weight=1.0):
  return jnp.mean(weight * (x @ w - y) ** 2)


@pytest.mark.parametrize("method", ["ghost", "vmap"])
@pytest.mark.parametrize("keep_batch_dim", [True, False])
def test_arguments_by_name_are_of_the_batch(method, keep_batch_dim):
  grad_fn = clipping.clipped_grad(
      _loss,
      l2_clip_norm=2.0,
      method=method,
      keep_batch_dim=keep_batch_dim,
      microbatch_size=3,
  )
  w, y = jnp.arange(3.0), _X.sum(axis=1)
  weight = np.linspace(0.1, 2, 7, dtype=np.float32)
  mask = np.arange(7) == 2
  got = grad_fn(w, _X, y=y, weight=weight, is_padding_example=mask)
  want = np.zeros(3)
  for i in range(7):
    if not mask[i]:
      grad = 2 * weight[i] * (_X[i] @ np.arange(3) - y[i]) * _X[i]
      want += grad * min(1, 2 / np.linalg.norm(grad))
  np.testing.assert_allclose(got, want, atol=2e-5)


def test_numpys_integers_are_positions():
  grad_fn = clipping.clipped_grad(
      lambda x, w: jnp.mean((x @ w) ** 2),
      argnums=np.int64(1),
      batch_argnums=np.int32(0),
      l2_clip_norm=np.float32(1.0),
      microbatch_size=np.int64(2),
  )
  assert grad_fn(_X, jnp.ones(3)).shape == (3,)
