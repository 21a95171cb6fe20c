"""The sampler "fixed_without_replacement": a fresh random subset each step.

Every batch has exactly `expected_batch_size` examples, B of n.

PLD. Where an example is replaced or blanked, see `numerics/substitution.py`.
Where one is added or removed, let n be the larger data set's size and x the
example. Without x the batch is S, B of the n - 1 others. With x it has the law
of S with probability 1 - B / n, and else of S with a uniformly random y of it
exchanged for x: S without y is a uniform set of B - 1 others. Given S and y the
means differ by g_x - g_y, at most 2 clip norms. So, divergences being jointly
convex, a step is at least as private as a Poisson step with probability B / n
and half the noise. With n the stated size this covers one example less and,
since B / (n + 1) is smaller, one more.

Source: Balle, Barthe and Gaboardi 2018 (1807.01647) for the couplings; Wang et
al. 2019 (1808.00087) for RDP, as dp-accounting computes it.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=2.0, sampling_prob=0.1, num_steps=5,
...                 num_examples=100, sampling="fixed_without_replacement")
>>> run.sampler.term(run)
(SampledGaussian(noise=1.0, sampling_prob=0.1, replace=False), 5)
"""

from typing import TYPE_CHECKING

from accounting import _validate
from accounting.numerics import rdp, substitution, terms
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
    replaced = run.neighboring_relation == "replace_one"
    return ("pld", "rdp") if replaced else ("pld",)

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

  def term(self, run: "Mechanism") -> tuple[terms.Term, int]:
    """See `Sampler`."""
    noise, q = run.noise_multiplier, run.sampling_prob
    if run.neighboring_relation == "add_or_remove_one":
      return terms.SampledGaussian(noise / 2, q, False), run.num_steps
    if q == 1:
      return terms.without_sampling(run)
    return substitution.SubstitutedGaussian(noise, q), run.num_steps

  def divergence_floor(self, step: "Mechanism") -> float:
    """See `Sampler`.

    The bound is log(1 + x) with x rounded to 0 below the resolution.
    """
    del step
    return rdp.RESOLUTION
