"""Training without privacy: batches of shuffled epochs, plain gradients.

The invariant: a config that states an epsilon or a noise multiplier is refused,
so that none is ever trained with and without privacy under one name.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from experiments.plan import experiment as experiment_lib
from experiments.plan import fields
from experiments.plan import mechanism as mechanism_lib
from experiments.plan import optimizer as optimizer_lib
from experiments.tasks import registry
from jax_privacy import views as views_lib
from jax_privacy.models import saved


def pretrain(config: ml_collections.ConfigDict) -> Any:
  """Returns the parameters of a config's model after plain training.

  The same source, model, views, loss and optimiser as in a private run; batches
  are a shuffled epoch's, each of train.expected_batch_size examples and in one
  piece. Of the other fields, those of dp, eval, averaging, the mesh and the
  log, and physical_batch_size, have no effect.

  Args:
    config: Config with neither dp.epsilon nor dp.noise_multiplier, and all
      parameters fresh and trained.

  Raises:
    ValueError: If a field breaks its rule.

  Guarantee: none.
  """
  fields.check(config)
  unused = {
      "dp.epsilon": config.dp.epsilon,
      "dp.noise_multiplier": config.dp.noise_multiplier,
      "model.restore.path": config.model.restore.path,
      "train.train_only": config.train.train_only,
  }
  for name, value in unused.items():
    if value is not None:
      raise ValueError(
          f"{name} must be None for training without privacy, got {value}."
      )
  if unit := config.data.unit:
    raise ValueError(
        "data.unit must be '' for training without privacy, which takes rows,"
        f" got {unit!r}."
    )
  if schedule := tuple(config.train.batch_size_schedule):
    raise ValueError(
        "train.batch_size_schedule must be () for training without privacy,"
        f" got {schedule}."
    )
  task = registry.build(**fields.task_sections(config))
  source = task.load(config.data.train_split)
  run_key = experiment_lib.make_run_key(config.seed)
  model = task.build_model(source, run_key.prng_key("parameters"))
  size = _batch_size(config.train, source)
  num_steps = mechanism_lib.num_steps(config.train, size / len(source))
  if num_steps < 1:
    raise ValueError(f"train.num_steps must be at least 1, got {num_steps}.")
  batches = _batches(len(source), run_key, batch_size=size, num_steps=num_steps)
  optimizer = optimizer_lib.build_optimizer(
      config.train, num_steps, model.params
  )
  augment_key = run_key.prng_key("augmentation")

  def mean_loss(params, batch, keys):
    losses = jax.vmap(model.loss_fn, in_axes=(None, 0, 0))(params, batch, keys)
    return jnp.mean(losses)

  @jax.jit
  def update(params, opt_state, step, batch, indices):
    keys = views_lib.example_keys(augment_key, step=step, indices=indices)
    grads = jax.grad(mean_loss)(params, batch, keys)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  params, opt_state = model.params, optimizer.init(model.params)
  for step, indices in enumerate(batches):
    params, opt_state = update(
        params, opt_state, step, source[indices], indices
    )
  return params


def check_output(text: str) -> pathlib.Path:
  """Returns the path of a file that may be written: one is never replaced.

  A run that began with it goes on with these very parameters only.

  Args:
    text: Path, as the command line gives it.

  Raises:
    ValueError: If it is there already, or is not named .npz.
  """
  path = pathlib.Path(text)
  if path.suffix != ".npz" or path.exists():
    raise ValueError(f"output must be a new .npz file, got {text}.")
  return path


def save(path: pathlib.Path, params: Any) -> None:
  """Writes parameters by their dotted paths: the whole file, or nothing.

  Args:
    path: The .npz file.
    params: Nested dicts of arrays.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + ".partial")
  with open(partial, "wb") as file:  # NumPy adds its suffix to a mere name.
    np.savez(file, **jax.device_get(saved.flatten(params)))
  os.replace(partial, path)


def _batch_size(train_config, source) -> int:
  size = train_config.expected_batch_size
  if not 1 <= size <= len(source) or size != int(size):
    raise ValueError(
        "train.expected_batch_size must be an integer from 1 to the number of"
        f" examples, {len(source)}, got {size}."
    )
  return int(size)


def _batches(
    num_examples: int, run_key: Any, *, batch_size: int, num_steps: int
) -> Iterator[np.ndarray]:
  """Yields each step's indices; an epoch's last few that fill none are left."""
  rng = np.random.default_rng(run_key.child("batches").words())
  order = np.zeros(0, np.int64)
  for _ in range(num_steps):
    if len(order) < batch_size:
      order = rng.permutation(num_examples)
    batch, order = order[:batch_size], order[batch_size:]
    yield batch
