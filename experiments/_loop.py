"""The only training loop.

Data flow of step t: sampler -> indices -> source -> uint8 images -> views ->
clipped sum -> noise -> optimiser -> average. Everything random is a pure
function of (key, t, example index), so a loop that starts from a saved state
goes on as if it had never stopped.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _build
from jax_privacy import (
    augmult,
    averaging,
    batch_selection,
    data,
    precision,
)


class TrainState(NamedTuple):
  """All that changes during a run; a checkpoint holds exactly this.

  Attributes:
    step: Number of updates done, int32 scalar.
    params: Parameters.
    opt_state: Of noise (its key and position) and optimiser.
    ema: Average of the parameters.
    run_key: The root that parameters, batches, noise and views are derived
      from, uint32 [4]: the run's secret, which no other file may hold.
  """

  step: jax.Array
  params: Any
  opt_state: optax.OptState
  ema: averaging.AverageState
  run_key: jax.Array


def init_state(experiment: _build.Experiment) -> TrainState:
  """Returns the state before the first update."""
  params = experiment.model.params
  return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=experiment.private.optimizer.init(params),
      ema=experiment.ema.init(params),
      run_key=jnp.asarray(experiment.run_key.words()),
  )


def train(
    experiment: _build.Experiment, state: TrainState
) -> Iterator[tuple[TrainState, jax.Array]]:
  """Yields (state, loss) after each update that is left to do.

  The state's buffers are donated to the next update: it must not be used
  afterwards. The loss is the batch's mean before clipping, a device scalar:
  PRIVATE, not covered by the guarantee, and not for release.
  """
  add, update = _compile(experiment)
  for step in range(int(state.step), experiment.mechanism.num_steps):
    total = _Total.zeros(state.params, on_grid=_on_grid(experiment))
    for indices in _physical_batches(experiment, step):
      batch = _read(experiment.train_source, indices)
      total = add(total, state.params, state.step, batch, indices)
    canaries = experiment.canaries
    selected = None if canaries is None else canaries.selected(step)
    state, loss = update(state, total, selected)
    yield state, loss


def _read(source, indices):
  """Returns a batch; an error of an example says that its name is private."""
  try:
    return source[indices]
  except data.ImageError as error:
    text = f"{error} (private, not for release)"
    raise data.ImageError(text) from error


class _Total(NamedTuple):
  """Sums over the physical batches of one step."""

  grads: Any
  losses: jax.Array
  num_real: jax.Array

  @classmethod
  def zeros(cls, params, *, on_grid):
    def zeros_like(p):
      dtype = precision.at_least_float32(p.dtype)
      return jnp.zeros(p.shape, jnp.int32 if on_grid else dtype)

    grads = jax.tree.map(zeros_like, params)
    return cls(grads, jnp.zeros(()), jnp.zeros(()))


def _on_grid(experiment) -> bool:
  """Whether sums are whole steps of a grid; see `jax_privacy/grid.py`."""
  return experiment.private.grad_fn.grid_step is not None


def _physical_batches(experiment, step) -> list[np.ndarray]:
  """Splits step's batch into pieces of one size, the last filled with -1.

  Done here and not by clipped_grad's microbatch_size: on a CPU, XLA runs
  convolutions inside a loop some 20 times slower than outside.
  """
  size = experiment.config.train.physical_batch_size
  if size is None:
    return [experiment.private.sampler.batch(step).astype(np.int32)]
  indices = experiment.private.sampler.batches.batch(step).astype(np.int32)
  padded = batch_selection.pad_to_multiple_of(indices, size)
  return list(padded.reshape(-1, size))


def _compile(experiment: _build.Experiment):
  """Returns the two compiled halves of a step.

  `add(total, params, step, batch, indices)` adds a physical batch; `update(
  state, total, selected)` adds the noise, once, and moves the parameters. In an
  audit, the selected canaries join the sum behind the clipping, as one
  example's share each, and the scores may know the sum without them.
  """
  private = experiment.private

  def add(total, params, step, batch, indices):
    is_padding = indices < 0
    grads, aux = private.grad_fn(
        params,
        batch["image"],
        batch["label"],
        augmult.example_keys(
            experiment.augment_key, step=step, indices=indices
        ),
        is_padding_example=is_padding,
    )
    losses = jnp.sum(jnp.where(is_padding, 0.0, aux.values))
    num_real = jnp.sum(~is_padding).astype(losses.dtype)
    return jax.tree.map(jnp.add, total, _Total(grads, losses, num_real))

  def update(state, total, selected):
    grads, known = total.grads, {}
    if selected is not None:
      grads = experiment.canaries.insert(grads, selected)
      known = {"baseline": total.grads}
    updates, opt_state = private.optimizer.update(
        grads, state.opt_state, state.params, **known
    )
    params = optax.apply_updates(state.params, updates)
    state = state._replace(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        ema=experiment.ema.update(params, state.ema),
    )
    return state, total.losses / jnp.maximum(total.num_real, 1.0)

  return jax.jit(add, donate_argnums=0), jax.jit(update, donate_argnums=0)
