"""Audits of training through the real sampler, clipping, noise and optimiser.

The loop is as a training loop would have it. What is claimed of it and what it
does are given apart: an audit of an honest run must stay below the claim, and
each fault must be seen.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import accounting
from jax_privacy import auditing, dp_sgd

_NUM_EXAMPLES = 60
_NUM_CANARIES = 400
_CLIP = 0.5
_DELTA = 1e-5
_CLAIMED = accounting.Mechanism(
    noise_multiplier=2.0,
    num_steps=40,
    sampling_prob=0.5,
    num_examples=_NUM_EXAMPLES + _NUM_CANARIES,
)


def _train(*, clip=_CLIP, through_clipping=False, **actual):
  """Trains with canaries, and returns an auditor of its scores.

  Args:
    clip: The clip norm that is really used.
    through_clipping: Canaries are rows of the batch, which have to be clipped,
      and are not put in behind the clipping.
    **actual: Fields in which the run differs from what is claimed.
  """
  params = {"a": jnp.zeros(1000), "b": jnp.zeros((30, 20))}
  data = jax.random.normal(jax.random.key(2), (_NUM_EXAMPLES, 3))
  membership = auditing.throw_coins(
      _NUM_CANARIES, num_examples=_NUM_EXAMPLES, seed=0
  )
  actual = dataclasses.replace(_CLAIMED, **actual)
  share = _CLIP / actual.expected_batch_size  # Allowed to one example.
  canaries = auditing.dirac_canaries(
      params, num_canaries=_NUM_CANARIES, l2_norm=share, seed=1
  )

  def loss(params, batch):
    row = canaries.linear_loss(params, batch["canary"], gradient_norm=9.0)
    real = 0.5 * jnp.sum((params["a"][:3] - batch["x"]) ** 2)
    return jnp.where(batch["canary"] >= 0, row, real)

  recorder = auditing.record_scores(
      canaries,
      noise_stddev=_CLAIMED.noise_multiplier * share,
      sampling_prob=_CLAIMED.sampling_prob,
  )
  private = dp_sgd.make_private(
      loss,
      optax.chain(recorder, optax.sgd(0.1)),
      actual,
      l2_clip_norm=clip,
      key=0,
      keep_batch_dim=False,
      method="vmap",
  )

  @jax.jit
  def step(params, state, indices, selected):
    canary = jnp.where(indices >= _NUM_EXAMPLES, indices - _NUM_EXAMPLES, -1)
    batch = {"x": data[indices], "canary": canary}
    not_real = (indices < 0) | (canary >= 0)
    baseline = private.grad_fn(params, batch, is_padding_example=not_real)
    if through_clipping:
      total = private.grad_fn(params, batch, is_padding_example=indices < 0)
    else:
      total = canaries.insert(baseline, selected)
    updates, state = private.optimizer.update(
        total, state, params, baseline=baseline
    )
    return optax.apply_updates(params, updates), state

  state = private.optimizer.init(params)
  for batch in private.sampler:
    indices = batch.indices
    _, selected = membership.split_batch(indices)
    kept = membership.drop_excluded(indices).astype(np.int32)
    params, state = step(params, state, kept, selected)
  scores = auditing.recorded_scores(state)
  assert scores.num_steps == _CLAIMED.num_steps
  return auditing.CanaryScoreAuditor(
      *membership.split_scores(scores.log_ratios)
  )


@pytest.mark.few(1)
@pytest.mark.parametrize("through_clipping", [False, True])
def test_an_honest_run_stays_below_its_claim(through_clipping):
  claimed = accounting.epsilon(_CLAIMED, delta=_DELTA)  # About 8.3.
  auditor = _train(through_clipping=through_clipping)
  # The run is fixed by its seeds; by chance a bound of significance 1e-6 would
  # fail for one choice of them in a million.
  bounds = auditor.all_bounds(1e-6, _DELTA)
  assert all(bound <= claimed for bound in bounds.values()), bounds
  # And not for want of power. Measured: 5.6 and 3.9 of 8.3.
  bounds = auditor.all_bounds(0.05, _DELTA)
  assert bounds["mean_difference"] > 0.5 * claimed
  assert bounds["from_gdp"] > 0.35 * claimed


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "fault",
    [
        dict(noise_multiplier=1e-6),  # All but removed.
        dict(noise_multiplier=_CLAIMED.noise_multiplier / 2),
        dict(sampling_prob=1.0),
        # Clipped at thrice the norm, with noise for the norm that is claimed.
        dict(
            clip=3 * _CLIP,
            noise_multiplier=_CLAIMED.noise_multiplier / 3,
            through_clipping=True,
        ),
    ],
    ids=["no_noise", "half_the_noise", "no_sampling", "clip_too_large"],
)
def test_a_fault_is_seen(fault):
  claimed = accounting.epsilon(_CLAIMED, delta=_DELTA)
  auditor = _train(**fault)
  assert auditor.epsilon_mean_difference(1e-6, _DELTA) > claimed
  assert auditor.epsilon_from_gdp(0.05, _DELTA) > claimed


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "sampling_prob, noise_multiplier, num_steps",
    [(0.3, 0.8, 1), (0.05, 0.6, 30), (0.5, 2.0, 30)],
)
def test_valid_for_subsampled_gaussians(
    sampling_prob, noise_multiplier, num_steps
):
  mechanism = accounting.Mechanism(
      noise_multiplier=noise_multiplier,
      num_steps=num_steps,
      sampling_prob=sampling_prob,
  )
  epsilon = accounting.epsilon(mechanism, delta=_DELTA, accountant="pld")
  methods = ("epsilon_one_run", "epsilon_clopper_pearson", "epsilon_from_gdp")
  failures = dict.fromkeys(methods, 0)
  coins, projections = [], []
  for seed in range(100):
    rng = np.random.default_rng(seed)
    included = rng.random(500) < 0.5
    shape = (num_steps, 500)
    taken = included & (rng.random(shape) < sampling_prob)
    coins.append(included)
    projections.append(taken + noise_multiplier * rng.normal(size=shape))
  ratios = auditing.log_likelihood_ratios(
      np.array(projections, np.float32),
      l2_norm=1.0,
      noise_stddev=noise_multiplier,
      sampling_prob=sampling_prob,
  )
  all_scores = np.sum(np.asarray(ratios, np.float64), axis=1)
  for included, scores in zip(coins, all_scores, strict=True):
    auditor = auditing.CanaryScoreAuditor(scores[included], scores[~included])
    for method in methods:
      failures[method] += getattr(auditor, method)(0.2, _DELTA) > epsilon
  # At most Binomial(100, 0.2): above its 1 - 1e-6 quantile once in a million.
  # For from_gdp, whose assumption holds only nearly here, this is a finding.
  limit = stats.binom.isf(1e-6, 100, 0.2)
  assert all(count <= limit for count in failures.values()), failures


@pytest.mark.slow
def test_no_curve_is_far_from_a_gaussian_s():
  # The GDP, f-DP and mean-difference bounds take the curve of a subsampled
  # Gaussian for as good as a Gaussian's. With 40,000 canaries, ten times as
  # sharp as an audit's, a curve that is not would be seen. By chance, each of
  # 270 bounds is above the truth with probability 0.01 at most; independence
  # of bounds of one setting aside, more than 13 of them once in a million.
  rng = np.random.default_rng(0)
  num_canaries, significance = 40_000, 0.01
  included = np.arange(num_canaries) < num_canaries // 2
  grid = itertools.product(
      (0.02, 0.1, 0.3, 0.7, 0.95, 1.0), (1, 3, 20), (1.0, 4.0, 10.0)
  )
  above, total = 0, 0
  for sampling_prob, num_steps, epsilon in grid:
    mechanism = accounting.calibrate_noise(
        accounting.Mechanism(
            noise_multiplier=1.0,
            num_steps=num_steps,
            sampling_prob=sampling_prob,
        ),
        epsilon=epsilon,
        delta=_DELTA,
    )
    noise = mechanism.noise_multiplier
    scores = np.zeros(num_canaries)
    for _ in range(num_steps):
      drawn = rng.random(num_canaries) < sampling_prob
      seen = (included & drawn) + noise * rng.normal(size=num_canaries)
      scores += np.asarray(
          auditing.log_likelihood_ratios(
              seen.astype(np.float32),
              l2_norm=1.0,
              noise_stddev=noise,
              sampling_prob=sampling_prob,
          )
      )
    auditor = auditing.CanaryScoreAuditor(scores[included], scores[~included])
    bounds = auditor.all_bounds(significance, _DELTA)
    above += sum(bound > epsilon for bound in bounds.values())
    total += len(bounds)
    # And none is above it by more than its own error.
    assert all(bound < 1.1 * epsilon for bound in bounds.values()), bounds
  assert total == 270
  assert above <= stats.binom.isf(1e-6, total, significance)
