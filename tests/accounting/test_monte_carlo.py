"""Accounting by chance: against PLD where that is exact, and its bounds."""

import math

import numpy as np
import pytest
from scipy import stats

import accounting
from accounting import monte_carlo
from accounting.numerics import simulation


def _run(k, t, *, noise=1.0, rounds=1, sampling="random_allocation"):
  options = {"num_selected": k} if sampling == "random_allocation" else {}
  return accounting.Mechanism(
      noise_multiplier=noise,
      num_steps=t * rounds,
      sampling_prob=k / t,
      sampling=sampling,
      sampling_options=options,
  )


@pytest.mark.parametrize(
    ("run", "epsilon"),
    [
        (_run(1, 8), 2.0),
        (_run(1, 8), 3.2),  # A delta of 2e-7, of 40,000 samples.
        (_run(1, 3, noise=2.0, rounds=3), 0.8),
        (_run(1, 3, noise=2.0, rounds=3, sampling="balls_in_bins"), 1.0),
    ],
)
def test_estimates_are_those_of_a_sum_that_is_known(run, epsilon):
  found = accounting.monte_carlo_delta(
      run, epsilon=epsilon, num_samples=40_000, seed=1
  )
  exact = accounting.delta(run, epsilon=epsilon)
  # Its standard errors are 1 to 4% here, seen over seeds; PLD adds below 1%.
  assert 0.8 * exact < found.estimate < 1.2 * exact
  assert exact < found.upper


def test_blocks_of_steps_are_an_upper_bound_that_chance_improves():
  run = _run(2, 3, noise=2.0, rounds=3)
  proven = accounting.epsilon(run, delta=1e-3)
  found = accounting.monte_carlo_epsilon(
      run, delta=1e-3, num_samples=60_000, seed=0
  )
  assert 0.6 * proven < found < 0.9 * proven
  # The estimate alone is less than what is claimed.
  there = accounting.monte_carlo_delta(
      run, epsilon=found, num_samples=60_000, seed=5
  )
  assert there.estimate < 1e-3


def test_too_few_samples_show_nothing():
  run = _run(2, 4)
  found = accounting.monte_carlo_epsilon(
      run, delta=1e-5, num_samples=100, seed=0
  )
  assert found == accounting.epsilon(run, delta=1e-5)


@pytest.mark.parametrize("name", ["removed", "added"])
def test_no_sample_exceeds_its_bound(name):
  rng = np.random.default_rng(0)
  epsilons = np.array([0.0, 0.5, 1.5])
  for noise, t, k, rounds in ((0.7, 3, 2, 2), (1.5, 5, 1, 1), (2.0, 2, 2, 3)):
    drawn = simulation.Allocation(noise, t, k, rounds)
    for _ in range(150):
      values, bound = getattr(drawn, name)(epsilons, 1.5, 1, rng)
      assert (values <= bound * (1 + 1e-9)).all()


@pytest.mark.parametrize("hits", [0, 3, 50, 1000])
def test_the_bound_is_never_below_the_exact_one_of_coins(hits):
  found = monte_carlo._upper(hits / 1000, 1.0, 1000, 1e-6)
  exact = (
      1.0 if hits == 1000 else stats.beta.ppf(1 - 1e-6, hits + 1, 1000 - hits)
  )
  assert exact <= found <= max(1.0, 1.5 * exact)
  # A number in [0, 1/4] with the same share has a quarter of the bound.
  quarter = monte_carlo._upper(hits / 4000, 0.25, 1000, 1e-6)
  assert math.isclose(quarter, found / 4, rel_tol=1e-6)


def test_a_draw_whose_weights_are_forgotten_is_caught(monkeypatch):
  # The planted bug: large losses are drawn often, and count in full.
  ratio = simulation.Allocation._log_ratio
  monkeypatch.setattr(
      simulation.Allocation,
      "_log_ratio",
      lambda self, z, _: ratio(self, z, 1.0),
  )
  run = _run(1, 8)
  found = accounting.monte_carlo_delta(
      run, epsilon=2.0, num_samples=40_000, seed=1
  )
  assert found.estimate > 1.2 * accounting.delta(run, epsilon=2.0)


def test_seeds_and_refusals():
  run = _run(2, 4)
  one, again, other = (
      accounting.monte_carlo_delta(
          run, epsilon=1.0, num_samples=200, seed=seed
      ).estimate
      for seed in (0, 0, 1)
  )
  assert one == again != other
  delta = {"delta": 1e-5}
  with pytest.raises(ValueError, match="mechanism must be one with an exact"):
    accounting.monte_carlo_epsilon(
        accounting.Mechanism(
            noise_multiplier=1.0, num_steps=4, sampling_prob=0.5
        ),
        **delta,
    )
  with pytest.raises(ValueError, match="under 'replace_one'"):
    replaced = run.with_neighboring_relation("replace_one")
    accounting.monte_carlo_delta(replaced, epsilon=1.0)
  with pytest.raises(ValueError, match="confidence must be above 1 - delta"):
    accounting.monte_carlo_epsilon(run, **delta, confidence=0.99)
  with pytest.raises(ValueError, match="num_samples must be an integer of at"):
    accounting.monte_carlo_epsilon(run, **delta, num_samples=10)
  with pytest.raises(ValueError, match="noise_multiplier must be from 0.1"):
    accounting.monte_carlo_delta(_run(2, 4, noise=0.01), epsilon=1.0)
