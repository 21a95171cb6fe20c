"""Parts that reveal no more than another are left out, and change nothing."""

import dataclasses

import numpy as np
import pytest

import accounting
from accounting import Composition, Disjoint, Laplace, _dominance
from tests.support import mechanisms

_RUN = mechanisms.run(noise=4.0, prob=0.01, steps=50, num_examples=1000)


def _part(rng):
  found = []
  for _ in range(rng.integers(1, 3)):
    noise, more = rng.choice([2.0, 3.0]), rng.choice([1.0, 2.0])
    one = [
        mechanisms.run(
            noise=noise, prob=0.1 * more, steps=int(rng.integers(1, 3))
        ),
        Laplace(scale=noise, sensitivity=more),
        accounting.Gaussian(stddev=noise),
        accounting.DiscreteLaplace(scale=noise),
        accounting.ApproximateDp(epsilon=0.1 * more, delta=1e-9 * noise),
        accounting.ZeroConcentratedDp(rho=0.01 * more),
    ][rng.integers(6)]
    found.append((one, int(rng.integers(1, 3))))
  return Composition(found)


@pytest.mark.slow
def test_the_worst_of_what_stays_is_the_worst_of_all():
  rng = np.random.default_rng(0)
  parts = list(dict.fromkeys(_part(rng) for _ in range(60)))
  kept = _dominance.worst(parts)
  assert 1 < len(kept) < 0.6 * len(parts)
  values = [
      [accounting.epsilon(part, delta=delta) for delta in (1e-6, 0.05)]
      for part in parts
  ]
  by_part = dict(zip(parts, values, strict=True))
  for part in parts:
    # Something that stays is no more private at any delta: up to the grid.
    assert any(
        all(
            x <= y * 1.003 + 1e-9
            for x, y in zip(by_part[part], by_part[held], strict=True)
        )
        for held in kept
    )


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 5.0},
        {"num_steps": 49},
        {"sampling_prob": 0.009},
        {"noise_multiplier": 4.5, "num_examples": 2000},
    ],
)
def test_which_way_a_run_reveals_more(change):
  private = Composition([dataclasses.replace(_RUN, **change)])
  for count in (1, 2):
    whole = Composition([(_RUN, count)])
    for order in ([private, whole], [whole, private]):
      assert _dominance.worst(order) == (whole,)


def test_what_cannot_be_compared_stays():
  fixed = mechanisms.run(noise=4.0, prob=0.1, steps=9, sampling="deterministic")
  longer = dataclasses.replace(fixed, num_steps=10)
  wide = Laplace(scale=9.0, sensitivity=5.0)
  held = [
      fixed,
      longer,
      wide,
      Laplace(scale=2.0),
      accounting.Gaussian(stddev=1),
  ]
  parts = [Composition([each]) for each in held]
  assert _dominance.worst(parts) == tuple(parts)


def test_hundreds_of_hospitals_have_an_answer():
  split = Disjoint(
      by="hospital",
      of={
          f"h{i}": dataclasses.replace(_RUN, noise_multiplier=4.0 + i)
          for i in range(300)
      },
  )
  assert len(split.alternatives) == 1
  worst = accounting.epsilon(_RUN, delta=1e-6)
  assert accounting.epsilon(split, delta=1e-6) == worst
