"""Trains classifiers on drawn images, and tests them on real ones.

Invariant: what can be chosen (a penalty, an epoch, the kind of classifier) is
chosen by a tenth of the drawn images, which is held out of training. Real
images are classified once, and decide nothing: a choice by real training images
would be a release, and one by test images would overstate.

>>> images = np.zeros((40, 1, 1, 1), np.uint8)
>>> images[::2] = 255
>>> one = reading.ImageSet("x", images, np.arange(40) % 2, ("a", "b"))
>>> found = accuracies(one, one, kinds=("logistic",))
>>> found["logistic"].value, found["chosen by drawn images"].value
(1.0, 1.0)
"""

import warnings
from collections.abc import Sequence

import numpy as np

from experiments.metrics import estimate as estimate_lib
from experiments.synthetic import networks, reading

KINDS = ("logistic", "mlp", "cnn", "wrn")
CHOSEN = "chosen by drawn images"
_HELD_OUT = 10  # One of ten, of each class.
_LEAST = 20
_PENALTIES = (0.01, 0.1, 1.0)
_DECAYS = (1e-4, 1e-1)


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
  """Returns kinds of classifiers, each once.

  Args:
    kinds: Names.

  Raises:
    ValueError: If one is none of `KINDS`, or there are none.
  """
  for kind in kinds:
    if kind not in KINDS:
      rule = f"among {', '.join(KINDS)}"
      raise ValueError(f"classifiers must be {rule}, got {kind!r}.")
  if not kinds:
    raise ValueError("classifiers must be one at least, got none.")
  return tuple(dict.fromkeys(kinds))


def split(drawn: reading.ImageSet) -> tuple[reading.ImageSet, reading.ImageSet]:
  """Returns the images to train on, and those that are held out.

  Args:
    drawn: Drawn images, 20 at least, of two classes at least.

  Raises:
    ValueError: If there are fewer.
  """
  if len(drawn.labels) < _LEAST or len(np.unique(drawn.labels)) < 2:
    raise ValueError(
        f"synthetic must have {_LEAST} images or more, of two classes or more,"
        f" got {len(drawn.labels)} of {len(np.unique(drawn.labels))}."
    )
  order = np.argsort(drawn.labels, kind="stable")
  is_held_out = np.arange(len(order)) % _HELD_OUT == _HELD_OUT - 1
  return drawn.rows(order[~is_held_out]), drawn.rows(order[is_held_out])


def accuracies(
    drawn: reading.ImageSet,
    real: reading.ImageSet,
    *,
    kinds: Sequence[str] = ("logistic", "mlp", "cnn"),
    seed: int = 0,
    num_epochs: int = 50,
) -> dict[str, estimate_lib.Estimate]:
  """Returns accuracies on real images, by kind of classifier, and the chosen.

  Args:
    drawn: Images to train on.
    real: Images to test on.
    kinds: Kinds of classifiers, of `KINDS`.
    seed: Seed of training.
    num_epochs: Number of epochs of networks.

  Raises:
    ValueError: If there are too few images, or a kind is none.
  """
  train, held_out = split(drawn)
  found, best = {}, (-1.0, "")
  for kind in check_kinds(kinds):
    fitted = _fit(kind, train, held_out, seed=seed, num_epochs=num_epochs)
    is_right = fitted.classes_fn(real.images) == real.labels
    found[kind] = estimate_lib.mean(is_right, is_share=True)
    if fitted.held_out > best[0]:
      best = fitted.held_out, kind
  return found | {CHOSEN: found[best[1]]}


def _fit(kind, train, held_out, *, seed, num_epochs) -> networks.Fitted:
  if kind in ("cnn", "wrn"):
    return networks.fit(kind, train, held_out, seed=seed, num_epochs=num_epochs)
  best = None
  for classifier, choice in _candidates(kind, seed):
    with warnings.catch_warnings():
      # Not at its optimum it is a classifier too.
      warnings.simplefilter("ignore")
      classifier.fit(_flat(train.images), train.labels)
    accuracy = classifier.score(_flat(held_out.images), held_out.labels)
    if best is None or accuracy > best.held_out:
      best = networks.Fitted(_classes_fn(classifier), accuracy, choice)
  return best


def _classes_fn(classifier):
  return lambda images: classifier.predict(_flat(images))


def _candidates(kind: str, seed: int):
  """Yields scikit-learn's classifiers, and what sets each apart."""
  from sklearn import linear_model, neural_network

  if kind == "logistic":
    for penalty in _PENALTIES:
      yield linear_model.LogisticRegression(C=penalty), f"C={penalty}"
  else:
    for decay in _DECAYS:
      yield (
          neural_network.MLPClassifier((100,), alpha=decay, random_state=seed),
          f"alpha={decay}",
      )


def _flat(images: np.ndarray) -> np.ndarray:
  return images.reshape(len(images), -1) / 127.5 - 1.0
