"""The sampler "truncated_poisson": Poisson batches of a limited size.

Of more than `max_batch_size` examples that were drawn, a random
`max_batch_size` are kept.

Let K be how many of the others are drawn. Below the cap, an example is in the
batch with the sampling probability, and moves the sum by its clip norm (two,
where it is replaced). From the cap on it is kept with max_batch_size / (K + 1)
of that, and then another has to leave: the sum moves by two clip norms at most.
A step is the mixture over whether K is below the cap, which is taken as known.

Under add-or-remove-one the larger of two neighbours has the stated number of
examples: one more than stated would make a full batch a little more likely, and
is not proven. Where an example is replaced or blanked the number is the same in
both, and nothing is left open.

Source: Chua et al. 2024 (2411.04205), as dp-accounting computes it.

>>> from accounting import samplers
>>> samplers.get("truncated_poisson").fields
('max_batch_size',)
"""

import dataclasses
from typing import TYPE_CHECKING

from accounting.numerics import terms
from accounting.samplers.sampler import Sampler

if TYPE_CHECKING:
  import dp_accounting

  from accounting.mechanism import Mechanism


class TruncatedPoisson(Sampler):
  """See `Sampler`."""

  name = "truncated_poisson"
  sentence = (
      "every {unit} enters every batch independently, with probability "
      "{probs}, and of more than {max_batch_size} a uniformly "
      "random {max_batch_size} are kept"
  )
  fields = ("max_batch_size",)
  needs_num_examples = True
  batches = "poisson"
  # dp-accounting's rounding errors in the step of a truncated batch.
  min_delta = 1e-13

  def analyses(self, run: "Mechanism") -> tuple[str, ...]:
    """See `Sampler`."""
    del run
    return ("pld",)

  def event(
      self, run: "Mechanism", *, misses_replacement: bool
  ) -> "dp_accounting.DpEvent":
    """See `Sampler`."""
    import dp_accounting as dp

    del misses_replacement  # It is of PLD alone.
    # `check` has seen to both.
    assert run.num_examples is not None and run.max_batch_size is not None
    step = dp.dp_event.TruncatedSubsampledGaussianDpEvent(
        dataset_size=run.num_examples,
        sampling_probability=run.sampling_prob,
        truncated_batch_size=run.max_batch_size,
        noise_multiplier=run.noise_multiplier,
    )
    return dp.SelfComposedDpEvent(step, run.num_steps)

  def term(self, run: "Mechanism") -> tuple[terms.Term, int]:
    """See `Sampler`."""
    step = dataclasses.replace(run, num_steps=1)
    return terms.TruncatedGaussian(step), run.num_steps
