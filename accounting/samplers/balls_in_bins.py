"""The sampler "balls_in_bins": each example in one of t bins, for the run.

There are t = 1 / sampling_prob bins. Every example picks one, uniformly and
independently of the others, once in the run. Step i has the examples of bin i
mod t, so that an example is in one step of every epoch of t steps.
"random_allocation" with one selected step draws anew in each epoch: the same
for one epoch, and more private for several.

Valid under add-or-remove-one and replace-special (zero-out), in both
directions. Proof: given its bin an example is in E steps at most, E the number
of epochs begun. By lemma 1 of `numerics/allocation.py`, with a set of steps for
each bin, the outputs are made from the mixture over bins of N(1_S, sigma^2 I),
S the E steps of the bin, or N(0, sigma^2 I). The sum over each bin's steps is
sufficient: N(E, E sigma^2) or N(0, E sigma^2). So the run is one round of t
steps, with noise sigma / sqrt(E).

Source: Chua et al. 2024 (2412.16802); Choquette-Choo et al. 2024 (2410.06266),
Lemma 3.2, of which this is the case of independent noise.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=2.0, sampling_prob=0.1, num_steps=35,
...                 sampling="balls_in_bins")
>>> run.sampler.term(run)
(OneOfSteps(noise=1.0, num_steps=10), 1)
"""

import dataclasses
import math
from typing import TYPE_CHECKING

from accounting.numerics import simulation, terms
from accounting.samplers import rounds
from accounting.samplers.random_allocation import RandomAllocation

if TYPE_CHECKING:
  from accounting.mechanism import Mechanism


class BallsInBins(RandomAllocation):
  """See `Sampler`."""

  name = "balls_in_bins"
  sentence = (
      "every {unit} is in one of {steps_per_round} bins, drawn uniformly and "
      "independently of all others, once for the run; the steps go through "
      "the bins in order"
  )
  options = {}
  batches = "balls_in_bins"

  def term(self, run: "Mechanism") -> tuple[terms.Term, int]:
    """See `Sampler`."""
    num_steps, _ = rounds.steps_per_round(run)
    epochs = math.ceil(run.num_steps / num_steps)
    noise = run.noise_multiplier / math.sqrt(epochs)
    return terms.one_of_steps(noise=noise, num_steps=num_steps), 1

  def exact_pair(self, run: "Mechanism") -> simulation.Allocation:
    """See `Sampler`; all epochs are one round, as for `term`."""
    found = super().exact_pair(run)
    noise = found.noise / math.sqrt(found.num_rounds)
    return dataclasses.replace(found, noise=noise, num_rounds=1)
