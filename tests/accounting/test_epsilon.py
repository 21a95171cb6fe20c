"""Epsilon and delta: against references, closed forms and known faults."""

import dataclasses
import json
import math
import pathlib
import warnings

import dp_accounting
import hypothesis
import numpy as np
import pytest
from dp_accounting import pld, rdp
from hypothesis import strategies as st
from scipy import integrate, special, stats

import accounting
from accounting import Mechanism, _pld, _rdp

_ROWS = json.loads(
    (pathlib.Path(__file__).parent / "reference_epsilon.json").read_text()
)["rows"]
_SETTINGS = hypothesis.settings(max_examples=8, deadline=None)


def _row_mechanism(row, **fields):
  names = ("noise_multiplier", "num_steps", "sampling_prob")
  return Mechanism(**{n: row[n] for n in names}, **fields)


def _run(noise=3.0, prob=4096 / 50_000, steps=1000, **fields):
  return Mechanism(
      noise_multiplier=noise, sampling_prob=prob, num_steps=steps, **fields
  )


@pytest.fixture(autouse=True)
def _vacuous_is_fine():
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", accounting.VacuousGuaranteeWarning)
    warnings.simplefilter("ignore", accounting.OrderGridWarning)
    yield


def _gaussian_delta(mu, epsilon):
  """Delta of one Gaussian release: Balle and Wang 2018, Theorem 8."""
  return special.ndtr(mu / 2 - epsilon / mu) - math.exp(
      epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
  )


@pytest.mark.parametrize("row", _ROWS, ids=lambda r: r["name"])
def test_reference_epsilons_to_a_thousandth(row):
  run = _row_mechanism(row)
  delta = row["delta"]
  assert accounting.epsilon(run, delta=delta) == pytest.approx(
      row["epsilon_pld"], abs=1e-3
  )
  assert accounting.epsilon(
      run, delta=delta, accountant="rdp"
  ) == pytest.approx(row["epsilon_rdp"], abs=1e-3)
  replaced = _row_mechanism(row, neighboring_relation="replace")
  assert accounting.epsilon(replaced, delta=delta) == pytest.approx(
      row["epsilon_pld_replace_one"], abs=1e-3
  )


@pytest.mark.parametrize("row", _ROWS, ids=lambda r: r["name"])
def test_pld_is_inside_the_independent_prv_interval(row):
  low, _, high = row["prv_lower_estimate_upper"]
  assert low <= accounting.epsilon(_row_mechanism(row), delta=row["delta"])
  assert accounting.epsilon(_row_mechanism(row), delta=row["delta"]) <= high


@pytest.mark.parametrize("row", _ROWS, ids=lambda r: r["name"])
def test_delta_inverts_epsilon(row):
  run = _row_mechanism(row)
  for accountant in accounting.epsilon.__globals__["ACCOUNTANTS"]:
    epsilon = accounting.epsilon(run, delta=row["delta"], accountant=accountant)
    back = accounting.delta(run, epsilon=epsilon, accountant=accountant)
    # RDP's best order for delta may differ from epsilon's, and do better.
    assert back == pytest.approx(row["delta"], rel=1e-3)


def test_known_values_of_other_samplers():
  # Issued values: truncated Poisson by PLD, and fixed size by RDP.
  for cap, expected in ((4400, 3.8827), (4096, 13.183)):
    run = _run(
        sampling="truncated_poisson", num_examples=50_000, max_batch_size=cap
    )
    assert accounting.epsilon(run, delta=1e-5) == pytest.approx(
        expected, abs=1e-3
    )
  run = _run(
      sampling="fixed_without_replacement",
      num_examples=50_000,
      neighboring_relation="replace",
  )
  assert accounting.epsilon(run, delta=1e-5, accountant="rdp") == pytest.approx(
      25.04, abs=5e-3
  )


def test_half_the_noise_is_what_fixed_size_needs():
  # Planted bug: the full noise multiplier gives 9.60, 2.6 times too little.
  event = dp_accounting.SelfComposedDpEvent(
      dp_accounting.SampledWithoutReplacementDpEvent(
          50_000, 4096, dp_accounting.GaussianDpEvent(3.0)
      ),
      1000,
  )
  accountant = rdp.RdpAccountant(
      neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE
  )
  assert accountant.compose(event).get_epsilon(1e-5) < 10


@pytest.mark.parametrize("mu", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 2.0])
def test_without_sampling_delta_is_the_gaussian_closed_form(mu, epsilon):
  # 25 releases at noise 5 / mu compose to one of parameter mu.
  run = _run(noise=5 / mu, prob=1.0, steps=25)
  exact = _gaussian_delta(mu, epsilon)
  if exact > 1e-12:
    assert accounting.delta(run, epsilon=epsilon) == pytest.approx(
        exact, rel=1e-3
    )
  # Replacing doubles the sensitivity, which is to double mu.
  run = dataclasses.replace(run, neighboring_relation="replace")
  assert accounting.delta(run, epsilon=epsilon) == pytest.approx(
      _gaussian_delta(2 * mu, epsilon), rel=1e-3
  )


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_deterministic_batches_get_no_amplification(accountant):
  run = _run(noise=8.0, prob=0.1, steps=40, sampling="deterministic")
  epochs = _run(noise=8.0, prob=1.0, steps=4)
  assert accounting.epsilon(
      run, delta=1e-5, accountant=accountant
  ) == accounting.epsilon(epochs, delta=1e-5, accountant=accountant)
  sampled = _run(noise=8.0, prob=0.1, steps=40)
  assert accounting.epsilon(sampled, delta=1e-5) < accounting.epsilon(
      run, delta=1e-5
  )


def test_one_sampled_step_is_the_integral_of_the_hockey_stick():
  q, noise, epsilon = 0.2, 0.8, 0.1

  def density(x, shift):
    return stats.norm.pdf(x, shift, noise)

  def gap(x):
    mixed = q * density(x, 1) + (1 - q) * density(x, 0)
    return max(mixed - math.exp(epsilon) * density(x, 0), 0.0)

  exact, _ = integrate.quad(gap, -10, 12, limit=400, points=[0, 0.5, 1])
  run = _run(noise=noise, prob=q, steps=1)
  assert accounting.delta(run, epsilon=epsilon) == pytest.approx(
      exact, rel=1e-4
  )


@pytest.mark.parametrize("relation", ["add_or_remove", "replace"])
def test_own_sums_agree_with_dp_accounting(relation):
  # The slow oracle: dp-accounting's accountant, bin by bin, on its own grid.
  run = _run(noise=1.0, prob=0.02, steps=300, neighboring_relation=relation)
  accountant = pld.PLDAccountant(
      dp_accounting.NeighboringRelation[run.neighboring_relation.upper()]
  ).compose(run.event())
  for delta in (1e-3, 1e-5, 1e-9):
    assert accounting.epsilon(run, delta=delta) == pytest.approx(
        accountant.get_epsilon(delta), rel=1e-3
    )
  for epsilon in (0.0, 0.5, 3.0):
    assert accounting.delta(run, epsilon=epsilon) == pytest.approx(
        accountant.get_delta(epsilon), rel=2e-3
    )


_runs = st.builds(
    _run,
    noise=st.floats(0.6, 20.0),
    prob=st.floats(1e-3, 1.0),
    steps=st.integers(1, 3000),
)


@_SETTINGS
@hypothesis.given(_runs, st.floats(1e-9, 1e-2), st.floats(1.02, 2.0))
def test_epsilon_is_monotone_in_everything(run, delta, factor):
  base = accounting.epsilon(run, delta=delta)
  more = [
      dataclasses.replace(run, noise_multiplier=run.noise_multiplier / factor),
      dataclasses.replace(run, num_steps=math.ceil(run.num_steps * factor)),
      dataclasses.replace(
          run, sampling_prob=min(1.0, run.sampling_prob * factor)
      ),
      dataclasses.replace(run, neighboring_relation="replace"),
  ]
  # 1e-4 is the noise of the grid's position; the factor's effect is larger.
  slack = 1e-4 * base + 1e-6
  for other in more:
    assert accounting.epsilon(other, delta=delta) >= base - slack
  assert accounting.epsilon(run, delta=delta / factor) >= base - 1e-9


@_SETTINGS
@hypothesis.given(_runs, st.floats(1e-9, 1e-2))
def test_rdp_is_never_below_pld(run, delta):
  tight = accounting.epsilon(run, delta=delta)
  loose = accounting.epsilon(run, delta=delta, accountant="rdp")
  assert loose >= tight * (1 - 2e-3) - 1e-6


@_SETTINGS
@hypothesis.given(_runs)
def test_coarser_bins_only_raise_epsilon(run):
  fine = _pld.composed(run).epsilon(1e-5)
  coarse = _pld.composed(run, coarsening=5.0).epsilon(1e-5)
  assert coarse >= fine * (1 - 1e-5) - 1e-9


@pytest.mark.parametrize(
    ("noise", "prob", "steps"), [(10.0, 1e-3, 10**5), (100.0, 1e-2, 10**6)]
)
def test_small_losses_do_not_drown_in_wide_bins(noise, prob, steps):
  # So many tiny steps are Gaussian: mu = q sqrt(T (exp(1/s^2) - 1)). The
  # default grid of 1e-4 is as wide as a step's loss, and 8% off or more.
  run = _run(noise=noise, prob=prob, steps=steps)
  mu = prob * math.sqrt(steps * math.expm1(noise**-2))
  epsilon = accounting.epsilon(run, delta=1e-5)
  assert _gaussian_delta(mu, epsilon) == pytest.approx(1e-5, rel=0.02)


# --- Faults of dp-accounting 0.6.0, each worked around ---------------------


def test_fault_pld_is_infinite_at_tiny_delta():
  run = _run(noise=1.0, prob=0.01, steps=1000)
  theirs = pld.PLDAccountant().compose(run.event()).get_epsilon(1e-16)
  assert math.isinf(theirs), "Fixed upstream: drop the workaround."
  with pytest.warns(accounting.TinyDeltaWarning, match="rounding errors"):
    ours = accounting.epsilon(run, delta=1e-16)
  assert ours == accounting.epsilon(run, delta=1e-16, accountant="rdp")
  assert math.isfinite(ours)


def test_tiny_delta_is_refused_where_rdp_cannot_answer():
  run = _run(steps=10, neighboring_relation="replace")
  with pytest.raises(ValueError, match=r"delta must be above 1e-13 for pld"):
    accounting.epsilon(run, delta=1e-14)


def test_delta_never_falls_into_the_noise():
  run = _run(noise=5.0, prob=0.01, steps=100)
  # The truth is about 1e-100 at epsilon 5; PLD's floor would be its rounding.
  assert 0 <= accounting.delta(run, epsilon=5.0) <= 1e-13
  replaced = dataclasses.replace(run, neighboring_relation="replace")
  assert accounting.delta(replaced, epsilon=20.0) == 1e-13


def test_fault_rdp_ignores_replace_one():
  run = _run(noise=4.0, prob=1.0, steps=1, neighboring_relation="replace")
  event = dp_accounting.GaussianDpEvent(4.0)
  both = [
      rdp.RdpAccountant(neighboring_relation=r).compose(event).get_epsilon(1e-5)
      for r in (
          dp_accounting.NeighboringRelation.REPLACE_ONE,
          dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
      )
  ]
  assert both[0] == both[1], "Fixed upstream: drop the workaround."
  ours = accounting.epsilon(run, delta=1e-5, accountant="rdp")
  assert ours == pytest.approx(
      accounting.epsilon(
          _run(noise=2.0, prob=1.0, steps=1), delta=1e-5, accountant="rdp"
      )
  )
  assert ours > accounting.epsilon(run, delta=1e-5)


def test_fault_rdp_is_not_monotone_in_the_order():
  run = _run(noise=0.5, prob=0.02, steps=1)
  accountant = rdp.RdpAccountant().compose(run.event(accountant="rdp"))
  # Infinite at 1.1 to 1.3, where its series did not converge.
  assert accountant.rdp[0] > accountant.rdp[5], "Fixed upstream."
  _, ours = _rdp.step_divergences(run)
  assert np.all(np.diff(ours) >= 0)
  assert np.all(np.isfinite(ours))


@_SETTINGS
@hypothesis.given(st.floats(0.3, 1e4), st.floats(1e-9, 1.0))
def test_renyi_divergences_are_positive_rising_and_exact_at_two(noise, prob):
  run = _run(noise=noise, prob=prob, steps=1)
  orders, values = _rdp.step_divergences(run)
  assert np.all(values > 0), "A divergence of 0 would claim an epsilon of 0."
  assert np.all(np.diff(values) >= 0)
  # Two terms: E[(p/q)^2] = 1 + q^2 (exp(1/s^2) - 1).
  exact = math.log1p(prob**2 * math.expm1(noise**-2))
  at_two = values[np.flatnonzero(orders == 2)[0]]
  assert at_two >= exact * (1 - 1e-9)
  assert at_two == pytest.approx(exact, rel=1e-6, abs=1e-13)


def test_own_conversion_agrees_with_dp_accounting():
  run = _run(noise=1.1, prob=0.01, steps=1)
  orders, values = _rdp.step_divergences(run)
  for steps in (1, 10, 10_000):
    ours = _rdp.epsilons(run, steps=[steps], delta=1e-6)[0][0]
    theirs, _ = rdp.compute_epsilon(orders, steps * values, 1e-6)
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_best_order_at_the_edge_warns():
  with warnings.catch_warnings():
    warnings.simplefilter("error", accounting.OrderGridWarning)
    accounting.epsilon(_run(), delta=1e-5, accountant="rdp")
    with pytest.raises(accounting.OrderGridWarning, match="1024"):
      accounting.epsilon(
          _run(noise=300.0, steps=10), delta=1e-5, accountant="rdp"
      )


# --- Refusals and warnings ------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "accountant", "remedy"),
    [
        ({"neighboring_relation": "replace"}, "rdp", "'pld'"),
        (
            {
                "sampling": "truncated_poisson",
                "num_examples": 100,
                "max_batch_size": 20,
            },
            "rdp",
            "'pld'",
        ),
        (
            {
                "sampling": "fixed_without_replacement",
                "num_examples": 100,
                "neighboring_relation": "replace",
            },
            "pld",
            "'rdp'",
        ),
        (
            {"sampling": "fixed_without_replacement", "num_examples": 100},
            "rdp",
            "'rdp' with neighboring_relation 'replace_one'",
        ),
    ],
)
def test_pair_without_analysis_is_refused_by_name(fields, accountant, remedy):
  run = _run(prob=0.1, **fields)
  pattern = f"accountant must be one .*{run.sampling}.*{remedy}"
  for call in (
      lambda: accounting.epsilon(run, delta=1e-5, accountant=accountant),
      lambda: accounting.delta(run, epsilon=1.0, accountant=accountant),
      lambda: accounting.epsilon_curve(
          run, steps=[1], delta=1e-5, accountant=accountant
      ),
      lambda: accounting.calibrate_noise(
          run, epsilon=1.0, delta=1e-5, accountant=accountant
      ),
  ):
    with pytest.raises(ValueError, match=pattern):
      call()


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, math.nan, True, "1e-5"])
def test_bad_delta_is_refused(value):
  with pytest.raises(ValueError, match=r"^delta must be a number in \(0, 1\)"):
    accounting.epsilon(_run(), delta=value)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, None])
def test_bad_epsilon_is_refused(value):
  with pytest.raises(ValueError, match=r"^epsilon must be a finite number"):
    accounting.delta(_run(), epsilon=value)


def test_unknown_accountant_is_refused():
  with pytest.raises(ValueError, match="accountant must be one of pld, rdp"):
    accounting.epsilon(_run(), delta=1e-5, accountant="gdp")


def test_delta_of_one_in_n_or_more_warns():
  run = _run(num_examples=1000)
  with pytest.warns(accounting.LargeDeltaWarning, match="1 / num_examples"):
    accounting.epsilon(run, delta=1e-3)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    accounting.epsilon(run, delta=0.99e-3)


def test_vacuous_guarantee_warns():
  with pytest.warns(accounting.VacuousGuaranteeWarning, match="vacuous"):
    accounting.epsilon(_run(noise=0.2, prob=1.0, steps=10), delta=1e-5)


@pytest.mark.parametrize("noise", [1e-3, 1e-8])
def test_hardly_any_noise_gives_a_finite_number_or_infinity(noise):
  assert accounting.epsilon(_run(noise=noise, steps=10), delta=1e-5) > 1e4
  replaced = _run(noise=noise, steps=10, neighboring_relation="replace")
  assert accounting.epsilon(replaced, delta=1e-5) > 1e4


# --- Curves ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "prob"), [(3.0, 0.08), (1.0, 0.01), (0.7, 0.001), (8.0, 1.0)]
)
@pytest.mark.parametrize("sampling", ["poisson", "deterministic"])
def test_interpolated_curve_is_right_between_its_knots(noise, prob, sampling):
  run = _run(noise=noise, prob=prob, sampling=sampling)
  steps = np.arange(1, 3001)
  curve = accounting.epsilon_curve(run, steps=steps, delta=1e-6)
  assert np.all(np.diff(curve) >= 0)
  for index in (0, 1, 6, 40, 333, 1234, 2999):
    exact = accounting.epsilon(
        dataclasses.replace(run, num_steps=int(steps[index])), delta=1e-6
    )
    assert curve[index] >= exact * (1 - 1e-3)
    assert curve[index] <= exact * 1.01 + 1e-6
  assert curve[-1] == pytest.approx(exact, rel=1e-9)


def test_rdp_curve_is_epsilon_at_each_step():
  steps = [5, 1, 20_000]
  curve = accounting.epsilon_curve(
      _run(), steps=steps, delta=1e-5, accountant="rdp"
  )
  for value, count in zip(curve, steps, strict=True):
    assert value == accounting.epsilon(
        _run(steps=count), delta=1e-5, accountant="rdp"
    )


def test_curve_of_nothing_is_empty_and_bad_steps_are_refused():
  assert accounting.epsilon_curve(_run(), steps=[], delta=1e-5).shape == (0,)
  with pytest.raises(ValueError, match="steps must be an integer of at least"):
    accounting.epsilon_curve(_run(), steps=[1, 0], delta=1e-5)
