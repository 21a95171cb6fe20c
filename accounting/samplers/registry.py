"""Finds a sampler by its name.

Invariant: what is accounted for is in this table. To add a sampler, write its
file and add its line here. A sampler without a `strategy` of its own is drawn
by its name, from the table of `jax_privacy/samplers.py`.

>>> get("poisson").batches
'poisson'
>>> get("shuffled")
Traceback (most recent call last):
ValueError: sampling must be one of poisson, truncated_poisson, \
fixed_without_replacement, random_allocation, balls_in_bins, shuffle, \
deterministic, cyclic_poisson, got 'shuffled'.
"""

from typing import Any

from accounting import _validate
from accounting.samplers import (
    balls_in_bins,
    cyclic_poisson,
    deterministic,
    fixed_without_replacement,
    poisson,
    random_allocation,
    shuffle,
    truncated_poisson,
)
from accounting.samplers.sampler import Sampler

_SAMPLERS: tuple[Sampler, ...] = (
    poisson.Poisson(),
    truncated_poisson.TruncatedPoisson(),
    fixed_without_replacement.FixedWithoutReplacement(),
    random_allocation.RandomAllocation(),
    balls_in_bins.BallsInBins(),
    shuffle.Shuffle(),
    deterministic.Deterministic(),
    cyclic_poisson.CyclicPoisson(),
)


def names() -> tuple[str, ...]:
  """Returns the names of all samplers, in the order they are shown."""
  return tuple(sampler.name for sampler in _SAMPLERS)


def get(name: Any) -> Sampler:
  """Returns the sampler of that name.

  Args:
    name: Name of a sampler.

  Raises:
    ValueError: If there is none.
  """
  _validate.choice("sampling", name, options=names())
  return next(each for each in _SAMPLERS if each.name == name)
