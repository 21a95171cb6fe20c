"""Accuracy of saved parameters on a split, overall and per class."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _model
from jax_privacy import batch_selection, data


class Accuracy(NamedTuple):
  """Fractions of examples classified right.

  Attributes:
    num_examples: How many were looked at.
    overall: Over all examples.
    per_class: By label name; NaN for a class without examples.
  """

  num_examples: int
  overall: float
  per_class: dict[str, float]


def evaluate(
    model: _model.Model,
    params: Any,
    source: data.Source,
    *,
    batch_size: int,
    num_examples: int | None = None,
) -> Accuracy:
  """Classifies the examples of a source.

  Args:
    model: See `_model.Model`.
    params: Parameters to use.
    source: Examples.
    batch_size: Examples at a time; the last batch is padded.
    num_examples: How many to look at, evenly spaced, since files are often
      sorted by class; None for all.

  Returns:
    The accuracy.
  """

  @jax.jit
  def predict(params, images):
    logits = model.apply_fn(params, model.standardise_fn(images))
    return jnp.argmax(logits, axis=-1)

  num_examples = min(num_examples or len(source), len(source))
  batch_size = min(batch_size, num_examples)
  num_right = np.zeros(source.num_classes)
  num_seen = np.zeros(source.num_classes)
  chosen = np.arange(num_examples) * len(source) // num_examples
  chosen = batch_selection.pad_to_multiple_of(chosen, batch_size)
  for indices in chosen.reshape(-1, batch_size):
    batch = source[indices]
    is_real = indices >= 0
    labels = batch["label"][is_real]
    right = np.asarray(predict(params, batch["image"]))[is_real] == labels
    np.add.at(num_right, labels, right)
    np.add.at(num_seen, labels, 1)
  with np.errstate(invalid="ignore"):
    per_class = num_right / num_seen
  return Accuracy(
      num_examples=num_examples,
      overall=float(num_right.sum() / num_seen.sum()),
      per_class=dict(zip(source.label_names, per_class.tolist(), strict=True)),
  )
