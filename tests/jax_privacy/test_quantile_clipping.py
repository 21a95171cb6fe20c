"""The clip norm follows a quantile; gradients and count share one guarantee."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_privacy import dp_sgd, quantile_clipping, testing

_X = np.random.default_rng(0).standard_normal((32, 2)).astype(np.float32)
_DATA = {"x": _X, "y": _X @ np.float32([1, -2])}
_ROWS = {k: v[:5] for k, v in _DATA.items()}
_ZERO = jnp.zeros(2)


def _loss(w, batch):
  return jnp.mean((batch["x"] @ w - batch["y"]) ** 2)


def _mechanism(**changes):
  fields = dict(noise_multiplier=1.0, num_steps=30, sampling="poisson")
  fields |= dict(sampling_prob=0.5, num_examples=32, max_batch_size=None)
  return types.SimpleNamespace(**fields | changes)


def _private(clipping, l2_clip_norm=1.0, mechanism=None, **options):
  return dp_sgd.make_private(
      _loss,
      options.pop("optimizer", optax.sgd(0.1)),
      mechanism or _mechanism(),
      l2_clip_norm=l2_clip_norm,
      key=1,
      clipping=clipping,
      check_loss=False,
      **options,
  )


def _run(private, *, num_steps=3, state=None, w=_ZERO, first=0, jit=False):
  """Returns the parameters, the state, and the clip norms that were used."""

  def grad_fn(w, rows, mask, options):
    return private.grad_fn(w, rows, is_padding_example=mask, **options)

  grad_fn = jax.jit(grad_fn) if jit else grad_fn
  state = private.optimizer.init(w) if state is None else state
  clip_norms = []
  for step in range(first, first + num_steps):
    batch = private.sampler.batch(step)
    options = private.step_options(state)
    rows, mask = batch.take(_DATA), batch.is_padding_example
    grads = grad_fn(w, rows, mask, options)
    updates, state = private.optimizer.update(grads, state, w)
    w = optax.apply_updates(w, updates)
    clip_norms.append(float(options.get("clip_norm", math.nan)))
  return w, state, clip_norms


@pytest.mark.parametrize("noise", [0.3, 1.0, 40.0])
@pytest.mark.parametrize("count_noise", [None, 21.0, 1e6])
def test_both_together_have_the_noise_multiplier(noise, count_noise):
  quantile = quantile_clipping.QuantileClipping(
      count_noise_multiplier=count_noise
  )
  shares = quantile.shares(noise_multiplier=noise, expected_batch_size=256)
  sigma_g, sigma_b = noise / shares.gradient, noise / shares.count
  # Andrew et al., theorem 1, and that no example adds more than 1.
  np.testing.assert_allclose(
      1 / noise**2, 1 / sigma_g**2 + 1 / (2 * sigma_b) ** 2, rtol=1e-12
  )
  assert shares.gradient**2 + shares.count**2 / 4 <= 1
  if count_noise is None:
    assert sigma_b == pytest.approx(max(256 / 20, 2 * noise))
    assert sigma_g <= 1.0328 * noise
  else:
    assert sigma_b == pytest.approx(count_noise)


def test_without_a_count_worth_naming_it_is_dp_sgd_to_the_bit():
  # The count has so much noise that it costs nothing; the norm stays at 1.
  quantile = quantile_clipping.QuantileClipping(
      learning_rate=0.0, count_noise_multiplier=1e12
  )
  want, *_ = _run(_private("standard"))
  got, _, clip_norms = _run(_private(quantile))
  assert clip_norms == [1.0] * 3
  np.testing.assert_array_equal(got, want)


def test_a_step_is_the_formula():
  quantile = quantile_clipping.QuantileClipping(0.7, 0.5, 3.0)
  private = _private(quantile, 0.8)
  state = private.optimizer.init(_ZERO)
  mask = np.array([False, True, False, False, False])
  sums = private.grad_fn(
      _ZERO, _ROWS, is_padding_example=mask, **private.step_options(state)
  )
  grads = np.stack(
      [2 * r * x for x, r in zip(_X[:5], -_DATA["y"][:5], strict=True)]
  )
  norms = np.linalg.norm(grads, axis=1)
  gradient, count = private.plan.shares
  kept = grads / np.maximum(norms, 0.8)[:, None]
  np.testing.assert_allclose(
      sums.grads, gradient * kept[~mask].sum(0) / 16, rtol=1e-5
  )
  votes = np.where(norms <= 0.8, 0.5, -0.5)[~mask].sum()
  np.testing.assert_allclose(sums.count, count * votes / 16, rtol=1e-6)
  # And the norm moves by the noised count, as often as it is asked.
  _, after = private.optimizer.update(sums, state, _ZERO)
  noise = after.clip_norm
  share = 0.7 - np.log(noise / 0.8) / 0.5
  noise_of_count = share - 0.5 - votes / 16
  assert 0 < abs(noise_of_count) < 7 * 3.0 / 16


def test_the_clip_norm_ends_at_the_quantile():
  quantile = quantile_clipping.QuantileClipping(0.5, 0.5, 2.0)
  mechanism = _mechanism(noise_multiplier=0.1)
  private = _private(quantile, 100.0, mechanism, optimizer=optax.sgd(0.0))
  _, _, clip_norms = _run(private, num_steps=30, jit=True)
  norms = 2 * np.abs(_DATA["y"]) * np.linalg.norm(_X, axis=1)
  low, high = np.quantile(norms, [0.2, 0.8])
  assert low < clip_norms[-1] < high < clip_norms[0]


def test_a_run_that_goes_on_from_its_state_is_the_same_run():
  private = _private("quantile")
  want, _, clip_norms = _run(private, num_steps=4)
  w, state, _ = _run(private, num_steps=2)
  state = jax.tree.map(lambda x: jnp.array(x, copy=True), state)
  got, _, rest = _run(private, num_steps=2, state=state, w=w, first=2)
  assert rest == clip_norms[2:]
  np.testing.assert_array_equal(got, want)


@pytest.mark.few(2)
@pytest.mark.parametrize("rescale", [True, False])
def test_it_passes_the_checks(rescale):
  private = _private("quantile", 0.7, rescale_to_unit_norm=rescale)
  report = testing.check_private(
      private, _ZERO, _ROWS, mechanism=_mechanism(), max_examples=2
  )
  bounds = report.sensitivity.bounds
  assert bounds["add_or_remove_one"] == 1 / 16
  moved = report.sensitivity.movements["add_or_remove_one"]
  assert moved > 0.99 / 16  # A clipped example has all of it.


def _shares(gradient, count):
  real = quantile_clipping.QuantileClipping.shares

  def shares(self, **run):
    found = real(self, **run)
    return quantile_clipping.Shares(
        found.gradient * gradient, found.count * count
    )

  return shares


@pytest.mark.parametrize("wrong", [(1.0, 2.0), (1.1, 1.0)])
def test_planted_a_share_that_is_too_large(monkeypatch, wrong):
  monkeypatch.setattr(
      quantile_clipping.QuantileClipping, "shares", _shares(*wrong)
  )
  private = _private(quantile_clipping.QuantileClipping(0.5, 0.2, 1.0))
  with pytest.raises(testing.SensitivityError, match="moves the sum by"):
    testing.check_private(
        private, _ZERO, _ROWS, mechanism=_mechanism(), max_examples=2
    )


def test_planted_a_count_without_noise():
  private = _private("quantile")

  def update(sums, state, params):
    updates, after = private.optimizer.update(sums, state, params)
    moved = state.clip_norm * jnp.exp(-sums.count)
    return updates, after._replace(clip_norm=moved)

  leaky = private._replace(
      optimizer=optax.GradientTransformation(private.optimizer.init, update)
  )
  with pytest.raises(testing.NoiseError, match="count reaches the new state"):
    testing.check_private(
        leaky, _ZERO, _ROWS, mechanism=_mechanism(), max_examples=2
    )


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: _private("quantile", {"w": 1.0}), "l2_clip_norm must be"),
        (
            lambda: _private(
                quantile_clipping.QuantileClipping(count_noise_multiplier=0.5)
            ),
            "count_noise_multiplier must be above half the noise multiplier",
        ),
        (
            lambda: _private("quantile", pre_clipping_transform=lambda g: g),
            "pre_clipping_transform must be None with a clip norm that adapts",
        ),
        (
            lambda: _private("quantile", grid_scale=8, secure_random=True),
            "grid_scale must be None with a clip norm that adapts",
        ),
        (lambda: quantile_clipping.QuantileClipping(1.1), "target_quantile"),
        (
            lambda: quantile_clipping.QuantileClipping(0.5, math.nan),
            "learning_rate must be in",
        ),
        (lambda: _private("median"), "clipping must be one of"),
    ],
)
def test_what_does_not_fit_is_refused(make, text):
  with pytest.raises(ValueError, match=text):
    make()


def test_a_step_without_its_clip_norm_is_refused():
  private = _private("quantile")
  batch = private.sampler.batch(0)
  with pytest.raises(ValueError, match="clip_norm must be private.step_opt"):
    private.grad_fn(
        _ZERO, batch.take(_DATA), is_padding_example=batch.is_padding_example
    )
  state = private.optimizer.init(_ZERO)
  with pytest.raises(ValueError, match="updates must be the GradientsAnd"):
    private.optimizer.update(_ZERO, state, _ZERO)
