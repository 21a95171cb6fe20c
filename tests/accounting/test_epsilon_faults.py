"""Epsilon and delta: faults of other accountants, and refused arguments."""

import dataclasses
import math
import warnings

import dp_accounting
import hypothesis
import numpy as np
import pytest
from dp_accounting import pld, rdp
from hypothesis import strategies as st

import accounting
from accounting.numerics import rdp as rdp_lib
from tests.support import mechanisms

_run = mechanisms.run

_SETTINGS = hypothesis.settings(max_examples=8, deadline=None)


# Faults are at the ends of what can be asked, where each of these is right.
@pytest.fixture(autouse=True)
def _vacuous_is_fine():
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", accounting.VacuousGuaranteeWarning)
    warnings.simplefilter("ignore", accounting.OrderGridWarning)
    warnings.simplefilter("ignore", accounting.WideBoundWarning)
    yield


def test_fault_pld_is_infinite_at_tiny_delta():
  run = _run(noise=1.0, prob=0.01, steps=1000)
  theirs = pld.PLDAccountant().compose(run.event()).get_epsilon(1e-16)
  assert math.isinf(theirs), "Fixed upstream: drop the workaround."
  ours = accounting.epsilon(run, delta=1e-16)
  assert ours < accounting.epsilon(run, delta=1e-16, accountant="rdp")
  with pytest.warns(accounting.TinyDeltaWarning, match="ends at a delta of"):
    beyond = accounting.epsilon(run, delta=1e-31)
  assert beyond == accounting.epsilon(run, delta=1e-31, accountant="rdp")
  assert math.isfinite(beyond)


def test_tiny_delta_is_refused_where_rdp_cannot_answer():
  run = _run(steps=10, neighboring_relation="replace")
  with pytest.raises(ValueError, match=r"delta must be at least 1e-30 for pld"):
    accounting.epsilon(run, delta=1e-31)


def test_delta_never_falls_into_the_noise():
  run = _run(noise=5.0, prob=0.01, steps=100)
  # The truth is about 1e-100 at epsilon 5; below 1e-30 nothing is computed.
  assert 0 <= accounting.delta(run, epsilon=5.0) <= 1e-30
  replaced = dataclasses.replace(run, neighboring_relation="replace")
  assert accounting.delta(replaced, epsilon=20.0) == 1e-30


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
          _run(noise=2.0, prob=1.0, steps=1),
          delta=1e-5,
          accountant="rdp",
      )
  )
  assert ours > accounting.epsilon(run, delta=1e-5)


def test_fault_rdp_is_not_monotone_in_the_order():
  run = _run(noise=0.5, prob=0.02, steps=1)
  accountant = rdp.RdpAccountant().compose(run.event(accountant="rdp"))
  # Infinite at 1.1 to 1.3, where its series did not converge.
  assert accountant.rdp[0] > accountant.rdp[5], "Fixed upstream."
  _, ours = rdp_lib.step_divergences(run)
  assert np.all(np.diff(ours) >= 0)
  assert np.all(np.isfinite(ours))


@_SETTINGS
@hypothesis.given(st.floats(0.3, 1e4), st.floats(1e-9, 1.0))
def test_renyi_divergences_are_positive_rising_and_exact_at_two(noise, prob):
  run = _run(noise=noise, prob=prob, steps=1)
  orders, values = rdp_lib.step_divergences(run)
  assert np.all(values > 0), "A divergence of 0 would claim an epsilon of 0."
  assert np.all(np.diff(values) >= 0)
  # Two terms: E[(p/q)^2] = 1 + q^2 (exp(1/s^2) - 1).
  exact = math.log1p(prob**2 * math.expm1(noise**-2))
  at_two = values[np.flatnonzero(orders == 2)[0]]
  assert at_two >= exact * (1 - 1e-9)
  assert at_two == pytest.approx(exact, rel=1e-6, abs=1e-13)


def test_own_conversion_agrees_with_dp_accounting():
  run = _run(noise=1.1, prob=0.01, steps=1)
  orders, values = rdp_lib.step_divergences(run)
  for steps in (1, 10, 10_000):
    ours = rdp_lib.epsilons(run, steps=[steps], delta=1e-6)[0][0]
    theirs, _ = rdp.compute_epsilon(orders, steps * values, 1e-6)
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("noise", "steps", "delta", "order", "before"),
    [(4.0, 1000, 1e-8, 220, 0.1032), (6.0, 5000, 1e-7, 377, 0.0557)],
)
def test_the_best_order_is_found_between_far_ones(
    noise, steps, delta, order, before
):
  # The oracle: every whole order near the best, by dp-accounting.
  run = _run(noise=noise, prob=1e-3, steps=steps)
  orders = list(range(order - 4, order + 5))
  accountant = rdp.RdpAccountant(orders=orders)
  accountant.compose(run.event(accountant="rdp"))
  exact = accountant.get_epsilon(delta)
  ours = accounting.epsilon(run, delta=delta, accountant="rdp")
  assert ours == pytest.approx(exact, rel=1e-4)
  assert ours < before
  # And of delta, which is steep in the order.
  back = accounting.delta(run, epsilon=ours, accountant="rdp")
  assert back == pytest.approx(delta, rel=1e-2)


def test_a_divergence_keeps_its_digits_beside_one():
  # At order 3: A - 1 = 3 q^2 (1 - q) (e^u - 1) + q^3 (e^(3 u) - 1), u = 1/s^2.
  q, u = 1e-8, 0.04
  run = _run(noise=5.0, prob=q, steps=1)
  orders, values = rdp_lib.step_divergences(run)
  exact = 3 * q**2 * (1 - q) * math.expm1(u) + q**3 * math.expm1(3 * u)
  assert values[orders == 3] == pytest.approx(exact / 2, rel=1e-10)


def test_best_order_at_the_edge_warns():
  with warnings.catch_warnings():
    warnings.simplefilter("error", accounting.OrderGridWarning)
    accounting.epsilon(_run(), delta=1e-5, accountant="rdp")
    with pytest.raises(accounting.OrderGridWarning, match="16384"):
      accounting.epsilon(
          _run(noise=3000.0, steps=10), delta=1e-9, accountant="rdp"
      )


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
                "sampling": "random_allocation",
                "num_examples": 100,
                "neighboring_relation": "replace",
            },
            "pld",
            "'add_or_remove_one' or 'replace_special'",
        ),
        (
            {"sampling": "fixed_without_replacement", "num_examples": 100},
            "rdp",
            "'pld'",
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
