"""Accuracy, overall and per class, and how unevenly it falls on the classes.

Invariant: an example is right or wrong by the place of its own class alone,
and one whose prediction is not a number is wrong.

>>> first = accuracy(np.array([0, 2, 0, 1]))  # Ranks of the right classes.
>>> print(first.value, first.standard_error)
0.5 0.25
>>> accuracy(np.array([0, 2, 0, 1]), top=2).value
0.75
>>> disparity({"cat": 0.875, "dog": 0.5}, overall=0.75)
Disparity(absolute=-0.25, relative=2.0, worst='dog', left_out=())
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.metrics import estimate as estimate_lib


class Disparity(NamedTuple):
  """How far the worst class falls behind all examples together.

  Attributes:
    absolute: Gap min(0, min over classes of (acc_c - acc)).
    relative: Ratio max(1, max over classes of (1 - acc_c) / (1 - acc)); 1 if
      acc = 1, for then no class makes an error either.
    worst: The class with the least accuracy; the first of several.
    left_out: Classes without examples.

  Source: Berrada et al. 2023 (arXiv 2308.10888).
  """

  absolute: float
  relative: float
  worst: str
  left_out: tuple[str, ...]


def ranks(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
  """Returns how many classes come before the right one.

  Args:
    labels: Integers [num_examples], in [0, num_classes).
    logits: Reals [num_examples, num_classes].

  Returns:
    int32 [num_examples]; 0 where the right class is first. Of equal logits the
    lower class comes first, as in argmax. Where one is NaN nothing was
    predicted, and the rank is num_classes: wrong at every k.
  """
  num_classes = logits.shape[1]
  right = np.take_along_axis(logits, labels[:, None], axis=1)
  is_lower = np.arange(num_classes)[None, :] < labels[:, None]
  before = (logits > right) | ((logits == right) & is_lower)
  found = before.sum(axis=1).astype(np.int32)
  found[np.isnan(logits).any(axis=1)] = num_classes
  return found


def accuracy(ranks: np.ndarray, *, top: int = 1) -> estimate_lib.Estimate:
  """Returns the share of examples whose right class is among the first `top`.

  Args:
    ranks: Ranks, as `ranks` returns them, [num_examples].
    top: Number of classes that count as right, at least 1.
  """
  return estimate_lib.mean(ranks < top, is_share=True)


def disparity(per_class: Mapping[str, float], *, overall: float) -> Disparity:
  """Returns how far the worst class falls behind.

  Args:
    per_class: Accuracy by class, NaN for a class without examples.
    overall: Accuracy on all examples.

  Raises:
    ValueError: If no class has an example.
  """
  seen = {k: v for k, v in per_class.items() if not math.isnan(v)}
  if not seen:
    raise ValueError("per_class must have a class with examples, got none.")
  worst = min(seen, key=seen.get)
  absolute = min(0.0, seen[worst] - overall)
  relative = 1.0
  if overall < 1:
    relative = max(1.0, (1 - seen[worst]) / (1 - overall))
  left_out = tuple(k for k in per_class if k not in seen)
  return Disparity(absolute, relative, worst, left_out)
