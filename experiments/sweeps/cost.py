"""What a sweep costs, and what its result may be called.

Invariant: the cost is known before the first run, and is never below what the
runs release: all planned runs are composed, whether they end or fail; or the
best of a random number of runs is one release, and nothing else is shown; or
the runs are of public data, and nothing is claimed for them.

>>> import accounting
>>> run = accounting.Mechanism(
...     noise_multiplier=3.0, sampling_prob=0.1, num_steps=100)
>>> all_runs = of_all([run] * 4, delta=1e-5, accountant="pld")
>>> best = of_best(run, mean=4.0, distribution="geometric", delta=1e-5,
...                accountant="pld")
>>> best.epsilon < all_runs.epsilon
True
>>> draw_count("geometric", 4.0, seed=0) >= 1
True
"""

import math
import secrets
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import accounting
from accounting import claims, selection, tuning

ALL, BEST, PUBLIC = "all", "best", "public"
KINDS = (ALL, BEST, PUBLIC)
DISTRIBUTIONS = ("logarithmic", "geometric", "poisson")
_ALL = (
    "The sweep is ({epsilon}, {delta})-differentially private: its {count} runs"
    " compose, those that failed included. All of them, their scores and their"
    " models may be shown together under this guarantee. No run of it may be"
    " shown as if it were the only one: a single run's own epsilon holds for"
    " who sees nothing else of the sweep, not even that it was the best."
)
_BEST = (
    "The best run is ({epsilon}, {delta})-differentially private, as the best"
    " of a random number of runs ({distribution}, mean {mean}), with settings"
    " drawn at random. It may be released under this guarantee as long as no"
    " other run, no other score, and not the number of runs is shown to anyone."
)
_PUBLIC = (
    "The runs are of the data that --proxy names as public, and cost the"
    " private data nothing. The winning settings are public; a run with them on"
    " the private data costs its own epsilon alone."
)
_NOT_PRIVATE = (
    "NOT PRIVATE: the runs were trained without clipping and noise. There is no"
    " guarantee whatever for the training data."
)


class Cost(NamedTuple):
  """What a sweep costs.

  Attributes:
    epsilon: Epsilon of the sweep; 0 on public data, None without privacy.
    delta: Delta of the guarantee, or None.
    sentence: Sentence that says what the result may be called.
    alone: Epsilon of each run alone, or None.
  """

  epsilon: float | None
  delta: float | None
  sentence: str
  alone: Sequence[float] | None = None


def of_all(
    runs: Sequence[accounting.Mechanism], *, delta: float, accountant: str
) -> Cost:
  """Returns the cost of showing all runs.

  Args:
    runs: Mechanism of each planned run.
    delta: Delta of the guarantee.
    accountant: Name of the accountant.

  Guarantee:
    The runs' noise is drawn by itself, and settings of later runs may follow
    from earlier results only if all mechanisms are the same.
  """
  alone, together = tuning.all_of(runs, delta=delta, accountant=accountant)
  sentence = _ALL.format(
      epsilon=claims.at_most(together),
      delta=claims.at_most_short(delta),
      count=len(runs),
  )
  return Cost(together, delta, sentence, alone)


def of_best(
    run: accounting.Mechanism,
    *,
    mean: float,
    distribution: str,
    delta: float,
    accountant: str,
) -> Cost:
  """Returns the cost of the best of a random number of runs.

  Args:
    run: Mechanism that each run is.
    mean: Mean number of runs.
    distribution: Name of the distribution of the number; see `DISTRIBUTIONS`.
    delta: Delta of the guarantee.
    accountant: Name of the accountant.

  Source: Papernot and Steinke 2022 (2110.03620); see `accounting.tuning`.
  """
  found = tuning.tuning_cost(
      run,
      num_trials_mean=mean,
      distribution=distribution,
      delta=delta,
      accountant=accountant,
  )
  sentence = _BEST.format(
      epsilon=claims.at_most(found.epsilon_tuned),
      delta=claims.at_most_short(delta),
      distribution=distribution,
      mean=claims.exact(mean),
  )
  return Cost(found.epsilon_tuned, delta, sentence, [found.epsilon_single])


def of_public() -> Cost:
  """Returns the cost of runs on public data: none."""
  return Cost(0.0, None, _PUBLIC)


def without_privacy() -> Cost:
  """Returns what is said of runs that are not private."""
  return Cost(None, None, _NOT_PRIVATE)


def draw_count(distribution: str, mean: float, *, seed: int | None) -> int:
  """Returns a random number of runs.

  Args:
    distribution: Name of the distribution.
    mean: Mean number of runs.
    seed: Seed of a sweep for research; None draws from the system's entropy.
  """
  entropy = secrets.randbits(128) if seed is None else [seed, 0x6B]
  rng = np.random.default_rng(entropy)
  if distribution == "poisson":
    return int(rng.poisson(mean))
  if distribution == "geometric":
    return int(rng.geometric(1 / mean))
  odds = selection.logarithmic_of(mean).odds
  assert odds is not None and math.isfinite(odds)
  return int(rng.logseries(odds / (1 + odds)))
