"""Times compositions, and compares them with dp-accounting's own.

  python -m benchmarks.compositions [--skip_theirs]

Prints the CPU time and the epsilon of both, for several releases of the same
data. dp-accounting composes the same mechanisms on a grid of 1e-4, its own
default, by `compose` and `self_compose` of its loss distributions. Nothing is
asserted: times belong to the machine they were measured on.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as oracle

import accounting
from accounting import Composition, claims

_DELTA = 1e-5
# dp-accounting takes about half a second for each kind.
_MOST_OF_THEIRS = 100


def _runs(count: int, steps: int) -> Composition:
  rng = np.random.default_rng(0)
  return Composition(
      [
          accounting.Mechanism(
              noise_multiplier=float(rng.uniform(2, 6)),
              sampling_prob=float(rng.uniform(0.005, 0.02)),
              num_steps=steps,
          )
          for _ in range(count)
      ]
  )


def _year() -> Composition:
  """A year of histograms, counts and runs: 500 that differ."""
  rng = np.random.default_rng(0)

  def one(i: int):
    noise = float(rng.uniform(20, 200))
    if i % 5 == 0:
      prob = float(rng.uniform(0.001, 0.01))
      return accounting.Mechanism(
          noise_multiplier=noise / 10, sampling_prob=prob, num_steps=500
      )
    kinds = (
        accounting.Laplace(scale=noise),
        accounting.Gaussian(stddev=noise),
        accounting.DiscreteLaplace(scale=noise, sensitivity=3),
        accounting.DiscreteGaussian(stddev=noise),
    )
    return kinds[i % 5 - 1]

  return Composition([one(i) for i in range(500)])


def _differing(count: int) -> Composition:
  """Runs of which no two are alike: noise 4 to 10, 200 to 2,000 steps."""
  rng = np.random.default_rng(0)
  return Composition(
      [
          accounting.Mechanism(
              noise_multiplier=float(rng.uniform(4, 10)),
              sampling_prob=float(rng.uniform(0.001, 0.02)),
              num_steps=int(rng.integers(200, 2000)),
          )
          for _ in range(count)
      ]
  )


_SMALL = _runs(2, 1000) + 3 * accounting.Laplace(scale=10.0)
_CASES = {
    "two runs of 1,000 steps, three histograms": _SMALL,
    "12 runs of 10,000 steps": _runs(12, 10_000),
    "50 runs that differ": _differing(50),
    "500 runs that differ": _differing(500),
    "500 releases of a year": _year(),
}


def _theirs(composition: Composition) -> float:
  total = oracle.identity()
  for each, count in composition.releases:
    if isinstance(each, accounting.Mechanism):
      one = oracle.from_gaussian_mechanism(
          each.noise_multiplier, sampling_prob=each.sampling_prob
      )
      count *= each.num_steps
    else:
      one = oracle.from_laplace_mechanism(each.scale)
    total = total.compose(one.self_compose(count))
  return total.get_epsilon_for_delta(_DELTA)


def _time(task: Callable[[], Any]) -> str:
  begun = time.process_time()
  value = task()
  return (
      f"{time.process_time() - begun:6.1f} s  epsilon"
      f" {claims.at_most(value, decimals=4)}"
  )


def main() -> None:
  """Prints all times."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--skip_theirs", action="store_true")
  skip = parser.parse_args().skip_theirs
  accounting.epsilon(accounting.Laplace(scale=9.0), delta=_DELTA)  # Imports.
  for name, composition in _CASES.items():
    ours = _time(lambda c=composition: accounting.epsilon(c, delta=_DELTA))
    print(f"{name:<44} ours {ours}", flush=True)
    known = all(
        isinstance(m, accounting.Mechanism | accounting.Laplace)
        for m, _ in composition.releases
    )
    if known and not skip and len(composition.releases) <= _MOST_OF_THEIRS:
      theirs = _time(lambda c=composition: _theirs(c))
      print(f"{'':<44} dp-accounting {theirs}", flush=True)


if __name__ == "__main__":
  main()
