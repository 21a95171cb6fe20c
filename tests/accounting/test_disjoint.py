"""Disjoint data, public steps, stated guarantees: closed forms and refusals."""

import itertools
import json
import math

import numpy as np
import pytest

import accounting
from accounting import ApproximateDp, Composition, Disjoint, Laplace, Public
from accounting.numerics import binomial, curves, pld
from tests.support import mechanisms

_NORTH, _SOUTH = Laplace(scale=2.0), Laplace(scale=4.0)
_RUN = mechanisms.run(noise=4.0, prob=0.01, steps=50, num_examples=1000)


def _split(**of):
  return Disjoint(by="hospital", of=of)


def _laplace_delta(loss, epsilon):
  return max(0.0, 1 - math.exp((epsilon - loss) / 2))


def test_a_unit_pays_for_the_worst_part():
  split = _split(north=_NORTH, south=_SOUTH, east=_SOUTH)
  for epsilon in (0.0, 0.2, 0.4):
    exact = _laplace_delta(0.5, epsilon)
    found = accounting.delta(split, epsilon=epsilon)
    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-3)
  both = accounting.epsilon(_NORTH + _SOUTH, delta=1e-6)
  assert accounting.epsilon(split, delta=1e-6) < 0.7 * both
  # Which part is worst can change with epsilon: here at one large answer.
  rare = ApproximateDp(epsilon=0.01, delta=0.05)
  mixed = _split(north=_NORTH, south=rare)
  for epsilon in (0.0, 0.3, 0.6):
    assert accounting.delta(mixed, epsilon=epsilon) == max(
        accounting.delta(part, epsilon=epsilon) for part in (_NORTH, rare)
    )
  profile, worst = (
      accounting.privacy_profile(m) for m in (split, _split(north=_NORTH))
  )
  assert profile.advantage == worst.advantage
  assert profile.gdp_mu == worst.gdp_mu
  assert profile.gdp_regret <= worst.gdp_regret


def test_each_part_is_composed_with_what_all_are_in():
  split = _split(north=_NORTH, south=2 * _SOUTH)
  whole = 3 * Laplace(scale=5.0) + split
  parts = (3 * Laplace(scale=5.0) + part for part in (_NORTH, 2 * _SOUTH))
  assert accounting.epsilon(whole, delta=1e-5) == max(
      accounting.epsilon(part, delta=1e-5) for part in parts
  )
  # Splits of one name are one split; of two names a unit is in any two parts.
  again = split + _split(north=_SOUTH, west=_NORTH)
  [(merged, _)] = again.releases
  assert dict(merged.of)["north"] == _NORTH + _SOUTH
  other = Disjoint(
      by="year",
      of={"2024": _NORTH, "2025": Laplace(scale=3.0, sensitivity=2.0)},
  )
  assert len((split + other).alternatives) == 4
  worst = accounting.epsilon(2 * _NORTH, delta=1e-5)
  assert accounting.epsilon(split + other, delta=1e-5) >= worst


def test_disjointness_is_stated_and_printed():
  split = Composition([_split(north=_RUN, south=_NORTH)], unit="patient")
  made = accounting.make_statement(
      split + 2 * split, delta=1e-5, batches="poisson"
  )
  text = {s.title: " ".join(s.paragraphs) for s in made.sections}
  assert "no patient is in two parts" in text["What is released"]
  assert "split by hospital" in text["What is released"]
  rows = {s.title: dict(s.rows) for s in made.sections}["What is released"]
  assert [*rows] == [
      "release 1",
      "release 1 (north), 3 times",
      "release 1 (south), 3 times",
  ]
  assert "every patient enters every batch" in text["Accounting"]
  assert made.facts["num_examples"] == 1000
  assert Composition.from_dict(json.loads(json.dumps(split.to_dict()))) == split


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: _split(), "of must be 1 to 1000 parts, got 0"),
        (lambda: Disjoint(by="", of={"a": _NORTH}), "by must be a word or two"),
        (lambda: Disjoint(by="x", of=[3]), "of must be a mapping from names"),
        (lambda: _split(a=3), "releases must be a sequence of mechanisms"),
        (
            lambda: _split(
                a=Laplace(scale=1.0, neighboring_relation="replace")
            ),
            "neighboring_relation must be add_or_remove_one or replace_special "
            "for disjoint data .a unit that is replaced may come to be in an",
        ),
        (
            lambda: _split(
                a=Composition([_NORTH], unit="patient"),
                b=Composition([_NORTH], unit="visit"),
            ),
            "unit must be the same for all releases, got 'patient' and 'visit'",
        ),
        (
            lambda: Composition([_split(a=_NORTH)], unit="visit")
            + Composition([_NORTH], unit="patient"),
            "unit must be the same for all releases",
        ),
        (
            lambda: accounting.epsilon(
                Composition(
                    [
                        Disjoint(
                            by=by,
                            of={
                                str(i): Laplace(
                                    scale=1.0 + i, sensitivity=2.0 + i
                                )
                                for i in range(25)
                            },
                        )
                        for by in ("hospital", "year")
                    ]
                ),
                delta=1e-5,
            ),
            "must make at most 500 combinations, got 625 of 'hospital', 'year'",
        ),
    ],
)
def test_what_is_no_split_is_refused(make, text):
  with pytest.raises(ValueError, match=text):
    make()


def test_a_users_examples_may_be_in_all_parts():
  split = _split(north=_NORTH, south=_SOUTH)
  two = accounting.user_epsilon(split, examples_per_user=2, delta=1e-6)
  # At worst both are in each: twice each loss, 0.5 and 0.25.
  assert two == pytest.approx(
      accounting.epsilon(Laplace(scale=1.0) + Laplace(scale=2.0), delta=1e-6),
      rel=1e-9,
  )
  assert accounting.user_epsilon(
      split, examples_per_user=1, delta=1e-6
  ) == accounting.epsilon(split, delta=1e-6)


def test_a_public_step_costs_nothing_and_is_said():
  public = Public(what="normalised by the mean of a public set")
  for name in ("pld", "rdp"):
    assert accounting.epsilon(public, delta=1e-5, accountant=name) == 0.0
    assert accounting.delta(public, epsilon=0.0, accountant=name) <= 1e-30
    ask = {"delta": 1e-5, "accountant": name}
    assert accounting.epsilon(public + _RUN, **ask) == accounting.epsilon(
        Composition([_RUN]), **ask
    )
  replaced = mechanisms.run(prob=1.0, steps=1, neighboring_relation="replace")
  assert (public + replaced).neighboring_relation == "replace_one"
  made = accounting.make_statement(public + _RUN, delta=1e-5)
  assert "normalised by the mean of a public set" in str(made.sections)
  assert "read none of the data" in str(made.sections)
  for bad in ("", "two\nlines", 3, "x" * 201):
    with pytest.raises(ValueError, match="what must be a text that says what"):
      Public(what=bad)


def _optimal_delta(guarantees, epsilon):
  """Murtagh and Vadhan 2016, Theorem 1.5: a sum over all subsets."""
  total = 0.0
  for signs in itertools.product((1, -1), repeat=len(guarantees)):
    loss = sum(s * e for s, (e, _) in zip(signs, guarantees, strict=True))
    prob = math.prod(
        math.exp((s + 1) / 2 * e) / (1 + math.exp(e))
        for s, (e, _) in zip(signs, guarantees, strict=True)
    )
    total += prob * max(0.0, -math.expm1(epsilon - loss))
  kept = math.prod(1 - delta for _, delta in guarantees)
  return 1 - kept * (1 - total)


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", range(4))
def test_stated_guarantees_that_differ_compose_to_their_optimum(seed):
  rng = np.random.default_rng(seed)
  stated = [
      (float(rng.uniform(0.01, 0.6)), float(10 ** rng.uniform(-9, -4)))
      for _ in range(int(rng.integers(2, 8)))
  ]
  all_ = Composition([ApproximateDp(epsilon=e, delta=d) for e, d in stated])
  for share in (0.0, 0.3, 0.8):
    epsilon = share * sum(e for e, _ in stated)
    exact = _optimal_delta(stated, epsilon)
    found = accounting.delta(all_, epsilon=epsilon)
    assert exact * (1 - 1e-9) <= found <= exact * (1 + 5e-3)
    # By RDP too: what is not revealed has a divergence.
    assert exact * (1 - 1e-9) <= accounting.delta(
        all_, epsilon=epsilon, accountant="rdp"
    )


def test_zero_concentrated_privacy_has_a_curve():
  """No release that is rho-zCDP is above it; and RDP shows no less."""
  rho = 0.1
  stated = accounting.ZeroConcentratedDp(rho=rho)
  gaussian = accounting.Gaussian(stddev=1 / math.sqrt(2 * rho))
  [step] = curves.ZeroConcentrated(rho).steps(1e-3, tail=1e-25)
  losses = step.losses(1e-3)
  # Rounded up: never less than 1.
  assert 1 - 1e-12 <= np.sum(step.probs) + step.infinite <= 1 + 1e-8
  # Seen from the other data set it is the same.
  np.testing.assert_allclose(
      step.probs * np.exp(-losses), step.probs[::-1], rtol=1e-6, atol=1e-18
  )
  for epsilon in (0.0, 0.5, 1.5, 3.0):
    curve = step.infinite + np.sum(
        step.probs * np.maximum(0.0, -np.expm1(epsilon - losses))
    )
    assert curve >= accounting.delta(gaussian, epsilon=epsilon)
    bound = curves.ZeroConcentrated(rho).deltas(np.array([epsilon]))[0]
    # Between its points the curve is a chord, 1 / 200 of a deviation wide.
    assert curve <= bound * (1 + 1e-3)
  # rho adds up, and what has a loss of its own is composed with it.
  ask = {"delta": 1e-6}
  thrice = accounting.epsilon(3 * stated, **ask)
  assert thrice == pytest.approx(
      accounting.epsilon(accounting.ZeroConcentratedDp(rho=3 * rho), **ask)
  )
  both = stated + ApproximateDp(epsilon=0.3, delta=1e-8)
  found = accounting.epsilon(both, **ask)
  least = accounting.epsilon(
      gaussian + ApproximateDp(epsilon=0.3, delta=1e-8), **ask
  )
  assert least < found <= accounting.epsilon(both, accountant="rdp", **ask)


def _clear():
  for fn in (
      binomial.numbers_in_batch,
      pld.compose,
      pld._steps,
      accounting.accountants.pld._kept,
  ):
    fn.cache_clear()


def test_a_mixture_of_few_numbers_is_no_more_private(monkeypatch):
  """A user's numbers of examples are grouped upwards."""
  run = mechanisms.run(noise=150.0, prob=0.3, steps=1)

  def found():
    _clear()
    return accounting.user_epsilon(run, examples_per_user=150, delta=1.5e-5)

  exact = found()
  for most in (20,):
    monkeypatch.setattr(binomial, "MAX_NUMBERS", most)
    numbers, weights = binomial.numbers_in_batch.__wrapped__(150, 0.3)
    assert len(numbers) <= most + 2 and sum(weights) == pytest.approx(1.0)
    coarser = found()
    assert exact < coarser < 1.6 * exact
  _clear()
