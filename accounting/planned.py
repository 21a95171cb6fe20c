"""A run from its budget and its epochs, in one call.

Invariant: what is returned is what `calibrate_noise` gives for the same run:
its epsilon is at most the target.

>>> run = calibrated(
...     epsilon=3.0, delta=1e-5, num_examples=1000, batch_size=200,
...     num_epochs=20)
>>> run.num_steps, run.expected_batch_size, run.epsilon(delta=1e-5) <= 3.0
(100, 200.0, True)
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accounting.calibrate import calibrate_noise
from accounting.mechanism import Mechanism, steps_for_epochs

if TYPE_CHECKING:
  import dp_accounting

_PLACEHOLDER = 1.0


def calibrated(
    *,
    epsilon: float,
    delta: float,
    num_examples: int,
    batch_size: float,
    num_epochs: float | None = None,
    num_steps: int | None = None,
    accountant: str = "pld",
    sampling: str = "poisson",
    max_batch_size: int | None = None,
    neighboring_relation: "str | dp_accounting.NeighboringRelation" = (
        "add_or_remove_one"
    ),
    sampling_options: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
    noise: str = "independent",
    noise_options: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
) -> Mechanism:
  """Returns the run of this length with the smallest noise for an epsilon.

  Args:
    epsilon: Target epsilon, above 0.
    delta: Delta of the guarantee, in (0, 1).
    num_examples: Stated number of examples.
    batch_size: Expected number of examples in a batch.
    num_epochs: Expected number of times that an example is seen; or None, and
      `num_steps` is given.
    num_steps: Number of updates; or None, and `num_epochs` is given.
    accountant: Name of the accountant: "pld" or "rdp".
    sampling: Name of how a step's batch is drawn; see `Mechanism` for this and
      all below.
    max_batch_size: The cap of "truncated_poisson".
    neighboring_relation: Name of which data sets count as neighbours.
    sampling_options: Fields of the sampler's own.
    noise: Name of how the noise of the steps is correlated.
    noise_options: Fields of the noise's own.

  Raises:
    ValueError: If an argument breaks its rule, both or neither of `num_epochs`
      and `num_steps` are given, or no noise up to 1e8 is enough.

  Guarantee: `accounting.epsilon` of the result is at most `epsilon`.
  """
  if (num_epochs is None) == (num_steps is None):
    got = f"{num_epochs!r} and num_steps {num_steps!r}"
    raise ValueError(
        "num_epochs must be given where num_steps is not, and not both, got"
        f" {got}."
    )
  run = Mechanism.for_batch_size(
      expected_batch_size=batch_size,
      num_examples=num_examples,
      noise_multiplier=_PLACEHOLDER,
      num_steps=1 if num_steps is None else num_steps,
      sampling=sampling,
      max_batch_size=max_batch_size,
      neighboring_relation=neighboring_relation,
      sampling_options=sampling_options,
      noise=noise,
      noise_options=noise_options,
  )
  if num_epochs is not None:
    num_steps = steps_for_epochs(
        num_epochs=num_epochs, sampling_prob=run.sampling_prob
    )
    run = run.with_num_steps(num_steps)
  return calibrate_noise(
      run, epsilon=epsilon, delta=delta, accountant=accountant
  )
