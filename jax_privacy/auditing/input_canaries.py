"""Input-space canaries: odd examples that a model learns only by heart.

They follow the real examples of a data set, at the indices that `Membership`
gives them, and go through the whole pipeline: augmentation, loss, clipping. The
batches of `mislabelled` and `random_images` are dicts of NumPy arrays with
"image" and "label"; `read` takes any pytree.

Invariant: canary j is the same example whenever it is read, in or out.

Example:
  >>> import numpy as np
  >>> from jax_privacy.auditing import input_canaries
  >>> batch = {"image": np.zeros((4, 2, 2, 1), np.uint8),
  ...          "label": np.array([0, 1, 2, 3], np.int32)}
  >>> canaries = input_canaries.mislabelled(batch, num_classes=10, seed=0)
  >>> bool((canaries["label"] != batch["label"]).all())
  True
"""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np

from jax_privacy import _validate

Batch = Mapping[str, np.ndarray]


class SourceLike(Protocol):
  """A data set that is read by indices."""

  def __getitem__(self, indices: np.ndarray) -> Any:
    """Returns the examples at these indices, of which -1 is padding."""


def mislabelled(
    batch: Batch, *, num_classes: int, seed: int
) -> dict[str, np.ndarray]:
  """Returns the examples with wrong labels, uniform over the other classes.

  Args:
    batch: Examples that are NOT in the training set. If the training set holds
      one with its correct label too, it is harder to learn, and the audit
      weaker.
    num_classes: Number of classes, at least 2.
    seed: Whole number.

  Raises:
    ValueError: If an argument breaks its rule, or a label is out of range.
  """
  num_classes = _validate.integer("num_classes", num_classes, at_least=2)
  seed = _validate.integer("seed", seed, at_least=0)
  labels = np.asarray(batch["label"])
  if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
    got = f"{labels.min()} to {labels.max()}"
    _validate.fail("label", f"in [0, {num_classes})", got)
  shift = np.random.default_rng(seed).integers(1, num_classes, labels.shape)
  wrong = ((labels + shift) % num_classes).astype(labels.dtype)
  return {**batch, "label": wrong}


def random_images(
    num_canaries: int,
    *,
    image_shape: tuple[int, ...],
    num_classes: int,
    seed: int,
) -> dict[str, np.ndarray]:
  """Returns images of independent uniform bytes with random labels.

  Args:
    num_canaries: Number of canaries, at least 1.
    image_shape: Height, width and channels.
    num_classes: Number of classes, at least 1.
    seed: Whole number.

  Returns:
    {"image": uint8 [num_canaries, *image_shape], "label": int32
    [num_canaries]}.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  num_canaries = _validate.integer("num_canaries", num_canaries, at_least=1)
  num_classes = _validate.integer("num_classes", num_classes, at_least=1)
  seed = _validate.integer("seed", seed, at_least=0)
  rng = np.random.default_rng(seed)
  shape = (num_canaries, *image_shape)
  return {
      "image": rng.integers(256, size=shape, dtype=np.uint8),
      "label": rng.integers(num_classes, size=num_canaries, dtype=np.int32),
  }


def read(
    source: SourceLike,
    canaries: Any,
    *,
    num_examples: int,
    indices: np.ndarray,
) -> Any:
  """Reads a batch of real examples and canaries.

  Args:
    source: The real examples.
    canaries: The canaries, a batch as the source gives it; canary j has the
      index num_examples + j.
    num_examples: Stated number of real examples.
    indices: Indices, int [size]; -1 is padding. Pass what
      `Membership.drop_excluded` returns: this reads every canary it is asked
      for.

  Returns:
    A batch of `size` rows.

  Raises:
    ValueError: If an index is beyond the canaries, or the two kinds of rows
      differ in shape or dtype.
  """
  indices = np.asarray(indices)
  is_canary = indices >= num_examples
  which = indices[is_canary] - num_examples
  num_canaries = len(jax.tree.leaves(canaries)[0])
  if which.size and which.max() >= num_canaries:
    rule = f"below {num_examples + num_canaries}"
    _validate.fail("indices", rule, int(indices.max()))
  real = source[np.where(is_canary, -1, indices).astype(indices.dtype)]

  def put(path, rows, ours):
    rows, ours = np.array(rows), np.asarray(ours)  # A copy, not a view.
    if ours.dtype != rows.dtype or ours.shape[1:] != rows.shape[1:]:
      rule = f"{rows.dtype} rows of shape {rows.shape[1:]}, as the source's"
      got = f"{ours.dtype} {ours.shape[1:]}"
      _validate.fail(f"canaries{jax.tree_util.keystr(path)}", rule, got)
    rows[is_canary] = ours[which]
    return rows

  return jax.tree_util.tree_map_with_path(put, real, canaries)
