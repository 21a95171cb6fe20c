"""The only training loop.

Data flow of step t: sampler -> indices -> source -> examples -> views ->
clipped sum -> noise -> optimiser -> average. Everything random is a pure
function of (key, t, example index), so a loop that starts from a saved state
gives what a loop gives that never stopped.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.plan import experiment as experiment_lib
from experiments.plan import trainable
from experiments.run import input as input_lib
from experiments.run import log as log_lib
from experiments.run import train_metrics
from jax_privacy import averaging, precision, sharding
from jax_privacy import views as views_lib


class TrainState(NamedTuple):
  """All that changes during a run; a checkpoint holds exactly this.

  Attributes:
    step: Number of updates done, int32 scalar.
    params: Parameters, the frozen ones included.
    opt_state: State of noise (its key and position) and optimiser.
    averages: Averages of the trained parameters, by name.
    run_key: The root that parameters, batches, noise and views are derived
      from, uint32 [4]: the run's secret, which no other file may hold.
  """

  step: jax.Array
  params: Any
  opt_state: optax.OptState
  averages: dict[str, averaging.AverageState]
  run_key: jax.Array


def init_state(experiment: experiment_lib.Experiment) -> TrainState:
  """Returns the state before the first update.

  Args:
    experiment: Run, as `plan.experiment.build` makes it.
  """
  params = experiment.model.params
  trained, _ = experiment.partition.split(params)
  state = TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=experiment.dp_training.optimizer.init(trained),
      averages={
          name: average.init(trained)
          for name, average in experiment.averagings.items()
      },
      run_key=jnp.asarray(experiment.run_key.words()),
  )
  if experiment.mesh is None:
    return state
  return sharding.put(experiment.mesh, state)


def train(
    experiment: experiment_lib.Experiment,
    state: TrainState,
    *,
    on_new_size: Callable[[int], None] | None = None,
) -> Iterator[tuple[TrainState, dict[str, Any]]]:
  """Yields (state, unreleased_metrics) after each update that is left to do.

  The state's buffers are donated to the next update: it must not be used
  afterwards. The metrics are PRIVATE, not covered by the guarantee, and not for
  release: "loss", the batch's mean before clipping, a device scalar; and with
  config.train_metrics, at the steps of the log, what `train_metrics.py` has.

  Args:
    experiment: The run.
    state: State to go on from.
    on_new_size: Function that is called with the size of a padded batch before
      a step is compiled for it. Which sizes are met, and when, is private.
  """
  zeros, add, update = _compile(experiment, state)
  step, canaries = int(state.step), experiment.canaries
  logged = log_lib.logged_steps(experiment)
  batches = input_lib.physical_batches(experiment, first_step=step)
  with contextlib.closing(batches):
    total, norms, sizes = zeros(), [], set()
    for batch, indices, is_last in batches:
      if len(indices):
        if on_new_size is not None and len(indices) not in sizes:
          on_new_size(len(indices))
        sizes.add(len(indices))
        total, of_rows = add(
            total,
            state.params,
            state.step,
            batch,
            indices,
            experiment.dp_training.step_options(state.opt_state),
        )
        norms.append((of_rows, indices))
      if is_last:
        selected = None if canaries is None else canaries.selected(step)
        is_shown = experiment.config.train_metrics and step + 1 in logged
        clip_norm = train_metrics.clip_norm_of(experiment, state, is_shown)
        state, loss, gradients = update(state, total, selected)
        unreleased_metrics = {"loss": loss}
        if gradients is not None and is_shown:
          unreleased_metrics |= train_metrics.of_step(
              experiment, norms, gradients, step=step, l2_clip_norm=clip_norm
          )
        step += 1
        del gradients  # As large as the parameters, and not needed any more.
        yield state, unreleased_metrics
        total, norms = zeros(), []


def compile_step(
    experiment: experiment_lib.Experiment, *, size: int
) -> dict[str, jax.stages.Compiled]:
  """Compiles the parts of a step, on one device, and runs neither.

  Args:
    experiment: The run, without a mesh.
    size: Number of rows of the padded batch.

  Returns:
    Programs by name: "clipped gradients", which adds a batch, and "update".
  """
  state = jax.eval_shape(lambda: init_state(experiment))
  zeros, add, update = _compile(experiment, state)
  padding = experiment.train_source[np.array([-1])]
  batch = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
          (size, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype)
      ),
      padding,
  )
  indices = jax.ShapeDtypeStruct((size,), jnp.int32)
  total = jax.eval_shape(zeros)
  lowered = {
      "clipped gradients": add.lower(
          total,
          state.params,
          state.step,
          batch,
          indices,
          experiment.dp_training.step_options(state.opt_state),
      ),
      "update": update.lower(state, total, None),
  }
  return {name: part.compile() for name, part in lowered.items()}


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
  return experiment.dp_training.grad_fn.grid_step is not None


def _compile(experiment: experiment_lib.Experiment, state: TrainState):
  """Returns the compiled parts of a step.

  `zeros()` is the sum over nothing; `add(total, params, step, batch, indices,
  options)` adds a physical batch, and gives its norms where they are asked for;
  `update(state, total, selected)` adds the noise, once, and moves the
  parameters; it gives the loss, and the gradients where they are asked for. In
  an audit, the selected canaries join the sum behind the clipping, as one
  example's share each, and the scores may know the sum without them.
  """
  dp_training, partition = experiment.dp_training, experiment.partition
  is_shown = experiment.config.train_metrics

  def add(total, params, step, batch, indices, options):
    is_padding = indices < 0
    trained, frozen = partition.split(params)
    grads, aux = dp_training.grad_fn(
        trained,
        batch,
        views_lib.example_keys(
            experiment.augment_key, step=step, indices=indices
        ),
        frozen,
        is_padding_example=is_padding,
        **options,
    )
    losses = jnp.sum(jnp.where(is_padding, 0.0, aux.values))
    num_real = jnp.sum(~is_padding).astype(losses.dtype)
    total = jax.tree.map(jnp.add, total, _Total(grads, losses, num_real))
    return total, aux.grad_norms

  def update(state, total, selected):
    grads, known = total.grads, {}
    if selected is not None:
      grads = experiment.canaries.insert(grads, selected)
      known = {"baseline": total.grads}
    trained, frozen = partition.split(state.params)
    updates, opt_state = dp_training.optimizer.update(
        grads, state.opt_state, trained, **known
    )
    gradients = None
    if is_shown:
      updates, noised = updates
      gradients = train_metrics.Gradients(grads, noised)
    trained = optax.apply_updates(trained, updates)
    state = state._replace(
        step=state.step + 1,
        params=trainable.merge(trained, frozen),
        opt_state=opt_state,
        averages={
            name: average.update(trained, state.averages[name])
            for name, average in experiment.averagings.items()
        },
    )
    return state, total.losses / jnp.maximum(total.num_real, 1.0), gradients

  shapes = jax.eval_shape(
      lambda: dp_training.sums_like(partition.split(state.params)[0])
  )
  zeros = functools.partial(_Total.zeros, shapes, on_grid=_on_grid(experiment))
  mesh = experiment.mesh
  if mesh is None:
    add_fn, update_fn = (jax.jit(f, donate_argnums=0) for f in (add, update))
    return zeros, add_fn, update_fn
  # Said, not left to XLA: what is split stays split, whatever the optimiser.
  sum_split = sharding.shardings(mesh, shapes)
  everywhere = sharding.shardings(mesh, state.step)
  total_split = _Total(sum_split, everywhere, everywhere)
  state_split = sharding.shardings(mesh, state)
  return (
      jax.jit(zeros, out_shardings=total_split),
      jax.jit(add, donate_argnums=0, out_shardings=(total_split, None)),
      jax.jit(
          update,
          donate_argnums=0,
          out_shardings=(state_split, everywhere, None),
      ),
  )
