"""What a training run releases, in one frozen record.

`Mechanism` is the single source of truth: the sampler, the noise and the
accountant are all derived from it, so that no number is written twice. Its
invariant is that every field was checked when it was made; a `Mechanism` that
exists can be accounted for, or is refused by name in `accounting.epsilon`.

>>> run = Mechanism.for_batch_size(
...     expected_batch_size=4096, num_examples=50_000,
...     noise_multiplier=3.0, num_steps=1000)
>>> run.sampling_prob, run.expected_batch_size
(0.08192, 4096.0)
>>> Mechanism.from_dict(run.to_dict()) == run
True
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accounting import _relations, _validate, accountants, noises, samplers
from accounting._composable import Composable
from accounting._phase import SampledPhase
from accounting._relations import NEIGHBORING_RELATIONS as NEIGHBORING_RELATIONS
from accounting.numerics import schedule as schedule_lib

if TYPE_CHECKING:
  import dp_accounting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mechanism(SampledPhase, Composable):
  """`num_steps` noisy sums of clipped gradients, all of them released.

  Attributes:
    noise_multiplier: Standard deviation of the noise on the SUM, divided by
      the clip norm, that is by the most that one example can add to the sum.
      The same under every neighbouring relation: the relation changes the
      accounting and never the noise.
    num_steps: Number of updates. An update made of many microbatches is one
      step.
    sampling_prob: Probability that an example takes part in a step, in (0, 1].
    num_examples: Stated, hence public, number of examples. Needed by the
      samplers that draw from a set of fixed size, and for the batch size.
    sampling: Name of how a step's batch is drawn.
      "poisson": each example on its own, with probability `sampling_prob`.
      "truncated_poisson": Poisson, then a random `max_batch_size` of those
        drawn, where more were.
      "fixed_without_replacement": a fresh uniform subset of exactly
        `expected_batch_size` examples at every step.
      "random_allocation": in every num_selected / sampling_prob steps, each
        example in num_selected of them, drawn uniformly and by itself.
      "balls_in_bins": each example in one of 1 / sampling_prob bins, for the
        run; the steps go through the bins in order.
      "shuffle": epochs in a fresh random order; no chance is counted on.
      "deterministic": no chance is counted on. Fixed batches or shuffled
        epochs: an example is in at most one of floor(1 / sampling_prob)
        steps in a row, and who is in it does not depend on anyone's presence.
      "cyclic_poisson": examples are dealt to `cycle_length` groups, one of the
        `sampling_options`, once and at random; step t draws from group t mod
        `cycle_length`, with `cycle_length` times the probability.
    max_batch_size: The cap of "truncated_poisson"; None for every other.
    neighboring_relation: Name of which data sets count as neighbours.
      "add_or_remove_one": one has one example more.
      "replace_one": one example differs.
      "replace_special": one example is blanked, and then contributes zero.
      The aliases "add_or_remove" and "replace", and the members of
      `dp_accounting.NeighboringRelation`, are turned into these.
    batch_size_schedule: Pairs (first step, factor): from that step on, counted
      from 0, an example takes part with probability `sampling_prob` x factor.
      The first pair begins at step 0. Every step has the same
      noise multiplier. () for one size throughout; for "poisson" alone.
    sampling_options: Fields of the sampler's own, a mapping or pairs of names
      and values: num_selected of "random_allocation", cycle_length of
      "cyclic_poisson". () for the others above, which have none. Kept as sorted
      pairs.
    noise: Name of how the noise of the steps is correlated.
      "independent": each step has noise of its own.
      "banded": the steps have C^-1 Z, with Z of the noise multiplier and C a
        Toeplitz matrix of norm 1 and few bands; see `accounting.noises`.
      "banded_inverse": C^-1 has few bands; "blt": C has few buffers. Both for
        runs in which an example is in one step.
    noise_options: Fields of the noise's own, kept as sorted pairs: of "banded"
      the "strategy_coef", of "banded_inverse" the "noising_coef", of "blt"
      "buf_decay" and "output_scale".

  Raises:
    ValueError: At construction, naming the field, the rule and the value.
  """

  noise_multiplier: float
  num_steps: int
  sampling_prob: float
  num_examples: int | None = None
  sampling: str = "poisson"
  max_batch_size: int | None = None
  neighboring_relation: str = "add_or_remove_one"
  batch_size_schedule: tuple[tuple[int, float], ...] = ()
  sampling_options: tuple[tuple[str, Any], ...] = ()
  noise: str = "independent"
  noise_options: tuple[tuple[str, Any], ...] = ()

  if TYPE_CHECKING:  # What is given may be wider than what is kept.

    def __init__(
        self,
        *,
        noise_multiplier: float,
        num_steps: int,
        sampling_prob: float,
        num_examples: int | None = None,
        sampling: str = "poisson",
        max_batch_size: int | None = None,
        neighboring_relation: "str | dp_accounting.NeighboringRelation" = ...,
        batch_size_schedule: Sequence[Sequence[float]] = (),
        sampling_options: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
        noise: str = "independent",
        noise_options: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
    ):
      ...

  def __post_init__(self):
    checked = {
        "noise_multiplier": _validate.real(
            "noise_multiplier", self.noise_multiplier, low=0
        ),
        "num_steps": _validate.integer("num_steps", self.num_steps),
        "sampling_prob": _validate.real(
            "sampling_prob", self.sampling_prob, low=0, high=1, high_ok=True
        ),
        "num_examples": _optional_integer("num_examples", self.num_examples),
        "sampling": samplers.get(self.sampling).name,
        "max_batch_size": _optional_integer(
            "max_batch_size", self.max_batch_size
        ),
        "neighboring_relation": _relations.checked(self.neighboring_relation),
    }
    for name, value in checked.items():
      object.__setattr__(self, name, value)  # The first write of two.
    schedule = schedule_lib.check(
        self.batch_size_schedule,
        sampling_prob=self.sampling_prob,
        num_steps=self.num_steps,
    )
    object.__setattr__(self, "batch_size_schedule", schedule)
    options = self.sampler.checked_options(self.sampling_options)
    object.__setattr__(self, "sampling_options", options)  # Then frozen.
    self.sampler.check(self)
    noise = noises.get(self.noise)
    found = noise.checked_options(self.noise_options)
    object.__setattr__(self, "noise_options", found)
    noise.check(self)

  @property
  def sampler(self) -> samplers.Sampler:
    """What is known of how batches are drawn."""
    return samplers.get(self.sampling)

  @property
  def batch_strategy(self) -> Any:
    """What draws the batches, or None where `jax_privacy` does by the name."""
    return self.sampler.batch_strategy(self)

  @classmethod
  def for_batch_size(
      cls,
      *,
      expected_batch_size: float,
      num_examples: int,
      noise_multiplier: float,
      num_steps: int,
      sampling: str = "poisson",
      max_batch_size: int | None = None,
      neighboring_relation: "str | dp_accounting.NeighboringRelation" = (
          "add_or_remove_one"
      ),
      batch_size_schedule: Sequence[Sequence[float]] = (),
      sampling_options: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
      noise: str = "independent",
      noise_options: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
  ) -> "Mechanism":
    """Returns the mechanism whose batches have this size on average.

    Args:
      expected_batch_size: Expected number of examples in a batch.
      num_examples: Stated number of examples.
      noise_multiplier: Standard deviation of the noise over the clip norm; see
        `Mechanism` for this and all below.
      num_steps: Number of updates.
      sampling: Name of how a step's batch is drawn.
      max_batch_size: The cap of "truncated_poisson".
      neighboring_relation: Name of which data sets count as neighbours.
      batch_size_schedule: Pairs (first step, factor).
      sampling_options: Fields of the sampler's own.
      noise: Name of how the noise of the steps is correlated.
      noise_options: Fields of the noise's own.

    Returns:
      A mechanism with `sampling_prob = expected_batch_size / num_examples`.

    Raises:
      ValueError: If a field is invalid, or the batch exceeds the data set.
    """
    size = _validate.real("expected_batch_size", expected_batch_size, low=0)
    total = _validate.integer("num_examples", num_examples)
    if size > total:
      rule = f"at most num_examples ({total})"
      _validate.fail("expected_batch_size", rule, expected_batch_size)
    return cls(
        noise_multiplier=noise_multiplier,
        num_steps=num_steps,
        sampling_prob=size / total,
        num_examples=total,
        sampling=sampling,
        max_batch_size=max_batch_size,
        neighboring_relation=neighboring_relation,
        batch_size_schedule=batch_size_schedule,
        sampling_options=sampling_options,
        noise=noise,
        noise_options=noise_options,
    )

  @property
  def expected_batch_size(self) -> float:
    """Expected examples in a batch, `sampling_prob * num_examples`.

    Snapped to the nearest integer within one part in 10**9, so that dividing
    by the data set's size and multiplying again gives 4096.0 back. It is the
    size before any truncation, and the one that a schedule's factors multiply.

    Raises:
      ValueError: If `num_examples` is None.
    """
    if self.num_examples is None:
      _validate.fail("num_examples", "given to know the batch size", None)
    size = self.sampling_prob * self.num_examples
    nearest = float(round(size))
    return nearest if math.isclose(size, nearest, rel_tol=1e-9) else size

  @property
  def phases(self) -> tuple["Mechanism", ...]:
    """The run as runs of one sampling probability each, in order.

    Releasing these one after the other is releasing the run. Without a
    schedule, or with one whose factors are all 1, it is the run itself.
    """
    return tuple(
        dataclasses.replace(
            self,
            num_steps=num_steps,
            sampling_prob=self.sampling_prob * factor,
            batch_size_schedule=(),
        )
        for num_steps, factor in schedule_lib.phases(
            self.batch_size_schedule, num_steps=self.num_steps
        )
    )

  @property
  def parts(self) -> tuple[tuple["Mechanism", int], ...]:
    """The phases, each released once; see `Composition.parts`."""
    return tuple((phase, 1) for phase in self.phases)

  def sampling_prob_at(self, step: int) -> float:
    """Returns the probability that an example takes part in a step.

    Args:
      step: Number of the step, in [0, num_steps).

    Raises:
      ValueError: If the run has no such step.
    """
    step = _validate.integer("step", step, low=0)
    if step >= self.num_steps:
      _validate.fail("step", f"below num_steps ({self.num_steps})", step)
    begun = schedule_lib.until(self.batch_size_schedule, num_steps=step + 1)
    return self.sampling_prob * (begun[-1][1] if begun else 1.0)

  def with_num_steps(self, num_steps: int) -> "Mechanism":
    """Returns the run with `num_steps` steps: its first, or more of the last.

    Args:
      num_steps: A schedule's phases stay at their steps; those that would begin
        later are left out, and the last one goes on.

    Raises:
      ValueError: If it is no integer of at least 1.
    """
    num_steps = _validate.integer("num_steps", num_steps)
    schedule = schedule_lib.until(self.batch_size_schedule, num_steps=num_steps)
    return dataclasses.replace(
        self, num_steps=num_steps, batch_size_schedule=schedule
    )

  @property
  def expected_epochs(self) -> float:
    """Expected number of steps that an example takes part in."""
    return sum(p.num_steps * p.sampling_prob for p in self.phases)

  def event(self, *, accountant: str = "pld") -> "dp_accounting.DpEvent":
    """Describes the run to dp-accounting.

    Args:
      accountant: Name of the accountant that will read the event: "pld" or
        "rdp".

    Returns:
      An event to compose into dp-accounting's accountant of that name, made
      with this mechanism's neighbouring relation.

    Guarantee:
      dp-accounting 0.6.0's RDP accountant reads `GaussianDpEvent` as noise
      over sensitivity and overlooks that replacing an example moves the sum by
      twice the clip norm. Where that accountant would, the event therefore
      holds half the noise multiplier; its PLD accountant does the doubling
      itself. `SampledWithoutReplacementDpEvent`, which RDP alone reads, always
      holds half.
    """
    import dp_accounting as dp

    misses = accountants.get(accountant).misses_replacement
    events = [
        phase.sampler.event(phase, misses_replacement=misses)
        for phase in self.phases
    ]
    return events[0] if len(events) == 1 else dp.ComposedDpEvent(events)

  def to_dict(self) -> dict[str, Any]:
    """Returns the fields as plain values, as JSON gives them back."""
    found = dataclasses.asdict(self)
    found["batch_size_schedule"] = [list(p) for p in self.batch_size_schedule]
    options = dict(found.pop("sampling_options"))
    noise = {"noise": found.pop("noise")}
    noise["noise_options"] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in found.pop("noise_options")
    }
    found |= {"sampling_options": options} if options else {}
    # As before there was another noise, where there is none.
    return found | (noise if self.noise != "independent" else {})

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> "Mechanism":
    """Makes a mechanism from the result of `to_dict`, trusting nothing.

    Args:
      fields: A mapping of field names to values, such as parsed JSON.

    Returns:
      The mechanism. `from_dict(m.to_dict()) == m`.

    Raises:
      ValueError: If `fields` is no mapping, a required key is missing, a key
        is unknown, or a value has the wrong type or breaks its rule.
    """
    if not isinstance(fields, Mapping):
      _validate.fail(
          "fields", "a mapping of field names", type(fields).__name__
      )
    known = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := [key for key in fields if key not in known]:
      rule = "one of " + ", ".join(known)
      _validate.fail("field", rule, unknown[0])
    for name, field in known.items():
      if field.default is dataclasses.MISSING and name not in fields:
        _validate.fail(name, "given", None)
    return cls(**fields)


def steps_for_epochs(*, num_epochs: float, sampling_prob: float) -> int:
  """Returns the number of steps that is taken for `num_epochs` epochs.

  Args:
    num_epochs: Expected number of times that an example is seen, above 0.
    sampling_prob: Probability that an example takes part in a step.

  Returns:
    num_epochs / sampling_prob, rounded up: at least the epochs asked for.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  epochs = _validate.real("num_epochs", num_epochs, low=0)
  prob = _validate.real(
      "sampling_prob", sampling_prob, low=0, high=1, high_ok=True
  )
  # Ten epochs of a tenth each are a hundred steps, whatever 1 / 0.1 rounds to.
  return math.ceil(epochs * min(1 / prob, 2.0**53) * (1 - 1e-12))


def _optional_integer(name: str, value: Any) -> int | None:
  return None if value is None else _validate.integer(name, value)
