"""Every clipping function keeps an example's part within the clip norm."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import clipping, clipping_functions, testing

_PARAMS = {"w": jnp.full((3, 2), 0.3), "b": jnp.zeros(2)}
_X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
_Y = np.random.default_rng(1).standard_normal((5, 2)).astype(np.float32)
_X *= np.float32([1e-3, 0.1, 1, 10, 1e3])[:, None]
_BATCH = {"x": _X, "y": _Y}


def _loss(params, batch):
  bias = jnp.broadcast_to(params["b"], batch["y"].shape)
  error = jnp.tanh(batch["x"] @ params["w"]) + bias - batch["y"]
  return jnp.mean(error**2)


def _example(i):
  return {"x": _X[i], "y": _Y[i]}


def _kept(name, n, c, r=0.01):
  """The factors of the papers, in float64."""
  return {
      "standard": c / max(n, c),
      "automatic": c / (n + r),
      "psac": c / (n + r / (n + r)),
  }[name]


def _slow_sum(name, clip_norms, groups):
  """One example after the other, in float64."""
  total = {k: np.zeros(v.shape) for k, v in _PARAMS.items()}
  for i in range(len(_X)):
    grad = jax.grad(_loss)(_PARAMS, _example(i))
    grad = {k: np.asarray(v, np.float64) for k, v in grad.items()}
    for group, c in zip(groups, clip_norms, strict=True):
      norm = math.sqrt(sum(np.sum(grad[k] ** 2) for k in group))
      for k in group:
        total[k] += _kept(name, norm, c) * grad[k]
  return total


@pytest.mark.few(3)
@pytest.mark.parametrize("name", clipping_functions.names())
@pytest.mark.parametrize("how", ["ghost", "vmap", "two passes", "traced"])
def test_it_is_the_formula(name, how):
  clip_norm = 0.7
  loss = jax.checkpoint(_loss) if how == "two passes" else _loss

  def run(clip_norm):
    return clipping.clipped_grad(
        loss,
        l2_clip_norm=clip_norm,
        clipping=name,
        keep_batch_dim=False,
        method="vmap" if how == "vmap" else "ghost",
        passes=2 if how == "two passes" else None,
    )(_PARAMS, _BATCH)

  got = jax.jit(run)(clip_norm) if how == "traced" else run(clip_norm)
  want = _slow_sum(name, [clip_norm], [("w", "b")])
  for key in want:
    # Parts of norm 0.7 at most, in float32: a few dozen units of rounding.
    np.testing.assert_allclose(got[key], want[key], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["automatic", "psac"])
def test_parts_have_weights_of_their_own(name):
  norms = {"w": 0.5, "b": 2.0}
  want = _slow_sum(name, [0.5, 2.0], [("w",), ("b",)])
  for method in ("ghost", "vmap"):
    got = clipping.clipped_grad(
        _loss,
        l2_clip_norm=norms,
        clipping=name,
        normalize_by=0.5,  # Below 1: nothing is scaled up before the sum.
        keep_batch_dim=False,
        method=method,
    )(_PARAMS, _BATCH)
    for key in want:
      np.testing.assert_allclose(2 * want[key], got[key], rtol=0, atol=5e-5)


@pytest.mark.few(3)
@pytest.mark.parametrize("name", ["automatic", "psac"])
@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_no_batch_moves_it_by_more_than_the_clip_norm(name, method):
  grad_fn = clipping.clipped_grad(
      _loss,
      l2_clip_norm=0.3,
      clipping=name,
      rescale_to_unit_norm=method == "ghost",
      method=method,
  )
  report = testing.check_sensitivity(grad_fn, _PARAMS, _BATCH, max_examples=2)
  bound = report.bounds["add_or_remove_one"]
  # A normalised gradient comes within a hair of the bound: it is not loose.
  assert report.movements["add_or_remove_one"] > 0.9 * bound


class _Unbounded(clipping_functions.ClippingFunction):

  def weight(self, norm, clip_norm):
    return jnp.full_like(norm, 64.0)

  def largest(self, clip_norm):
    return 64.0


def test_a_weight_that_is_too_large_is_cut():
  grad_fn = clipping.clipped_grad(
      _loss, l2_clip_norm=0.3, clipping=_Unbounded()
  )
  testing.check_sensitivity(grad_fn, _PARAMS, _BATCH, max_examples=2)


def test_a_weight_that_is_not_cut_is_caught(monkeypatch):
  monkeypatch.setattr(
      clipping_functions,
      "row_factor",
      lambda function, relative, clip_norm: jnp.ones_like(relative),
  )
  grad_fn = clipping.clipped_grad(
      _loss, l2_clip_norm=0.3, clipping=_Unbounded()
  )
  with pytest.raises(testing.SensitivityError, match="moves the sum by"):
    testing.check_sensitivity(grad_fn, _PARAMS, _BATCH, max_examples=2)


@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf])
def test_a_weight_that_is_no_weight_is_bounded(bad):
  class Bad(_Unbounded):

    def weight(self, norm, clip_norm):
      return jnp.full_like(norm, bad)

  got = clipping_functions.row_factor(Bad(), jnp.array([0.0, 1.0, 1e6]), 1.0)
  assert np.all(np.isfinite(got)) and np.all(got >= 0)
  assert np.all(64 * got * np.array([0.0, 1.0, 1e6]) <= 1)


@pytest.mark.parametrize("name", ["automatic", "psac"])
def test_a_gradient_of_zero_with_a_huge_cotangent_adds_zero(name):
  # Scaled up by C / stability before the sum, the cotangent would be infinite,
  # and infinity times the input 0 is NaN.
  loss = lambda w, x: jnp.sum(x @ w) * 3e38
  got = clipping.clipped_grad(loss, l2_clip_norm=1.0, clipping=name)(
      jnp.ones((2, 1)), jnp.zeros((3, 2))
  )
  assert not np.any(got)


@pytest.mark.parametrize("clip_norm", [1e-30, 1e30])
@pytest.mark.parametrize("stability", [1e-6, 0.5, 1e6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes_stay_within_the_bound(clip_norm, stability, dtype):
  relative = np.array([0, 1e-30, 1e-7, 0.3, 1, 1 + 1e-7, 7, 1e18, np.inf])
  with jax.enable_x64(dtype == "float64"):
    rows = jnp.asarray(relative, dtype)
    for make in (clipping_functions.Automatic, clipping_functions.Psac):
      function = make(stability)
      factor = clipping_functions.row_factor(function, rows, clip_norm)
      assert factor.dtype == dtype
      assert np.all((factor >= 0) & (factor <= 1)), function
      part = np.asarray(factor, np.float64)[:-1] * relative[:-1]
      assert np.all(part * function.largest(clip_norm) <= 1), function


@pytest.mark.parametrize(
    "value, text",
    [
        ("auto", "clipping must be one of standard, automatic, psac, or"),
        (None, "clipping must be one of"),
        (clipping_functions.Automatic, "clipping must be one of"),
    ],
)
def test_others_are_refused(value, text):
  with pytest.raises(ValueError, match=text):
    clipping.clipped_grad(_loss, l2_clip_norm=1.0, clipping=value)


def test_options_are_checked():
  assert clipping_functions.get("psac", stability=0.1).stability == 0.1
  with pytest.raises(ValueError, match="names among stability for 'psac'"):
    clipping_functions.get("psac", gamma=0.1)
  with pytest.raises(ValueError, match="no names for 'standard'"):
    clipping_functions.get("standard", stability=0.1)
  for bad in (0.0, -1.0, math.nan, 1e-7, 1e7, True, "1"):
    with pytest.raises(ValueError, match="stability must be"):
      clipping_functions.Automatic(bad)
