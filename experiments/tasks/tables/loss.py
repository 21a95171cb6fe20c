"""Losses of a table's row, and what a model's outputs are to them.

Invariant: a loss sees one row and no other. A loss of own code says by its
parameters what it is of: `logits` [1, num_classes] and `label`, as for images,
or `prediction` and `target`, scalars, of which the target is scaled by its
bounds to [-1, 1], and so is what the model predicts.

>>> import numpy as np
>>> logits_of(np.array([[2.0], [-1.0]])).tolist()
[[0.0, 2.0], [0.0, -1.0]]
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.tasks import imported
from jax_privacy import precision, regression_losses
from jax_privacy.data import tables as tables_lib

CLASSES = "softmax"
NAMES = (CLASSES, *regression_losses.NAMES)
# What a loss of own code takes, by name.
OWN_CLASS, OWN_NUMBER = ("logits", "label"), ("prediction", "target")


def logits_of(outputs: Any) -> Any:
  """Returns logits [n, num_classes]; one output is the second of two classes.

  Args:
    outputs: Outputs of the model, [n, num_outputs], of NumPy or of JAX.
  """
  if outputs.shape[1] > 1:
    return outputs
  xp = np if isinstance(outputs, np.ndarray) else jnp
  return xp.concatenate([xp.zeros_like(outputs), outputs], axis=1)


def of_own_code(name: str) -> tuple[Callable[..., jax.Array] | None, bool]:
  """Returns the function of own code, and whether it is a loss of classes.

  Its parameters say so: those of `losses`, or those of `regression_losses`.

  Args:
    name: Value of loss.name.

  Raises:
    ValueError: If own code is not found, or takes neither.
  """
  if not imported.is_own(name):
    return None, name == CLASSES
  find = functools.partial(
      imported.resolve,
      "loss.name",
      name,
      what="a function of logits and label, or of prediction and target",
  )
  try:
    return find(takes=OWN_CLASS), True
  except ValueError:  # Of the other kind; or the same error comes again.
    return find(takes=OWN_NUMBER), False


def class_loss(outputs: jax.Array, target: jax.Array) -> jax.Array:
  """Returns the cross-entropy of one row, in float32 at least.

  One output has the logistic loss; more have that after softmax.

  Args:
    outputs: Outputs of the model, [num_outputs].
    target: Class, an integer scalar.
  """
  outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
  if outputs.shape[0] > 1:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, target)
  label = target.astype(outputs.dtype)
  return optax.sigmoid_binary_cross_entropy(outputs[0], label)


def of_classes(
    own_loss_fn: Callable[..., jax.Array] | None,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns `loss_fn(outputs, target)` of one row's logits and class.

  Args:
    own_loss_fn: Function of own code; None for softmax.
  """
  if own_loss_fn is None:
    return class_loss
  return lambda outputs, target: own_loss_fn(
      logits=logits_of(_widened(outputs)[None]), label=target
  )


def of_numbers(
    name: str,
    own_loss_fn: Callable[..., jax.Array] | None,
    target: tables_lib.Target,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns `loss_fn(outputs, target)` of one row's prediction and number.

  Args:
    name: Name of the loss.
    own_loss_fn: Function of own code; None for the loss of that name.
    target: Column that is predicted, whose bounds scale it.
  """
  to_scale, _ = scaling(name, target)
  loss_fn = own_loss_fn or regression_losses.build(name)
  return lambda outputs, value: loss_fn(
      prediction=_widened(outputs)[0], target=to_scale(value)
  )


def _widened(outputs: jax.Array) -> jax.Array:
  return outputs.astype(precision.at_least_float32(outputs.dtype))


def squared(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Returns the squared difference of two numbers.

  Args:
    prediction: Predicted number.
    target: Number of the row, in the same units.
  """
  return jnp.square(prediction - target)


def scaling(loss_name: str, target: tables_lib.Target):
  """Returns functions between the target's units and those of the loss.

  The bounds go to -1 and 1; a count's middle goes to a rate of 1.

  Args:
    loss_name: Name of the loss.
    target: Column that is predicted, a number.
  """
  low, high = target.column.bounds
  middle, half = (low + high) / 2, (high - low) / 2
  if loss_name == "poisson":
    return (lambda y: y / middle), (lambda f: jnp.exp(f) * middle)
  return (lambda y: (y - middle) / half), (lambda f: f * half + middle)


def wrong(targets, target: tables_lib.Target, seed: int) -> np.ndarray:
  """Returns another class each, uniform; or the bound that is further away.

  Args:
    targets: Targets of some rows, [n].
    target: Column that they are of.
    seed: Seed of the choice of classes.
  """
  if target.kind == "regression":
    low, high = target.column.bounds
    is_low = targets < (low + high) / 2
    return np.where(is_low, high, low).astype(targets.dtype)
  num_classes = len(target.label_names)
  shift = np.random.default_rng(seed).integers(1, num_classes, len(targets))
  return ((targets + shift) % num_classes).astype(targets.dtype)
