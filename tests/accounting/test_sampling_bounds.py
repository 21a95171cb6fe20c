"""Samplers' steps against all small data sets: no divergence is above a claim.

Each example contributes -1, 0 or 1 to a sum with noise. The law of the sum is a
mixture over batches, listed one by one; divergences are integrals over a grid.
"""

import itertools
import math

import numpy as np
import pytest

import accounting
from accounting.mechanism import NEIGHBORING_RELATIONS
from accounting.numerics import pld

_OUTPUTS = np.linspace(-14, 14, 5001)
_NOISE = 1.0
# The trapezoidal rule at a kink: width^2 / 8 times the change of slope, which
# is at most 1 + e^2 times a density of 0.4, at two kinks.
_SLACK = (_OUTPUTS[1] - _OUTPUTS[0]) ** 2 / 8 * 2 * 3.4


def _density(batches):
  """Density of the noisy sum, from pairs of a batch's sum and its chance."""
  found = 0.0
  for total, prob in batches:
    found = found + prob * np.exp(-0.5 * ((_OUTPUTS - total) / _NOISE) ** 2)
  width = _OUTPUTS[1] - _OUTPUTS[0]
  return found * width / (_NOISE * math.sqrt(2 * math.pi))


def _fixed(values, size, prob):
  del prob
  sets = list(itertools.combinations(values, size))
  return [(sum(each), 1 / len(sets)) for each in sets]


def _truncated(values, size, prob):
  found = []
  for drawn in itertools.product([False, True], repeat=len(values)):
    chance = math.prod(prob if d else 1 - prob for d in drawn)
    taken = [v for v, d in zip(values, drawn, strict=True) if d]
    kept = min(size, len(taken))
    found += [(t, chance * p) for t, p in _fixed(taken, kept, None)]
  return found


def _divergence(p, q, epsilon):
  return np.sum(np.maximum(p - math.exp(epsilon) * q, 0.0))


def _neighbours(relation, num_others):
  """Pairs of data sets, the first of them with num_others + 1 examples."""
  for others in itertools.product([-1, 0, 1], repeat=num_others):
    if relation == "add_or_remove_one":
      for own in (-1, 1):
        yield (own, *others), others
    elif relation == "replace_special":
      for own in (-1, 1):
        yield (own, *others), (0, *others)
    else:
      yield (1, *others), (-1, *others)
      yield (1, *others), (0, *others)


_CASES = [
    ("fixed_without_replacement", _fixed, 3, 1),
    ("fixed_without_replacement", _fixed, 4, 2),
    ("fixed_without_replacement", _fixed, 4, 3),
    ("truncated_poisson", _truncated, 3, 1),
    ("truncated_poisson", _truncated, 4, 2),
]


def _run(sampling, relation, num_examples, size):
  fields = {}
  prob = size / num_examples
  if sampling == "truncated_poisson":
    prob, fields = 0.4, {"max_batch_size": size}
  return accounting.Mechanism(
      noise_multiplier=_NOISE,
      num_steps=1,
      sampling_prob=prob,
      num_examples=num_examples,
      sampling=sampling,
      neighboring_relation=relation,
      **fields,
  )


@pytest.mark.few(2)
@pytest.mark.parametrize("relation", NEIGHBORING_RELATIONS)
@pytest.mark.parametrize(("sampling", "law", "total", "size"), _CASES)
def test_no_pair_of_small_data_sets_leaks_more(
    sampling, law, total, size, relation
):
  run = _run(sampling, relation, total, size)
  found = pld.composed(run, deltas=(1e-3, 1e-1))
  epsilons = np.array([0.0, 0.1, 0.5, 1.0, 2.0])
  claims = found.deltas(epsilons)
  worst = np.zeros(len(epsilons))
  for larger, other in _neighbours(relation, total - 1):
    p = _density(law(larger, size, run.sampling_prob))
    q = _density(law(other, size, run.sampling_prob))
    for i, epsilon in enumerate(epsilons):
      both = _divergence(p, q, epsilon), _divergence(q, p, epsilon)
      worst[i] = max(worst[i], *both)
  assert (worst <= claims + _SLACK).all()
  # The claims are bounds of what is there, and not of anything at all.
  assert claims[0] < 6 * worst[0]


@pytest.mark.parametrize("relation", ["add_or_remove_one", "replace_one"])
def test_a_poisson_bound_would_be_too_low_for_a_fixed_size(relation):
  # The planted bug: one clip norm, where another example takes the place.
  poisson = accounting.Mechanism(
      noise_multiplier=_NOISE,
      num_steps=1,
      sampling_prob=0.5,
      neighboring_relation="add_or_remove_one",
  )
  claim = pld.composed(poisson, deltas=(0.1,)).deltas(np.zeros(1))[0]
  worst = max(
      _divergence(
          _density(_fixed(larger, 2, None)), _density(_fixed(other, 2, None)), 0
      )
      for larger, other in _neighbours(relation, 3)
  )
  assert worst > claim * 1.2


def test_epsilon_of_a_fixed_size_is_below_rdp():
  run = accounting.Mechanism(
      noise_multiplier=3.0,
      num_steps=1000,
      sampling_prob=4096 / 50_000,
      num_examples=50_000,
      sampling="fixed_without_replacement",
      neighboring_relation="replace_one",
  )
  rdp = accounting.epsilon(run, delta=1e-5, accountant="rdp")
  assert accounting.epsilon(run, delta=1e-5) < 0.5 * rdp
