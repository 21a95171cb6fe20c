"""Random strings that an audit inserts into text.

Invariant: strings are drawn alike, each by itself: uniform tokens of the
vocabulary, and never the boundary. A string is alone in its sequence.

>>> from jax_privacy.data import text
>>> source = text.load("copy", num_symbols=3, length=6, num_examples=4)
>>> rows = draw(source, num_rows=2, num_tokens=4, seed=0)
>>> rows["tokens"].tolist()
[[3, 2, 1, 1, 0, 3, 3], [3, 0, 0, 0, 0, 3, 3]]
>>> rows["num_tokens"].tolist()
[4, 4]
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.tasks import task as task_lib
from jax_privacy.data import text as text_lib

# Of a string: as long as a password or a card's number.
NUM_TOKENS = 16


def check_lengths(
    train_source: text_lib.TextSource, test_source: text_lib.TextSource
) -> None:
  """Checks that a predictor of the test split can score what is trained on.

  Args:
    train_source: The training split.
    test_source: The test split, loaded for evaluation.

  Raises:
    ValueError: If their sequences have other lengths.
  """
  if test_source.length != train_source.length:
    raise ValueError(
        "data.test_options must leave the training split's length for 'input'"
        f" and 'text' canaries, {train_source.length}, got"
        f" {test_source.length}."
    )


def draw(
    source: text_lib.TextSource, *, num_rows: int, num_tokens: int, seed: int
) -> dict[str, np.ndarray]:
  """Returns sequences of random tokens.

  Args:
    source: Source whose shapes, dtypes and vocabulary they have.
    num_rows: Number of sequences.
    num_tokens: Number of tokens of each, at most the source's length.
    seed: Seed of the tokens.
  """
  tokeniser = source.tokeniser
  rows = dict(source[np.full(num_rows, -1)])
  drawn = np.random.default_rng(seed).integers(
      0, tokeniser.vocabulary_size - 1, (num_rows, num_tokens)
  )
  # A file's boundary may be any of its tokens.
  drawn += drawn >= tokeniser.boundary
  rows["tokens"][:, 1 : num_tokens + 1] = drawn
  rows["num_tokens"][:] = num_tokens
  return rows


def losses_fn(predictor: task_lib.Predictor) -> Callable[[Any, Any], Any]:
  """Returns a function of parameters and a batch: -log p of each, in nats.

  Args:
    predictor: Predictor of the task.
  """
  return lambda params, batch: predictor.predict_fn(params, batch)["nll"]
