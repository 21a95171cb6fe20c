"""Several examples a user, and several runs: known values and limits."""

import dataclasses
import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy import optimize, stats

import accounting
from accounting import Mechanism

_RUN = Mechanism(
    noise_multiplier=3.0, sampling_prob=4096 / 50_000, num_steps=1000
)


@pytest.mark.parametrize(("count", "expected"), [(2, 8.807), (4, 21.234)])
def test_known_values_of_users(count, expected):
  found = accounting.user_epsilon(_RUN, examples_per_user=count, delta=1e-5)
  assert found == pytest.approx(expected, abs=1e-3)


def test_a_user_of_one_example_is_an_example():
  assert accounting.user_epsilon(
      _RUN, examples_per_user=1, delta=1e-5
  ) == accounting.epsilon(_RUN, delta=1e-5)


@pytest.mark.slow
def test_users_agree_with_dp_accountings_mixture():
  run = dataclasses.replace(_RUN, noise_multiplier=1.0, num_steps=20)
  q = run.sampling_prob
  theirs = pld.from_mixture_gaussian_mechanism(
      1.0,
      [0, 1, 2, 3],
      [stats.binom.pmf(i, 3, q) for i in range(4)],
      value_discretization_interval=1e-2,  # 3e-5 off, by narrower ones.
  ).self_compose(20)
  with pytest.warns(accounting.VacuousGuaranteeWarning) as caught:
    ours = accounting.user_epsilon(run, examples_per_user=3, delta=1e-6)
    accounting.user_epsilon(run, examples_per_user=100, delta=1e-6)
  assert len(caught) == 1, "Only the second is vacuous."
  assert ours == pytest.approx(theirs.get_epsilon_for_delta(1e-6), rel=1e-3)


def test_more_examples_are_less_private():
  values = [
      accounting.user_epsilon(_RUN, examples_per_user=k, delta=1e-5)
      for k in (1, 2, 3)
  ]
  assert values == sorted(values)
  # No better than k times as bad, which even delta = 0 would cost.
  assert values[2] > 3 * values[0]


@pytest.mark.parametrize(
    ("change", "arguments", "match"),
    [
        ({}, {"examples_per_user": 0}, "examples_per_user must be an integer"),
        ({}, {"delta": 1e-31}, "delta must be at least 1e-30 for users"),
        (
            {"neighboring_relation": "replace"},
            {},
            "neighboring_relation must be one of add_or_remove_one, replace_sp",
        ),
        (
            {
                "sampling": "truncated_poisson",
                "num_examples": 50_000,
                "max_batch_size": 5000,
            },
            {},
            "sampling must be one of poisson, shuffle, deterministic",
        ),
    ],
)
def test_users_refuse_what_has_no_analysis(change, arguments, match):
  run = dataclasses.replace(_RUN, **change)
  arguments = {"examples_per_user": 2, "delta": 1e-5} | arguments
  with pytest.raises(ValueError, match=match):
    accounting.user_epsilon(run, **arguments)


@pytest.mark.parametrize(
    ("distribution", "expected"), [("logarithmic", 6.67), ("poisson", 9.23)]
)
def test_known_values_of_tuning(distribution, expected):
  cost = accounting.tuning_cost(
      _RUN,
      num_trials_mean=10,
      distribution=distribution,
      delta=1e-5,
      accountant="rdp",
  )
  assert cost.epsilon_single == pytest.approx(4.212, abs=1e-3)
  assert cost.epsilon_tuned == pytest.approx(expected, abs=5e-3)
  ten = dataclasses.replace(_RUN, num_steps=10_000)
  assert cost.epsilon_naive == pytest.approx(
      accounting.epsilon(ten, delta=1e-5, accountant="rdp"), rel=1e-12
  )
  assert cost.epsilon_single < cost.epsilon_tuned < cost.epsilon_naive


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_all_runs_cost_what_they_compose_to(accountant):
  """Two runs of epsilon 3 compose to 4.44 by PLD; 4.81 is RDP's."""
  run = dataclasses.replace(_RUN, noise_multiplier=3.71517)
  cost = accounting.tuning_cost(
      run,
      num_trials_mean=1.5,
      distribution="geometric",
      delta=1e-5,
      accountant=accountant,
  )
  twice = dataclasses.replace(run, num_steps=2000)
  for found, mechanism in (
      (cost.epsilon_single, run),
      (cost.epsilon_naive, twice),
  ):
    assert found == accounting.epsilon(
        mechanism, delta=1e-5, accountant=accountant
    )
  if accountant == "pld":
    assert cost.epsilon_single == pytest.approx(3.0, abs=2e-3)
    assert cost.epsilon_naive == pytest.approx(4.44, abs=2e-2)


def test_all_runs_of_fixed_batches_are_gaussian_releases():
  """7 steps of which an example is in 3 at most: two runs are 6 releases."""
  run = Mechanism(
      noise_multiplier=4.0,
      sampling_prob=1 / 3,
      num_steps=7,
      sampling="deterministic",
  )
  cost = accounting.tuning_cost(
      run, num_trials_mean=2, distribution="poisson", delta=1e-5
  )
  # Planted: 14 steps at once are 5, and too small an epsilon.
  once = dataclasses.replace(run, num_steps=14)
  assert cost.epsilon_naive > accounting.epsilon(once, delta=1e-5)
  mu = math.sqrt(6) / 4
  delta = stats.norm.cdf(mu / 2 - cost.epsilon_naive / mu) - math.exp(
      cost.epsilon_naive
  ) * stats.norm.cdf(-mu / 2 - cost.epsilon_naive / mu)
  assert delta == pytest.approx(1e-5, rel=1e-2)


def test_all_runs_of_a_schedule_are_phases_of_both():
  run = dataclasses.replace(
      _RUN, num_steps=20, batch_size_schedule=((0, 1.0), (5, 2.0))
  )
  both = dataclasses.replace(
      run,
      num_steps=40,
      batch_size_schedule=((0, 1.0), (5, 2.0), (20, 1.0), (25, 2.0)),
  )
  cost = accounting.tuning_cost(
      run, num_trials_mean=2, distribution="poisson", delta=1e-5
  )
  assert cost.epsilon_naive == pytest.approx(
      accounting.epsilon(both, delta=1e-5), rel=1e-9
  )


@pytest.mark.parametrize(
    ("distribution", "shape"), [("logarithmic", 0.0), ("geometric", 1.0)]
)
def test_tuned_is_papernot_and_steinkes_second_theorem(distribution, shape):
  """One Gaussian of noise 2: divergence order / 8, and a grid of our own."""
  mean, delta = 5.0, 1e-6
  run = Mechanism(noise_multiplier=2.0, sampling_prob=1.0, num_steps=1)
  found = accounting.tuning_cost(
      run,
      num_trials_mean=mean,
      distribution=distribution,
      delta=delta,
      accountant="rdp",
  ).epsilon_tuned
  if shape:
    gamma = 1 / mean
  else:  # mean = (1 / gamma - 1) / log(1 / gamma)
    gamma = optimize.brentq(
        lambda g: (1 / g - 1) / math.log(1 / g) - mean, 1e-6, 0.9
    )
  hats = np.linspace(1.01, 200, 20_000)
  extra = np.min(
      (1 + shape) * ((1 - 1 / hats) * hats / 8 + math.log(1 / gamma) / hats)
  )
  orders = np.linspace(1.05, 100, 20_000)
  rdp = orders / 8 + extra + math.log(mean) / (orders - 1)
  exact = np.min(
      rdp + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
  )
  # A grid of orders can only lose: and at most 2% with dp-accounting's.
  assert exact * (1 - 1e-6) <= found <= 1.02 * exact


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"distribution": "uniform"}, "distribution must be one of logarit"),
        ({"num_trials_mean": 0.5}, r"num_trials_mean must be a number in \[1"),
        ({"num_trials_mean": math.nan}, "num_trials_mean must be a number"),
        ({"num_trials_mean": 1}, "num_trials_mean must be above 1 for logar"),
        ({"delta": 0.0}, "delta must be a number in"),
    ],
)
def test_bad_tuning_is_refused(arguments, match):
  good = {"num_trials_mean": 5, "distribution": "logarithmic", "delta": 1e-5}
  with pytest.raises(ValueError, match=match):
    accounting.tuning_cost(_RUN, **(good | arguments))


def test_tuning_needs_an_analysis():
  run = dataclasses.replace(_RUN, neighboring_relation="replace")
  with pytest.raises(ValueError, match="accountant must be one with an anal"):
    accounting.tuning_cost(
        run,
        num_trials_mean=5,
        distribution="poisson",
        delta=1e-5,
        accountant="rdp",
    )
