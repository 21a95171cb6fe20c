"""The sampler "shuffle": a fresh random order of the data in every epoch.

An epoch has floor(num_examples / batch size) batches of one size; the examples
left over are not in it. No amplification is counted on: given the order, an
example is in at most one step of an epoch, and divergences are jointly convex,
so that the bound of fixed batches holds. Poisson's epsilon is NOT proven,
and mostly false: `lower_bound` is what a known attack proves.

Valid where an example is blanked or replaced. Where one is added or removed,
all batches behind it change, so that this relation is refused.

Source: Chua et al. 2024 (2403.17673, 2411.04205) for the attack, which
`numerics/shuffles.py` computes.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism.for_batch_size(
...     expected_batch_size=10, num_examples=105, noise_multiplier=1.0,
...     num_steps=20, sampling="shuffle",
...     neighboring_relation="replace_special")
>>> run.max_participations
2
>>> round(run.sampler.lower_bound(run, delta=1e-6), 2)
6.78
"""

from typing import TYPE_CHECKING

from accounting import _validate
from accounting.numerics import shuffles
from accounting.samplers.deterministic import Deterministic

if TYPE_CHECKING:
  from accounting.mechanism import Mechanism


class Shuffle(Deterministic):
  """See `Sampler`."""

  name = "shuffle"
  sentence = (
      "every {unit} is in at most one of the {steps_apart} steps of an epoch, "
      "which goes through the data in a fresh, uniformly random order (no "
      "chance is counted on)"
  )
  needs_num_examples = True
  spans_steps = True
  batches = "shuffled"
  remedy = "neighboring_relation 'replace_special' or 'replace_one'"

  def check(self, run: "Mechanism") -> None:
    """See `Sampler`."""
    super().check(run)
    size = run.expected_batch_size
    if not (size.is_integer() and size >= 1):
      rule = f"a whole number of at least 1 for {self.name}"
      _validate.fail("expected_batch_size", rule, size)

  def analyses(self, run: "Mechanism") -> tuple[str, ...]:
    """See `Sampler`."""
    added = run.neighboring_relation == "add_or_remove_one"
    return () if added else ("pld", "rdp")

  def steps_apart(self, run: "Mechanism") -> int:
    """See `Sampler`; one epoch may end, and the next begin, with an example."""
    assert run.num_examples is not None  # `check` has seen to it.
    per_epoch = run.num_examples // max(round(run.expected_batch_size), 1)
    return run.num_steps if run.num_steps <= per_epoch else 1

  def lower_bound(self, run: "Mechanism", *, delta: float) -> float | None:
    """See `Sampler`; an epoch that is cut short counts if it is the only one.

    Args:
      run: Mechanism of the run.
      delta: Delta of the guarantee.
    """
    if not self.analyses(run):
      return None
    assert run.num_examples is not None  # `check` has seen to it.
    size = round(run.expected_batch_size)
    per_epoch = run.num_examples // size
    epochs = run.num_steps // per_epoch
    num_steps = per_epoch if epochs else run.num_steps
    return shuffles.epsilon_at_least(
        noise=run.noise_multiplier,
        num_steps=num_steps,
        in_epoch=min(1.0, num_steps * size / run.num_examples),
        num_epochs=max(epochs, 1),
        blank=run.neighboring_relation == "replace_special",
        delta=delta,
    )
