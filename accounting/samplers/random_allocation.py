"""The sampler "random_allocation": each example in k of t steps.

A round has t = num_selected / sampling_prob steps (num_selected is 1 where it
is not given). In each round every example
takes part in num_selected of them, drawn uniformly and independently of the
other examples and rounds. A round that is cut short counts as a whole one: what
is released of it is a part of the whole round's outputs.

Valid under add-or-remove-one and replace-special (zero-out), in both
directions. Where an example is replaced, no pair is proven to dominate.

Source: Feldman and Shenfeld 2025 (2502.08202); the lemmas are proven in
`numerics/allocation.py`.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=1.0, sampling_prob=0.25, num_steps=16,
...                 sampling="random_allocation",
...                 sampling_options={"num_selected": 2})
>>> run.sampler.term(run)  # 2 rounds of 8 steps; 2 blocks of 4 in each.
(OneOfSteps(noise=1.0, num_steps=4), 4)
"""

import math
from typing import TYPE_CHECKING

from accounting import _validate
from accounting.numerics import simulation, terms
from accounting.samplers import rounds
from accounting.samplers.sampler import Option, Sampler

if TYPE_CHECKING:
  import dp_accounting

  from accounting.mechanism import Mechanism


class RandomAllocation(Sampler):
  """See `Sampler`."""

  name = "random_allocation"
  sentence = (
      "in every {steps_per_round} steps in a row, from the first on, every "
      "{unit} is in exactly {num_selected}, drawn uniformly and independently "
      "of all others"
  )
  options = {
      "num_selected": Option(
          _validate.integer,
          int,
          "steps of a round that an example is in, for random_allocation; "
          "default 1",
          required=False,
      )
  }
  spans_steps = True
  batches = "random_allocation"
  any_batch_size = False
  remedy = (
      "accountant 'pld' with neighboring_relation 'add_or_remove_one' or "
      "'replace_special'"
  )

  def check(self, run: "Mechanism") -> None:
    """See `Sampler`."""
    super().check(run)
    rounds.steps_per_round(run)

  def analyses(self, run: "Mechanism") -> tuple[str, ...]:
    """See `Sampler`."""
    return () if run.neighboring_relation == "replace_one" else ("pld",)

  def event(
      self, run: "Mechanism", *, misses_replacement: bool
  ) -> "dp_accounting.DpEvent":
    """See `Sampler`; dp-accounting 0.6.0 has no such event."""
    raise NotImplementedError(f"dp-accounting has no event of {self.name}.")

  def term(self, run: "Mechanism") -> tuple[terms.Term, int]:
    """See `Sampler`; lemma 3 makes blocks of a round's steps."""
    num_steps, num_selected = rounds.steps_per_round(run)
    num_rounds = math.ceil(run.num_steps / num_steps)
    block = terms.one_of_steps(
        noise=run.noise_multiplier, num_steps=num_steps // num_selected
    )
    return block, num_selected * num_rounds

  def exact_pair(self, run: "Mechanism") -> simulation.Allocation:
    """See `Sampler`."""
    num_steps, num_selected = rounds.steps_per_round(run)
    return simulation.Allocation(
        noise=run.noise_multiplier,
        num_steps=num_steps,
        num_selected=num_selected,
        num_rounds=math.ceil(run.num_steps / num_steps),
    )
