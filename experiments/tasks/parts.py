"""What a task's methods take and give: sources, models, predictions, tables.

Invariant: an example is any pytree of NumPy arrays, and a batch is the same
pytree with a leading axis.

>>> import numpy as np
>>> class Numbers:  # A `Source`: these four members are enough.
...   num_examples = 3
...   def __len__(self):
...     return 3
...   def __getitem__(self, indices):
...     x = np.array([0.5, 1.5, 2.5, 0.0], np.float32)  # The last is padding.
...     return {"x": x[indices]}
>>> source = Numbers()
>>> source[np.array([2, -1])]["x"].tolist()
[2.5, 0.0]
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from experiments.metrics import estimate as estimate_lib

Batch = Any
"""A pytree of arrays, all with the same leading axis: the examples."""


class Source(Protocol):
  """Examples with random access.

  It may also have `in_memory`, whether reading decodes nothing (False if it is
  not there); and `groups`, columns of people's groups by name, as
  `jax_privacy.data.Group`, which evaluation alone reads. With
  `column(name)`, which gives [len(self)] values such as whose each row is, it
  can be trained on with a `data.unit`; see `experiments.plan.units`.

  For worker processes (`data.num_workers`) it must be picklable.
  """

  @property
  def num_examples(self) -> int:
    """The STATED, public number of examples, which accounting uses.

    Raises:
      ValueError: If none was stated.
    """

  def __len__(self) -> int:
    """The number of examples there really are, at least 1: private."""

  def __getitem__(self, indices: np.ndarray) -> Batch:
    """Returns the examples at a 1-D array of integers.

    Index -1 is padding: an example of the same shapes and dtypes that depends
    on no record; its loss is finite. Any other index out of range is an
    IndexError. Example i is the same bits on every read.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """What is trained.

  Attributes:
    params: Initial parameters: nested dicts, of strings, of float arrays.
    loss_fn: `loss_fn(params, example, key)`, a scalar: the loss of ONE example,
      without a batch axis, given a key for its views and its dropout. It sees
      no other example, which is what the guarantee rests on.
  """

  params: Any
  loss_fn: Callable[[Any, Any, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictor:
  """What evaluation, and whoever uses a saved run, computes.

  Attributes:
    params: Those that it takes: nested dicts of `jax.ShapeDtypeStruct`, or of
      arrays. Structure, shapes and dtypes are those of `Model.params`.
    predict_fn: `predict_fn(params, batch)`, the outputs for a batch: any pytree
      of arrays with the batch's leading axis. Row i depends on example i alone,
      and on none of its targets. It draws nothing at random.
  """

  params: Any
  predict_fn: Callable[[Any, Batch], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
  """A predictor for other programs, with what is done to an input before it.

  Attributes:
    inputs: One input: a pytree of arrays with a leading axis of 1, of which
      shapes and dtypes count.
    predict_fn: `predict_fn(params, inputs)`, the outputs, with the inputs'
      leading axis.
    interface: Meaning of these inputs and outputs, for JSON, in place of
      `Task.interface`.
  """

  inputs: Batch
  predict_fn: Callable[[Any, Batch], Any]
  interface: Mapping[str, Any]


class InputCanaries(NamedTuple):
  """Odd examples that a model learns only by heart, for an audit.

  Attributes:
    rows: A batch of them, with the shapes and dtypes of the training examples.
    losses_fn: `losses_fn(params, batch)`, each example's loss as an attacker
      computes it, [n]: without views or dropout.
    references: A batch of rows that were drawn as the canaries were, and that
      are in no data set; None for none.
  """

  rows: Batch
  losses_fn: Callable[[Any, Batch], jax.Array]
  references: Batch | None = None


class Generator(NamedTuple):
  """What writes text, one token after the other.

  Attributes:
    tokeniser: Tokeniser with `encode`, `decode` and `boundary`, as of
      `jax_privacy.data.text`.
    cache_fn: `cache_fn(params, num_sequences, length)`, an empty cache.
    decode_fn: `decode_fn(params, tokens, cache)`, the logits [n, t, vocabulary]
      of the token that follows each of tokens [n, t], and the next cache.
  """

  tokeniser: Any
  cache_fn: Callable[[Any, int, int], Any]
  decode_fn: Callable[[Any, jax.Array, Any], tuple[jax.Array, Any]]


class ImageGenerator(NamedTuple):
  """What draws images, by taking noise away.

  Attributes:
    shape: Height, width and channels.
    names: Names of the classes, in their order.
    denoise_fn: `denoise_fn(params, noisy, sigma, labels)`, the images without
      noise, of noisy ones [n, *shape], noise levels [n] and classes [n];
      len(names) is "no class".
    pixels_fn: `pixels_fn(images)`, their pixels, uint8.
  """

  shape: tuple[int, int, int]
  names: tuple[str, ...]
  denoise_fn: Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]
  pixels_fn: Callable[[Any], np.ndarray]


class Section(NamedTuple):
  """Numbers of one kind, as a table of them is printed.

  Attributes:
    title: Text: "overall"; what the rows are ("class", "label"); or a column of
      groups.
    rows: Estimates by name.
    facts: Values that follow from them, for JSON: numbers, and names of rows.
    lines: The same facts in words, one a line.
    notes: Texts that a reader of the rows must know.
  """

  title: str
  rows: dict[str, estimate_lib.Estimate]
  facts: dict[str, float | str | None] = {}
  lines: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()


def left_out(rows: Mapping[str, estimate_lib.Estimate]) -> tuple[str, ...]:
  """Returns the note of rows that are undefined, for `Section.notes`.

  Args:
    rows: Estimates by name of the row.
  """
  names = [name for name, row in rows.items() if row.why_undefined]
  return (f"left out: {', '.join(names)}",) if names else ()


def take(tree: Any, rows: np.ndarray) -> Any:
  """Returns these rows of every array of a pytree, NumPy's.

  Args:
    tree: Pytree of arrays [num_examples, ...].
    rows: Indices of the examples, [n].
  """
  return jax.tree.map(lambda array: array[rows], tree)
