"""The sampler "fixed_without_replacement": a fresh random subset each step.

Every batch has exactly `expected_batch_size` examples.

Source: Wang et al. 2019 (1808.00087), as dp-accounting computes it.

>>> from accounting import samplers
>>> samplers.get("fixed_without_replacement").remedy
"accountant 'rdp' with neighboring_relation 'replace_one'"
"""

from typing import TYPE_CHECKING

from accounting import _validate
from accounting.numerics import rdp
from accounting.samplers.sampler import Sampler

if TYPE_CHECKING:
  import dp_accounting

  from accounting.mechanism import Mechanism


class FixedWithoutReplacement(Sampler):
  """See `Sampler`."""

  name = "fixed_without_replacement"
  sentence = (
      "every batch is a fresh, uniformly random set of a fixed size, a "
      "fraction {probs} of the data"
  )
  needs_num_examples = True
  remedy = "accountant 'rdp' with neighboring_relation 'replace_one'"
  order_grid = (1024, 16)

  def check(self, run: "Mechanism") -> None:
    """See `Sampler`."""
    super().check(run)
    size = run.expected_batch_size
    if not (size.is_integer() and size >= 1):
      rule = f"a whole number of at least 1 for {self.name}"
      _validate.fail("expected_batch_size", rule, size)

  def analyses(self, run: "Mechanism") -> tuple[str, ...]:
    """See `Sampler`."""
    return ("rdp",) if run.neighboring_relation == "replace_one" else ()

  def event(
      self, run: "Mechanism", *, misses_replacement: bool
  ) -> "dp_accounting.DpEvent":
    """See `Sampler`; RDP alone reads it, and always misses the replacement."""
    import dp_accounting as dp

    del misses_replacement
    assert run.num_examples is not None  # `check` has seen to it.
    step = dp.SampledWithoutReplacementDpEvent(
        source_dataset_size=run.num_examples,
        sample_size=int(run.expected_batch_size),
        event=dp.GaussianDpEvent(run.noise_multiplier / 2),
    )
    return dp.SelfComposedDpEvent(step, run.num_steps)

  def divergence_floor(self, step: "Mechanism") -> float:
    """See `Sampler`.

    The bound is log(1 + x) with x rounded to 0 below the resolution.
    """
    del step
    return rdp.RESOLUTION
