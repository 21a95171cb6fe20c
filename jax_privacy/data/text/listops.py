"""ListOps: nested operations on digits, and their value, made on the fly.

Invariant: a split is a pure function of its name and of the options. The
expression is the context, and the value, a digit, is what is learnt: next-token
accuracy is then the share of expressions that were computed right.

>>> value_of("[MAX 4 [MIN 7 2 ] [SM 6 5 ] 3 ]".split())
4
>>> source = load_listops(length=16, num_examples=3)
>>> batch = source[np.array([0])]
>>> source.tokeniser.decode(batch["tokens"][0])
'[MIN 2 4 5 ] 2'
>>> (batch["num_tokens"] - batch["num_context"]).tolist()
[1]
"""

from collections.abc import Sequence

import numpy as np

from jax_privacy import _validate
from jax_privacy.data import source as source_lib
from jax_privacy.data.text import source as text_source
from jax_privacy.data.text import tokenisers

_OPERATIONS = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(np.median(values)),
    "[SM": lambda values: sum(values) % 10,
}
_WORDS = (*map(str, range(10)), *_OPERATIONS, "]")
# How often an argument is an operation, where depth allows it.
_NESTED = 0.25
_LEAST_LENGTH = 5  # An operation, two digits, its end, and the value.
_NUM_TEST = 512


def value_of(words: Sequence[str]) -> int:
  """Returns the value of an expression, a digit.

  Args:
    words: Words of the expression.

  Source: Nangia and Bowman 2018 (arXiv 1804.06028); SM is the sum modulo 10,
  and MED the median, rounded down.
  """
  stack: list[list] = [[]]
  for word in words:
    if word == "]":
      operation, *values = stack.pop()
      stack[-1].append(_OPERATIONS[operation](values))
    elif word in _OPERATIONS:
      stack.append([word])
    else:
      stack[-1].append(int(word))
  return stack[0][0]


def load_listops(
    *,
    split: str = "train",
    length: int = 64,
    max_depth: int = 4,
    max_arguments: int = 5,
    num_examples: int | None = None,
) -> text_source.TextSource:
  """Makes expressions with their values.

  Args:
    split: Name of the split, "train" or "test", of other expressions.
    length: Number of tokens of an expression and its value, at most.
    max_depth: Number of operations inside one another, at most.
    max_arguments: Number of arguments of an operation, at most; 2 at least.
    num_examples: Number of expressions of "train", 1024 by default; of "test"
      there are 512.

  Returns:
    The source.

  Raises:
    ValueError: If an option breaks its rule.
  """
  split = source_lib.check_split(split)
  for name, value, least in (
      ("length", length, _LEAST_LENGTH),
      ("max_depth", max_depth, 1),
      ("max_arguments", max_arguments, 2),
  ):
    _validate.integer(name, value, at_least=least)
  num_examples = 1024 if num_examples is None else num_examples
  _validate.integer("num_examples", num_examples, at_least=1)
  if split == "test":
    num_examples = _NUM_TEST
  tokeniser = tokenisers.Words(_WORDS)
  rng = np.random.default_rng(
      [split == "test", length, max_depth, max_arguments]
  )
  tokens = np.full((num_examples, length + 1), tokeniser.boundary, np.int32)
  sizes = np.zeros(num_examples, np.int32)
  for i in range(num_examples):
    words = _expression(rng, length - 1, max_depth, max_arguments)
    words.append(str(value_of(words)))
    sizes[i] = len(words)
    tokens[i, 1 : len(words) + 1] = tokeniser.encode(" ".join(words))[0]
  return text_source.TextSource(
      {
          "tokens": tokens,
          "num_tokens": sizes,
          "num_context": sizes - 1,
          "num_bytes": np.ones(num_examples, np.int32),
          "document": np.arange(num_examples, dtype=np.int32),
      },
      tokeniser=tokeniser,
      packing="truncate",
      num_examples=num_examples,
  )


def _expression(rng, room: int, depth: int, max_arguments: int) -> list[str]:
  """Draws an expression of at most `room` words, 4 or more."""
  words = [list(_OPERATIONS)[rng.integers(len(_OPERATIONS))]]
  room -= 2  # Of the operation and its end.
  wanted = int(rng.integers(2, max_arguments + 1))
  for i in range(wanted):
    # A word is kept for the second argument, without which there is none.
    free = room - (1 if i == 0 else 0)
    if free < 1:
      break
    if depth > 1 and free >= 4 and rng.random() < _NESTED:
      inner = _expression(rng, free, depth - 1, max_arguments)
    else:
      inner = [str(rng.integers(10))]
    words += inner
    room -= len(inner)
  return [*words, "]"]
