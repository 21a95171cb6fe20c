"""Releases that are no training runs: closed forms, sums and an oracle."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
from dp_accounting.pld import common
from dp_accounting.pld import privacy_loss_distribution as oracle
from scipy import special

import accounting
from accounting import Composition, mechanisms
from accounting.mechanisms import registry
from accounting.numerics import atoms, pld
from tests.support import mechanisms as runs

_H = {"value_discretization_interval": 1e-3}
_RR = math.exp(0.7)
# A release, and dp-accounting's distribution of its loss.
_KINDS = [
    (
        accounting.Laplace(scale=4.0, sensitivity=2.0),
        lambda: oracle.from_laplace_mechanism(2.0, **_H),
    ),
    (
        accounting.DiscreteLaplace(scale=5.0, sensitivity=3),
        lambda: oracle.from_discrete_laplace_mechanism(0.2, 3, **_H),
    ),
    (
        accounting.Gaussian(stddev=6.0, sensitivity=2.0),
        lambda: oracle.from_gaussian_mechanism(3.0, **_H),
    ),
    (
        accounting.DiscreteGaussian(stddev=3.0, sensitivity=2),
        lambda: oracle.from_discrete_gaussian_mechanism(3.0, 2, **_H),
    ),
    (
        accounting.RandomizedResponse(epsilon=0.7, num_answers=4),
        lambda: oracle.from_randomized_response(4 / (_RR + 3), 4, **_H),
    ),
    (
        accounting.ApproximateDp(epsilon=0.7, delta=1e-7),
        lambda: oracle.from_privacy_parameters(
            common.DifferentialPrivacyParameters(0.7, 1e-7), **_H
        ),
    ),
]
_ALL = [each for each, _ in _KINDS] + [
    accounting.Exponential(epsilon=0.7),
    accounting.ZeroConcentratedDp(rho=0.1),
    accounting.Public(what="a public mean"),
]
_kind = lambda value: getattr(value, "kind", "oracle")


@pytest.fixture(autouse=True)
def _grid_ends_are_fine():
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", accounting.OrderGridWarning)
    warnings.simplefilter("ignore", accounting.VacuousGuaranteeWarning)
    yield


@pytest.mark.parametrize("release, made", _KINDS, ids=_kind)
@pytest.mark.parametrize("count", [1, 15])
def test_it_agrees_with_dp_accounting(release, made, count):
  theirs = made().self_compose(count) if count > 1 else made()
  found = accounting.epsilon(count * release, delta=1e-5)
  # Theirs is rounded up by as much as a bin, or two, in each release.
  above = theirs.get_epsilon_for_delta(1e-5)
  # Ours, on a grid of its own, is within a thousandth above the truth.
  assert above - 2e-3 * count <= found <= above * (1 + 1e-3)


@pytest.mark.parametrize("release", _ALL, ids=_kind)
def test_rdp_is_never_below_pld(release):
  for count in (1, 20):
    by_pld, by_rdp = (
        accounting.epsilon(count * release, delta=1e-5, accountant=name)
        for name in ("pld", "rdp")
    )
    # The exponential mechanism has a bound of its own by RDP.
    if release.kind != "exponential":
      assert by_pld <= by_rdp * (1 + 1e-9)
    assert (0 < by_rdp < math.inf) or release.kind == "public"


@pytest.mark.parametrize("epsilon", [0.0, 0.2, 0.45])
def test_single_releases_have_their_closed_forms(epsilon):
  e = math.exp(epsilon)
  for release, exact in (
      (accounting.Laplace(scale=2.0), 1 - math.exp((epsilon - 0.5) / 2)),
      (
          accounting.RandomizedResponse(epsilon=0.5, num_answers=3),
          (math.exp(0.5) - e) / (math.exp(0.5) + 2),
      ),
      (
          accounting.ApproximateDp(epsilon=0.5, delta=0.1),
          0.1 + 0.9 * (math.exp(0.5) - e) / (math.exp(0.5) + 1),
      ),
  ):
    found = accounting.delta(release, epsilon=epsilon)
    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-3)


def test_stated_guarantees_compose_to_their_optimum():
  # Kairouz, Oh and Viswanath 2015, Theorem 3.3.
  k, epsilon, delta = 10, 0.1, 1e-6
  ten = k * accounting.ApproximateDp(epsilon=epsilon, delta=delta)
  for i in (1, 2, 4):
    rest = (
        sum(
            math.comb(k, j)
            * (
                math.exp((k - j) * epsilon)
                - math.exp((k - 2 * i + j) * epsilon)
            )
            for j in range(i)
        )
        / (1 + math.exp(epsilon)) ** k
    )
    exact = 1 - (1 - delta) ** k * (1 - rest)
    found = accounting.delta(ten, epsilon=(k - 2 * i) * epsilon)
    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-3)
  # Below the sum of its deltas nothing is guaranteed.
  assert accounting.epsilon(ten, delta=5e-6) == math.inf
  assert accounting.epsilon(ten, delta=1.1e-5) <= 1.0


def _discrete_delta(epsilon, *pairs):
  """Delta of independent releases, by a sum over all of their outputs."""
  p, q = np.ones(1), np.ones(1)
  for there, back in pairs:
    p, q = np.outer(p, there).ravel(), np.outer(q, back).ravel()
  return float(np.sum(np.maximum(p - math.exp(epsilon) * q, 0.0)))


def _noise(logs, moved):
  probs = np.exp(logs(np.arange(-60, 61)))
  probs = np.pad(probs / np.sum(probs), moved)
  return probs, np.roll(probs, moved)


def test_different_kinds_match_a_sum_over_their_outputs():
  both = accounting.DiscreteLaplace(
      scale=2.0, sensitivity=2
  ) + accounting.DiscreteGaussian(stddev=4.0, sensitivity=3)
  pairs = (
      _noise(lambda x: -np.abs(x) / 2.0, 2),
      _noise(lambda x: -0.5 * (x / 4.0) ** 2, 3),
  )
  for epsilon in (0.0, 0.5, 1.3):
    exact = _discrete_delta(epsilon, *pairs)
    found = accounting.delta(both, epsilon=epsilon)
    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-3)


class _Down(atoms.DiscreteLaplace):
  """Planted bug: every loss is rounded down to the grid."""

  def steps(self, interval, *, tail):
    losses, probs, infinite = self.atoms(interval, tail)
    places = np.floor(losses / interval).astype(int)
    first = np.min(places)
    found = np.bincount(places - first, probs)
    return (atoms.discretise.Step(int(first), found, infinite, infinite),)


def test_a_loss_that_is_rounded_down_is_caught():
  exact = _discrete_delta(0.5, _noise(lambda x: -np.abs(x) / 2.03, 2))

  def found(kind):
    loss = pld.compose(
        ((kind(1 / 2.03, 2), 1),), deltas=(0.1,), coarsening=1000.0
    )
    return float(loss.deltas(np.array([0.5]))[0])

  assert (
      found(_Down)
      < exact * (1 - 1e-6)
      # The sum over outputs lacks exp(-60 / 2.03) of them.
      < exact * (1 - 1e-11)
      <= found(atoms.DiscreteLaplace)
  )


@pytest.mark.slow
def test_a_sum_of_absolute_changes_is_what_laplace_noise_needs():
  # Two numbers that move by parts of the sensitivity leak less than one.
  one = accounting.Laplace(scale=1.0, sensitivity=1.0)
  for share in (0.1, 0.3, 0.5):
    two = accounting.Laplace(scale=1.0, sensitivity=share) + accounting.Laplace(
        scale=1.0, sensitivity=1 - share
    )
    for epsilon in (0.0, 0.3, 0.7, 0.95):
      assert accounting.delta(two, epsilon=epsilon) <= accounting.delta(
          one, epsilon=epsilon
      ) * (1 + 1e-3)


def test_an_exponential_mechanism_is_within_its_bounds():
  rng, release = np.random.default_rng(0), accounting.Exponential(epsilon=1.0)
  deltas = {e: accounting.delta(release, epsilon=e) for e in (0.1, 0.5)}
  order = np.array([4.0])
  for _ in range(50):
    scores = rng.uniform(0, 2, size=4)
    moved = scores + rng.uniform(-1, 1, size=4)
    p, q = (special.softmax(s / 2) for s in (scores, moved))
    for epsilon, delta in deltas.items():
      assert _discrete_delta(epsilon, (p, q)) <= delta
    assert np.log(np.sum(p**4 / q**3)) / 3 <= release.divergences(order)[0]


def test_gaussians_merge_whatever_their_relation_means_for_a_run():
  # Replacing an example moves a run's sum by 2; the sensitivity is stated.
  relation = {"neighboring_relation": "replace_one"}
  both = runs.run(
      noise=4.0, prob=1.0, steps=1, **relation
  ) + accounting.Gaussian(stddev=6.0, sensitivity=2.0, **relation)
  mu = math.sqrt((2 / 4.0) ** 2 + (2 / 6.0) ** 2)
  for name in ("pld", "rdp"):
    alone = accounting.Gaussian(stddev=1 / mu, **relation)
    assert accounting.epsilon(
        both, delta=1e-5, accountant=name
    ) == pytest.approx(
        accounting.epsilon(alone, delta=1e-5, accountant=name), rel=1e-9
    )


def test_extreme_noise_is_answered():
  silent = accounting.Laplace(scale=1e300)
  assert accounting.epsilon(silent, delta=1e-5) == 0.0
  for loud in (
      accounting.Laplace(scale=1e-9),
      accounting.Gaussian(stddev=1e-9),
      accounting.ZeroConcentratedDp(rho=1e9),
  ):
    name = loud.analyses[-1]
    value = accounting.epsilon(loud, delta=1e-5, accountant=name)
    assert value == math.inf


@pytest.mark.parametrize("release", _ALL, ids=_kind)
def test_each_kind_is_written_read_and_stated(release):
  both = 2 * release + dataclasses.replace(release)
  assert both.releases == ((release, 3),)
  fields = json.loads(json.dumps(both.to_dict()))
  assert Composition.from_dict(fields) == both
  made = accounting.make_statement(
      release, delta=1e-5, accountant=release.analyses[0], unit="patient"
  )
  rows = {s.title: dict(s.rows) for s in made.sections}
  [(name, text)] = rows["What is released"].items()
  assert name == "release 1" and text.startswith(release.words)
  text = " ".join(" ".join(s.paragraphs) for s in made.sections)
  assert "gradient is clipped" not in text and "batches were" not in text
  with pytest.raises(ValueError, match="fields|must be a mapping of"):
    type(release).from_dict(fields["releases"][0]["mechanism"] | {"x": 1})
  with pytest.raises(ValueError, match="given for"):
    type(release).from_dict({})


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: accounting.Laplace(scale=0), "scale must be a finite number"),
        (
            lambda: accounting.Laplace(scale=1.0, sensitivity=math.nan),
            "sensitivity must be a finite number above 0, got nan",
        ),
        (
            lambda: accounting.DiscreteLaplace(scale=1.0, sensitivity=1.5),
            "sensitivity must be an integer of at least 1",
        ),
        (
            lambda: accounting.DiscreteGaussian(stddev=1e6),
            "stddev must be a number in",
        ),
        (
            lambda: accounting.RandomizedResponse(
                epsilon=1.0, neighboring_relation="add_or_remove"
            ),
            "neighboring_relation of randomized_response must be one of repla",
        ),
        (
            lambda: accounting.ApproximateDp(epsilon=1.0, delta=1.0),
            "delta must be a number in",
        ),
        (
            lambda: accounting.Gaussian(stddev=1.0, neighboring_relation="x"),
            "neighboring_relation must be one of add_or_remove_one",
        ),
        (
            lambda: accounting.Gaussian(stddev=1.0)
            + runs.run(neighboring_relation="replace_one"),
            "neighboring_relation must be the same for all releases",
        ),
        (
            lambda: accounting.calibrate_noise(
                accounting.Gaussian(stddev=1.0), epsilon=1.0, delta=1e-5
            ),
            "mechanism must be one Mechanism for calibrate_noise, got a Gauss",
        ),
    ],
)
def test_what_is_wrong_is_named(make, text):
  with pytest.raises(ValueError, match=text):
    make()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Coin(mechanisms.Basic):
  """Releases everything with some probability; the toy of a kind."""

  kind = "coin"
  analyses = ("pld",)
  words = "everything, by a coin"
  largest_loss = 0.0

  prob: float

  def checked(self):
    return {"prob": float(self.prob)}

  def term(self):
    return atoms.Response(0.01, self.prob), 1


def test_a_kind_is_one_class_and_one_line(monkeypatch):
  monkeypatch.setattr(registry, "_KINDS", (*registry._KINDS, _Coin))
  both = _Coin(prob=0.25) + accounting.Laplace(scale=2.0)
  assert Composition.from_dict(both.to_dict()) == both
  assert accounting.delta(both, epsilon=0.6) == pytest.approx(0.25, rel=1e-3)
  made = accounting.make_statement(both, delta=0.3)
  assert "everything, by a coin" in str(made.sections)
