"""Training without privacy, to compare with: the same batches, and no noise.

`dp.enabled=False` trains a config as it is, but for clipping and noise: the
model, the views, the optimiser, the batches of each step and the number of
steps are those of the private run of the same seed.

Invariant: nothing that such a run writes or prints states an epsilon, a delta
or a noise multiplier, and all of it says `LABEL`. What asks it for its privacy
is refused.

>>> refuse(True, "be audited")
>>> refuse(False, "be audited")
Traceback (most recent call last):
ValueError: dp.enabled must be True to be audited, got False: the run is NOT \
PRIVATE, and has no guarantee.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import accounting
from jax_privacy import batch_schedule, clipping, dp_sgd, root_key

LABEL = "NOT PRIVATE"
# What is said of such a run, wherever there is room for a sentence.
SENTENCE = (
    f"{LABEL}: trained with dp.enabled=False, without clipping and noise. There"
    " is no guarantee whatever for the training data."
)


def refuse(enabled: bool, what: str) -> None:
  """Refuses to do with a run what only a private one allows.

  Args:
    enabled: The run's `dp.enabled`.
    what: Text of what was to be done, as after "to".

  Raises:
    ValueError: If the run is not private.
  """
  if not enabled:
    raise ValueError(
        f"dp.enabled must be True to {what}, got False: the run is {LABEL}, and"
        " has no guarantee."
    )


def build(
    loss_fn: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    mechanism: accounting.Mechanism,
    *,
    key: root_key.RootKey,
    secure_random: bool,
    mesh: jax.sharding.Mesh | None,
) -> dp_sgd.PrivateTraining:
  """Returns what `dp_sgd.make_private` does, but clips and adds nothing.

  Args:
    loss_fn: `loss_fn(trained, example, key, frozen)`, of one example.
    optimizer: Optimiser of trained parameters.
    mechanism: Mechanism of the private run; its noise is not read.
    key: Key of the private run, which has the same batches.
    secure_random: Whether a cipher draws batches.
    mesh: Devices that batches are split over; None for one.

  Guarantee: None.
  """
  sampler = dp_sgd.make_sampler(
      mechanism,
      key=key,
      secure_random=secure_random,
      num_devices=1 if mesh is None else mesh.size,
  )
  schedule = tuple(mechanism.batch_size_schedule)
  if schedule:
    optimizer = optax.chain(batch_schedule.rescale(schedule), optimizer)
  # It counts updates, as noise does: Orbax saves no state that is empty.
  optimizer = optax.chain(optax.scale_by_schedule(lambda _: 1.0), optimizer)
  size = mechanism.num_examples * mechanism.sampling_prob
  return dp_sgd.PrivateTraining(sampler, _Sum(loss_fn, size), optimizer)


@dataclasses.dataclass(frozen=True)
class _Sum:
  """The sum of gradients over the expected batch size; see `GradFn`."""

  loss_fn: Callable[..., jax.Array]
  expected_batch_size: float
  grid_step: None = None

  def __call__(self, trained, batch, keys, frozen=None, *, is_padding_example):
    def total(trained):
      losses = jax.vmap(self.loss_fn, in_axes=(None, 0, 0, None))(
          trained, batch, keys, frozen
      )
      real = jnp.where(is_padding_example, 0.0, losses)
      return jnp.sum(real) / self.expected_batch_size, losses

    grads, losses = jax.grad(total, has_aux=True)(trained)
    return grads, clipping.Aux(values=losses)

  def sensitivity(self, neighboring_relation: Any = None) -> float:
    """Raises a ValueError: nothing bounds one example's share."""
    del neighboring_relation
    refuse(False, "have a sensitivity")
    raise AssertionError
