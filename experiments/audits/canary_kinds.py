"""The kinds of canaries, and how each is planted in a run.

  dirac             one coordinate of the gradient each, added behind clipping
  random_direction  a random direction each, added behind clipping
  clipped           an example whose gradient is 10 clip norms long, along a
                    parameter of its own: loss and clipping are audited too
  input             odd examples like any others, which the task makes: for
                    images, test images with wrong labels
  text              short random strings, whose exposure is measured too

The rows of the last two may be there several times each: in or out together.

Invariant: a plant function changes a run by its canaries alone; what trains it
is `_build`'s own gradient function, noise and optimiser. The attacker behind
the scores never sees who is in.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.plan import experiment as experiment_lib
from experiments.plan import optimizer as optimizer_lib
from experiments.plan import units
from experiments.run import loop
from experiments.tasks import task as task_lib
from jax_privacy import auditing, batch_selection
from jax_privacy.auditing import input_canaries

# Of a "clipped" canary's gradient, in clip norms.
_GRADIENT_NORM = 10.0
# The parameter that is their own.
_OWN = "canaries"
# Exposure is at most 10 bits among these and the canary.
_NUM_REFERENCES = 1023


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planted:
  """The canaries of an audited run.

  Attributes:
    membership: Who is in.
    score_fn: `score_fn(state)` of the last state, one per canary.
    independent: Whether scores of different canaries are independent.
    gradients: Canaries that join the sum after the clipping; None where
      canaries are rows of the data set.
    batches: Indices by step, canaries that are out included.
    num_copies: Number of examples that each canary is.
    num_references: Number of strings to rank canaries among; 0 for none.
    exposure_fn: `exposure_fn(state)` of the last state, in bits, one per
      canary; None where there are no references.
  """

  membership: auditing.Membership
  score_fn: Callable[[loop.TrainState], np.ndarray]
  independent: bool
  gradients: auditing.GradientCanaries | None
  batches: batch_selection.Batches
  num_copies: int = 1
  num_references: int = 0
  exposure_fn: Callable[[loop.TrainState], np.ndarray] | None = None

  def selected(self, step: int) -> np.ndarray | None:
    """See `experiment.Canaries`."""
    if self.gradients is None:
      return None
    return self.membership.split_batch(self.batches.batch(step))[1]

  def insert(self, clipped_sum: Any, selected: jax.Array) -> Any:
    """See `experiment.Canaries`."""
    return self.gradients.insert(clipped_sum, selected)


def _dirac(params, run_key, **options):
  seed = run_key.seed("canaries")
  return auditing.dirac_canaries(params, seed=seed, **options)


def _random_direction(params, run_key, **options):
  key = run_key.prng_key("canaries")
  return auditing.random_direction_canaries(params, key=key, **options)


def _plant_gradients(base, membership, *, make_fn, independent):
  """Canaries that join the sum after the clipping."""
  canaries = make_fn(
      _trained(base),
      base.run_key,
      num_canaries=membership.num_canaries,
      l2_norm=_share(base),
  )
  dp_training = _dp_training(
      base, base.model.loss_fn, _recorder(canaries, base.mechanism)
  )

  def without_canaries(indices):
    return membership.split_batch(indices)[0]

  return dataclasses.replace(
      base,
      dp_training=_map_batches(dp_training, without_canaries),
      canaries=Planted(
          membership=membership,
          score_fn=_recorded,
          independent=independent,
          gradients=canaries,
          batches=dp_training.sampler.batches,
      ),
  )


def _plant_clipped(base, membership):
  """Rows whose loss moves a parameter of their own, too far.

  No real example moves these parameters, and no such row any other, so that
  what is seen there is noise and canary alone. A row is padding, and the number
  of its canary.
  """
  num_canaries = membership.num_canaries
  own = auditing.dirac_canaries(
      jnp.zeros(num_canaries),
      num_canaries=num_canaries,
      l2_norm=_share(base),
      seed=0,  # All coordinates there are.
  )
  real_loss_fn = base.model.loss_fn
  gradient_norm = _GRADIENT_NORM * base.config.dp.l2_clip_norm

  def loss_fn(params, example, key):
    others = {k: v for k, v in params.items() if k != _OWN}
    real = real_loss_fn(others, example["example"], key)
    index = example["canary"]
    row = own.linear_loss(params[_OWN], index, gradient_norm=gradient_norm)
    return jnp.where(index >= 0, row, real)

  model = dataclasses.replace(
      base.model,
      # Next to the model's, whose paths the config may name.
      params={**base.model.params, _OWN: jnp.zeros(num_canaries)},
      loss_fn=loss_fn,
  )
  base = dataclasses.replace(
      base,
      model=model,
      partition=base.partition.also(_OWN),
      train_source=_Numbered(base.train_source),
  )
  rows = base.train_source[np.full(num_canaries, -1)]
  rows["canary"] = np.arange(num_canaries, dtype=np.int32)
  recorder = _recorder(_Within(own, _OWN), base.mechanism)
  dp_training = _dp_training(base, loss_fn, recorder)
  return _plant_rows(
      base, membership, rows, dp_training, score_fn=_recorded, independent=True
  )


def _plant_input(base, membership):
  """Odd examples of the task's own, scored by how well they are learned."""
  made = base.task.input_canaries(
      base.row_source,
      base.test_source,
      base.predictor,
      num_canaries=membership.num_canaries,
      seed=base.run_key.seed("canaries"),
  )
  return _plant_learned(base, membership, made)


def _plant_text(base, membership):
  """Random strings, scored so too, and ranked among others."""
  made = base.task.text_canaries(
      base.row_source,
      base.test_source,
      base.predictor,
      num_canaries=membership.num_canaries,
      num_references=_NUM_REFERENCES,
      seed=base.run_key.seed("canaries"),
  )
  losses_fn = jax.jit(made.losses_fn)

  def exposure_fn(state):
    ours, others = (
        -auditing.loss_scores(losses_fn, state.params, rows)
        for rows in (made.rows, made.references)
    )
    return auditing.exposure(ours, others)

  return _plant_learned(
      base,
      membership,
      made,
      num_references=_NUM_REFERENCES,
      exposure_fn=exposure_fn,
  )


def _plant_learned(base, membership, made, **planted):
  """Rows of a task's own, scored by how well they are learned."""
  losses_fn = jax.jit(made.losses_fn)
  # A copy: training gives the buffers of the first parameters away.
  reference = jax.device_get(base.model.params)

  def score_fn(state):
    return auditing.loss_scores(
        losses_fn, state.params, made.rows, reference_params=reference
    )

  dp_training = _dp_training(base, base.model.loss_fn)
  # With a unit, each is a person with this row alone.
  rows = units.alone(base.train_source, made.rows)
  return _plant_rows(
      base,
      membership,
      rows,
      dp_training,
      score_fn=score_fn,
      independent=False,
      **planted,
  )


def _plant_rows(base, membership, rows, dp_training, **planted):
  """Canaries that are examples like any other, once they are drawn."""
  num_copies = base.config.get("audit", {}).get("num_copies", 1)
  rows = jax.tree.map(lambda x: np.repeat(x, num_copies, axis=0), rows)
  drop_excluded = membership.of_copies(num_copies).drop_excluded
  return dataclasses.replace(
      base,
      train_source=_WithRows(base.train_source, rows),
      dp_training=_map_batches(dp_training, drop_excluded),
      canaries=Planted(
          membership=membership,
          gradients=None,
          batches=dp_training.sampler.batches,
          num_copies=num_copies,
          **planted,
      ),
  )


def _dp_training(base, loss_fn, *first):
  """Makes sampler, gradient and optimiser, which starts with `first`.

  `first` may draw random numbers, as directions are. So it comes behind the
  private optimiser, which refuses what might be noise of its own.
  """
  optimizer = optimizer_lib.build_optimizer(
      base.config.train, base.schedule_steps, _trained(base)
  )
  dp_training = experiment_lib.build_dp_training(
      base.config.dp,
      loss_fn,
      optax.identity(),
      base.mechanism,
      key=base.dp_key,
      mesh=base.mesh,
      with_norms=base.config.train_metrics,
  )
  behind = (*first, optimizer)
  if base.config.train_metrics:
    behind = map(optimizer_lib.showing, behind)
  return dp_training._replace(
      optimizer=optax.chain(dp_training.optimizer, *behind)
  )


def _trained(base):
  """The parameters that have a gradient."""
  return base.partition.split(base.model.params)[0]


def _share(base) -> float:
  """The most that one example may add to the sum, which is of gradients."""
  if base.config.dp.clipping == "quantile":
    raise ValueError(
        "dp.clipping must be standard, automatic or psac for canaries that"
        " know the noise (kinds input and text do not), got 'quantile'."
    )
  dp_training = _dp_training(base, base.model.loss_fn)
  return dp_training.grad_fn.sensitivity("add_or_remove_one")


def _recorder(canaries, mechanism):
  return auditing.record_scores(
      canaries,
      noise_stddev=mechanism.noise_multiplier * canaries.l2_norm,
      sampling_prob=mechanism.sampling_prob,
  )


def _recorded(state: loop.TrainState) -> np.ndarray:
  scores = auditing.recorded_scores(state.opt_state)
  return np.asarray(scores.log_ratios, np.float64)


def _map_batches(dp_training, map_fn):
  """Changes the indices of each batch, before they are padded."""
  batches = dp_training.sampler.batches

  def draw(generator, step):
    return map_fn(batches.draw_fn(generator, step))

  changed = dataclasses.replace(batches, draw_fn=draw)
  sampler = dataclasses.replace(dp_training.sampler, batches=changed)
  return dp_training._replace(sampler=sampler)


@dataclasses.dataclass(frozen=True)
class _Within:
  """Canaries within one part of the parameters."""

  canaries: auditing.DiracCanaries
  name: str

  @property
  def l2_norm(self) -> float:
    return self.canaries.l2_norm

  @property
  def num_canaries(self) -> int:
    return self.canaries.num_canaries

  def project(self, tree: Any) -> jax.Array:
    return self.canaries.project(tree[self.name])


@dataclasses.dataclass(frozen=True)
class _Numbered:
  """A source whose examples say that they are no canary, by number -1."""

  source: task_lib.Source

  @property
  def num_examples(self) -> int:
    return self.source.num_examples

  @property
  def in_memory(self) -> bool:
    return getattr(self.source, "in_memory", False)

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, indices: np.ndarray) -> dict[str, Any]:
    numbers = np.full(len(indices), -1, np.int32)
    return {"example": self.source[indices], "canary": numbers}


@dataclasses.dataclass(frozen=True)
class _WithRows:
  """A source with canaries behind its examples."""

  source: task_lib.Source
  rows: task_lib.Batch

  @property
  def num_examples(self) -> int:
    return self.source.num_examples + self._num_rows

  @property
  def in_memory(self) -> bool:
    return getattr(self.source, "in_memory", False)

  @property
  def _num_rows(self) -> int:
    return len(jax.tree.leaves(self.rows)[0])

  def __len__(self) -> int:
    return len(self.source) + self._num_rows

  def __getitem__(self, indices: np.ndarray) -> task_lib.Batch:
    return input_canaries.read(
        self.source,
        self.rows,
        num_examples=self.source.num_examples,
        indices=indices,
    )


PLANT_FNS = {
    "dirac": functools.partial(
        _plant_gradients, make_fn=_dirac, independent=True
    ),
    # Not quite orthogonal: a canary is noise to the others.
    "random_direction": functools.partial(
        _plant_gradients, make_fn=_random_direction, independent=False
    ),
    "clipped": _plant_clipped,
    "input": _plant_input,
    "text": _plant_text,
}
# Of these, there may be several copies.
COPIED = ("input", "text")
