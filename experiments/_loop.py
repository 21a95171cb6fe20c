"""The only training loop.

Data flow of step t: sampler -> indices -> source -> uint8 images -> views ->
clipped sum -> noise -> optimiser -> average. Everything random is a pure
function of (key, t, example index), so a loop that starts from a saved state
goes on as if it had never stopped.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _build
from jax_privacy import augmult, averaging


class TrainState(NamedTuple):
  """All that changes during a run; a checkpoint holds exactly this.

  Attributes:
    step: Number of updates done, int32 scalar.
    params: Parameters.
    opt_state: Of noise (its key and position) and optimiser.
    ema: Average of the parameters.
    run_key: What parameters, batches, noise and views are derived from.
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
      run_key=experiment.run_key,
  )


def train(
    experiment: _build.Experiment, state: TrainState
) -> Iterator[tuple[TrainState, jax.Array]]:
  """Yields (state, loss) after each update that is left to do.

  The loss is the batch's mean before clipping, a device scalar: PRIVATE, not
  covered by the guarantee, and not for release.
  """
  update = make_update(experiment)
  for step in range(int(state.step), experiment.mechanism.num_steps):
    indices = experiment.private.sampler.batch(step)
    batch = experiment.train_source[indices]
    state, loss = update(state, batch, indices.astype(np.int32))
    yield state, loss


def make_update(
    experiment: _build.Experiment,
) -> Callable[..., tuple[TrainState, jax.Array]]:
  """Returns the compiled `(state, batch, indices) -> (state, loss)`.

  The state's buffers are donated: the one given must not be used again.
  """
  private, ema = experiment.private, experiment.ema

  def update(state, batch, indices):
    keys = augmult.example_keys(
        experiment.augment_key, step=state.step, indices=indices
    )
    grads, aux = private.grad_fn(
        state.params,
        batch["image"],
        batch["label"],
        keys,
        is_padding_example=indices < 0,
    )
    updates, opt_state = private.optimizer.update(
        grads, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    state = state._replace(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        ema=ema.update(params, state.ema),
    )
    return state, _mean_loss(aux.values, indices >= 0)

  return jax.jit(update, donate_argnums=0)


def _mean_loss(losses, is_real):
  """Mean over the realised batch: private. 0 for an empty one."""
  total = jnp.sum(jnp.where(is_real, losses, 0.0))
  return total / jnp.maximum(jnp.sum(is_real), 1).astype(total.dtype)
