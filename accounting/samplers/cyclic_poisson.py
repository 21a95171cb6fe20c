"""The sampler "cyclic_poisson": groups take turns, each with Poisson batches.

Every example is dealt at random to one of `cycle_length` groups, once, and step
t draws from group t mod `cycle_length`, with `cycle_length` times the
probability. An example's own steps are at least `cycle_length` apart, which is
what correlated noise of so few bands needs.

Invariant: a run is accounted for as the steps of one group, of which a group
has ceil(num_steps / cycle_length) at most. Which group an example is dealt to
says nothing of the others, so this holds for every neighbouring relation.

Source: Choquette-Choo et al. 2023 (2306.08153), theorem 4.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=1.0, sampling_prob=0.1, num_steps=25,
...                 sampling="cyclic_poisson",
...                 sampling_options={"cycle_length": 4})
>>> term, count = run.sampler.term(run)
>>> term.sampling_prob, count
(0.4, 7)
"""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from accounting import _validate
from accounting.numerics import terms
from accounting.samplers import poisson
from accounting.samplers.sampler import Option, Sampler

if TYPE_CHECKING:
  import dp_accounting

  from accounting.mechanism import Mechanism

_POISSON = poisson.Poisson()
# So that the least sampling probability, 1e-12, stays one in a group.
_MAX_LENGTH = 10**9


def _cycle_length(name: str, value: Any) -> int:
  length = _validate.integer(name, value)
  if length > _MAX_LENGTH:
    _validate.fail(name, f"at most {_MAX_LENGTH}", value)
  return length


class CyclicPoisson(Sampler):
  """See `Sampler`."""

  name = "cyclic_poisson"
  sentence = (
      "every {unit} is dealt at random to one of {cycle_length} groups, which "
      "take turns, and enters each batch of its group's turns independently, "
      "with {cycle_length} times the probability {probs}"
  )
  options = {
      "cycle_length": Option(
          _cycle_length, int, "groups of cyclic_poisson, which take turns"
      )
  }
  independent = True
  spans_steps = True
  batches = "cyclic_poisson"
  least_sampling_prob = poisson.Poisson.least_sampling_prob

  def check(self, run: "Mechanism") -> None:
    """See `Sampler`."""
    super().check(run)
    # By an ulp: a batch of a whole group has cycle_length x (1 / cycle_length).
    if run.sampling_prob * _length(run) > 1 + 1e-12:
      rule = f"at most 1 / cycle_length ({1 / _length(run):g}) for {self.name}"
      _validate.fail("sampling_prob", rule, run.sampling_prob)

  def largest_sampling_prob(self, run: "Mechanism") -> float:
    """See `Sampler`."""
    return 1 / _length(run)

  def steps_apart(self, run: "Mechanism") -> int:
    """See `Sampler`."""
    return _length(run)

  def analyses(self, run: "Mechanism") -> tuple[str, ...]:
    """See `Sampler`."""
    return _POISSON.analyses(_of_group(run))

  def event(
      self, run: "Mechanism", *, misses_replacement: bool
  ) -> "dp_accounting.DpEvent":
    """See `Sampler`."""
    return _POISSON.event(_of_group(run), misses_replacement=misses_replacement)

  def term(self, run: "Mechanism") -> tuple[terms.Term, int]:
    """See `Sampler`."""
    return _POISSON.term(_of_group(run))

  def divergences(self, step: "Mechanism", orders: np.ndarray) -> np.ndarray:
    """See `Sampler`."""
    return _POISSON.divergences(_of_group(step), orders)

  def divergence_floor(self, step: "Mechanism") -> float:
    """See `Sampler`."""
    return _POISSON.divergence_floor(_of_group(step))

  def compositions(self, run: "Mechanism", num_steps: int) -> int:
    """See `Sampler`."""
    return -(-num_steps // _length(run))

  def clt_weight(self, run: "Mechanism") -> float:
    """See `Sampler`."""
    return _POISSON.clt_weight(_of_group(run))


def _length(run: "Mechanism") -> int:
  return dict(run.sampling_options)["cycle_length"]


@functools.lru_cache(maxsize=1024)  # A search asks for the same one often.
def _of_group(run: "Mechanism") -> "Mechanism":
  """Returns the steps of one group, which are those of a Poisson run."""
  return dataclasses.replace(
      run,
      num_steps=-(-run.num_steps // _length(run)),
      sampling_prob=min(run.sampling_prob * _length(run), 1.0),
      sampling="poisson",
      sampling_options=(),
      noise="independent",
      noise_options=(),
  )
