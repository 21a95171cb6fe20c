import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jax_privacy import auditing


def _ratio(x, *, q, c, s):
  """log of the mixture's density over the null's, in float64."""
  out = stats.norm.logpdf(x, 0, s)
  taken = stats.norm.logpdf(x, c, s)
  with np.errstate(divide="ignore"):
    mixture = np.logaddexp(np.log1p(-q) + out, np.log(q) + taken)
  return mixture - out


@pytest.mark.parametrize("q", [1e-4, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("c, s", [(1.0, 1.0), (1e-3, 2e-3), (1e-25, 1e-24)])
def test_ratios_are_those_of_the_two_densities(q, c, s):
  x = s * np.linspace(-30, 30, 201)
  found = auditing.log_likelihood_ratios(
      x.astype(np.float32), l2_norm=c, noise_stddev=s, sampling_prob=q
  )
  np.testing.assert_allclose(
      found, _ratio(x, q=q, c=c, s=s), rtol=1e-4, atol=1e-5
  )


def test_ratios_stay_finite_far_out():
  x = jnp.array([-1e30, -1e6, 1e6, 1e30], jnp.float32)
  found = auditing.log_likelihood_ratios(
      x, l2_norm=1.0, noise_stddev=0.01, sampling_prob=0.1
  )
  assert jnp.isfinite(found).all()
  np.testing.assert_allclose(found[:2], math.log1p(-0.1), rtol=1e-6)


def _canaries(num_canaries=6, num_params=20, l2_norm=0.5):
  return auditing.dirac_canaries(
      jnp.zeros(num_params), num_canaries=num_canaries, l2_norm=l2_norm, seed=0
  )


def test_scores_add_up_over_steps_and_updates_pass_unchanged():
  canaries = _canaries()
  recorder = auditing.record_scores(
      canaries, noise_stddev=0.7, sampling_prob=0.3
  )
  update = jax.jit(recorder.update)
  state = recorder.init(jnp.zeros(20))
  rng = np.random.default_rng(0)
  sums, ratios = 0.0, 0.0
  for step in range(4):
    noised, baseline = rng.normal(size=(2, 20)).astype(np.float32)
    passed, state = update(noised, state, baseline=baseline)
    np.testing.assert_array_equal(passed, noised)
    x = canaries.project(noised) - canaries.project(baseline)
    sums += x
    ratios += _ratio(np.asarray(x, np.float64), q=0.3, c=0.5, s=0.7)
    assert state.num_steps == step + 1
  # Four additions of order 1: 4 x 2^-24, and they may cancel.
  np.testing.assert_allclose(state.projections, sums, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(state.log_ratios, ratios, rtol=1e-4, atol=1e-5)


def test_without_a_baseline_the_update_itself_is_scored():
  recorder = auditing.record_scores(
      _canaries(), noise_stddev=1.0, sampling_prob=1.0
  )
  state = recorder.init(jnp.zeros(20))
  update = jnp.arange(20.0)
  _, plain = recorder.update(update, state)
  _, zero = recorder.update(update, state, baseline=jnp.zeros(20))
  np.testing.assert_array_equal(plain.projections, zero.projections)
  np.testing.assert_array_equal(plain.projections, _canaries().project(update))


def test_scores_are_found_within_a_chain():
  recorder = auditing.record_scores(
      _canaries(), noise_stddev=1.0, sampling_prob=1.0
  )
  chain = optax.chain(optax.scale(1.0), recorder, optax.adam(0.1))
  state = chain.init(jnp.zeros(20))
  assert auditing.recorded_scores(state).num_steps == 0
  for optimizer in (optax.adam(0.1), optax.chain(recorder, recorder)):
    with pytest.raises(ValueError, match="one with one CanaryScoreState"):
      auditing.recorded_scores(optimizer.init(jnp.zeros(20)))


def test_the_state_can_be_donated():
  recorder = auditing.record_scores(
      _canaries(), noise_stddev=1.0, sampling_prob=1.0
  )
  update = jax.jit(recorder.update, donate_argnums=(0, 1))
  _, state = update(jnp.ones(20), recorder.init(jnp.zeros(20)))
  assert state.num_steps == 1


@pytest.mark.parametrize(
    "change, error",
    [
        (dict(noise_stddev=0.0), "noise_stddev must be a positive finite"),
        (dict(noise_stddev=math.inf), "noise_stddev must be a positive finite"),
        (dict(sampling_prob=0.0), r"sampling_prob must be in \(0, 1\]"),
        (dict(sampling_prob=math.nan), r"sampling_prob must be in \(0, 1\]"),
    ],
)
def test_arguments_are_checked(change, error):
  kwargs = dict(noise_stddev=1.0, sampling_prob=0.5) | change
  with pytest.raises(ValueError, match=error):
    auditing.record_scores(_canaries(), **kwargs)
  with pytest.raises(ValueError, match=error):
    auditing.log_likelihood_ratios(jnp.ones(3), l2_norm=1.0, **kwargs)


def _losses(params, batch):
  return params * batch["x"] ** 2


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
def test_losses_are_negated_and_compared(chunk_size):
  batch = {"x": np.arange(7.0)}
  found = auditing.loss_scores(_losses, 2.0, batch, chunk_size=chunk_size)
  np.testing.assert_allclose(found, -2 * np.arange(7.0) ** 2)
  found = auditing.loss_scores(
      _losses, 2.0, batch, reference_params=5.0, chunk_size=chunk_size
  )
  np.testing.assert_allclose(found, 3 * np.arange(7.0) ** 2)


def test_bad_losses_are_refused():
  batch = {"x": np.array([1.0, math.nan, 2.0])}
  with pytest.raises(ValueError, match="losses must be finite, got '1 that"):
    auditing.loss_scores(_losses, 2.0, batch)
  with pytest.raises(ValueError, match="one loss per row, of shape"):
    auditing.loss_scores(lambda p, b: b["x"].mean(), 2.0, batch)
  with pytest.raises(ValueError, match="chunk_size must be an integer"):
    auditing.loss_scores(_losses, 2.0, batch, chunk_size=0)
