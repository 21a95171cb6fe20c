"""The sampler "deterministic": fixed batches or shuffled epochs.

No chance is counted on. An example is in at most one of floor(1 /
sampling_prob) steps in a row, and who is in it does not depend on anyone's
presence.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=1.0, sampling_prob=0.1, num_steps=25,
...                 sampling="deterministic")
>>> run.sampler.compositions(run, 25)
3
"""

import dataclasses
from typing import TYPE_CHECKING

from accounting.numerics import terms
from accounting.samplers.sampler import Sampler, without_sampling

if TYPE_CHECKING:
  import dp_accounting

  from accounting.mechanism import Mechanism


class Deterministic(Sampler):
  """See `Sampler`."""

  name = "deterministic"
  sentence = (
      "every {unit} is in at most one of any {steps_apart} steps in a row, "
      "and which one does not depend on the rest of the data (no chance is "
      "counted on)"
  )
  amplifies = False

  def analyses(self, run: "Mechanism") -> tuple[str, ...]:
    """See `Sampler`."""
    del run
    return ("pld", "rdp")

  def event(
      self, run: "Mechanism", *, misses_replacement: bool
  ) -> "dp_accounting.DpEvent":
    """See `Sampler`."""
    return without_sampling(run, misses_replacement=misses_replacement)

  def term(self, run: "Mechanism") -> tuple[terms.Term, int]:
    """See `Sampler`."""
    return terms.without_sampling(run)

  def compositions(self, run: "Mechanism", num_steps: int) -> int:
    """See `Sampler`."""
    return dataclasses.replace(run, num_steps=num_steps).max_participations

  def steps_apart(self, run: "Mechanism") -> int:
    """See `Sampler`; shuffled epochs may end and begin with one example."""
    # Not by `max_participations`, which makes a run anew, and so checks it.
    return run.num_steps if run.num_steps <= run.steps_per_epoch else 1

  def clt_weight(self, run: "Mechanism") -> float:
    """See `Sampler`."""
    return run.max_participations

  def user_terms(self, run: "Mechanism", *, count: int) -> None:
    """See `Sampler`; all of a user's examples may be in one batch."""
    del run, count
    return None
