"""Which canaries are in: a fair coin for each, thrown once before the run.

Canaries are examples num_examples, num_examples + 1, ... of a data set that is
that much longer: the run's own sampler, bound to `total_examples`, draws them
like any other example, and so it is audited too. A canary that is out is drawn
and then dropped, which under Poisson sampling is the same as its not being
there. (A sampler of fixed size keeps its place: that audits the relation
"replaced by nothing", not add-or-remove. A truncated batch keeps its place too,
which accounting for add-or-remove does not describe: do not audit one so.)

Invariant: coins are a pure function of the seed, fair and independent, and are
independent of anything else that is made from the same integer.

Example:
  >>> import numpy as np
  >>> from jax_privacy import auditing
  >>> membership = auditing.throw_coins(6, num_examples=100, seed=0)
  >>> membership.included
  array([False, False,  True,  True, False,  True])
  >>> examples, selected = membership.split_batch(np.array([7, 100, 102, -1]))
  >>> print(examples, selected)
  [ 7 -1 -1 -1] [False False  True False False False]
"""

import dataclasses
from typing import Any

import numpy as np

from jax_privacy import _validate

# "canary", so that a sampler seeded with the same integer shares no draw.
_STREAM = 0x63616E617279


@dataclasses.dataclass(frozen=True, eq=False)
class Membership:
  """The record of who is in. It is the audit's secret until the run is over.

  Attributes:
    included: Whether each canary is in, bool [num_canaries].
    num_examples: Stated number of real examples: the first canary's index.
  """

  included: np.ndarray
  num_examples: int

  def __post_init__(self):
    _validate.integer("num_examples", self.num_examples, at_least=0)
    included = np.array(self.included)  # A copy, which nobody can change.
    if included.dtype != bool or included.ndim != 1 or not included.size:
      rule = "a one-dimensional bool array of at least one canary"
      _validate.fail("included", rule, f"{included.dtype} {included.shape}")
    included.flags.writeable = False
    object.__setattr__(self, "included", included)

  @property
  def num_canaries(self) -> int:
    """Number of canaries, in and out."""
    return len(self.included)

  @property
  def total_examples(self) -> int:
    """Number of real examples and canaries: bind the sampler to it."""
    return self.num_examples + self.num_canaries

  def split_batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Takes the canaries out of a batch: for gradient-space canaries.

    Args:
      indices: Indices of a batch, int [size]; -1 is padding.

    Returns:
      The indices with -1 where there was any canary, [size], and whether each
      canary takes part in this step (drawn and in), bool [num_canaries]. For a
      batch in several pieces, a canary takes part in one of them: OR them.

    Raises:
      ValueError: If an index is out of range, or a canary is there twice.
    """
    indices, is_canary = self._checked(indices)
    drawn = indices[is_canary] - self.num_examples
    if len(np.unique(drawn)) < len(drawn):
      _validate.fail("indices", "without a canary drawn twice", drawn.tolist())
    selected = np.zeros(self.num_canaries, bool)
    selected[drawn] = self.included[drawn]
    return np.where(is_canary, -1, indices).astype(indices.dtype), selected

  def drop_excluded(self, indices: np.ndarray) -> np.ndarray:
    """Turns the canaries that are out into padding: for input-space canaries.

    Args:
      indices: Indices of a batch, int [size]; -1 is padding.

    Returns:
      The indices with -1 where a canary is out, [size].

    Raises:
      ValueError: If an index is out of range.
    """
    indices, is_canary = self._checked(indices)
    which = np.where(is_canary, indices - self.num_examples, 0)
    out = is_canary & ~self.included[which]
    return np.where(out, -1, indices).astype(indices.dtype)

  def of_copies(self, num_copies: int) -> "Membership":
    """Returns who is in where each canary is there several times.

    Copy c of canary j is example num_examples + j num_copies + c; all copies of
    a canary are in, or all are out.

    Args:
      num_copies: Number of copies of each canary, at least 1.

    Raises:
      ValueError: If it is another number.
    """
    num_copies = _validate.integer("num_copies", num_copies, at_least=1)
    included = np.repeat(self.included, num_copies)
    return Membership(included, self.num_examples)

  def split_scores(self, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scores of canaries in, and of canaries out.

    Args:
      scores: Scores of all canaries, [num_canaries].

    Raises:
      ValueError: If there is not one score per canary.
    """
    scores = np.asarray(scores)
    if scores.shape != self.included.shape:
      _validate.fail("scores", f"of shape {self.included.shape}", scores.shape)
    return scores[self.included], scores[~self.included]

  def to_dict(self) -> dict[str, Any]:
    """Returns what JSON can hold: 1 for in, 0 for out, by canary."""
    return {
        "num_examples": self.num_examples,
        "included": self.included.astype(int).tolist(),
    }

  @classmethod
  def from_dict(cls, record: dict[str, Any]) -> "Membership":
    """Returns the membership that `to_dict` was called on.

    Args:
      record: Dict of `to_dict`, which anyone may have written.

    Raises:
      ValueError: If the record is not one that `to_dict` makes.
    """
    if set(record) != {"num_examples", "included"}:
      rule = "one with num_examples and included, no more"
      _validate.fail("record", rule, sorted(record))
    coins = record["included"]
    is_list = isinstance(coins, list)
    if not is_list or not all(type(c) is int and c in (0, 1) for c in coins):
      _validate.fail("included", "a list of 0s and 1s", coins)
    return cls(np.array(coins, bool), record["num_examples"])

  def _checked(self, indices):
    indices = np.asarray(indices)
    signed = np.issubdtype(indices.dtype, np.signedinteger)
    if indices.ndim != 1 or not signed:
      got = f"{indices.dtype} {indices.shape}"
      _validate.fail("indices", "one-dimensional signed integers", got)
    bad = indices[(indices < -1) | (indices >= self.total_examples)]
    if bad.size:
      _validate.fail("indices", f"in [-1, {self.total_examples})", int(bad[0]))
    return indices, indices >= self.num_examples


def throw_coins(
    num_canaries: int, *, num_examples: int, seed: int
) -> Membership:
  """Puts each canary in with probability 1/2.

  Args:
    num_canaries: Number of canaries, at least 1.
    num_examples: Stated number of real examples.
    seed: Whole number; keep it from whoever makes the scores.

  Returns:
    The record.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  num_canaries = _validate.integer("num_canaries", num_canaries, at_least=1)
  seed = _validate.integer("seed", seed, at_least=0)
  entropy = np.random.SeedSequence(seed, spawn_key=(_STREAM,))
  bits = np.random.default_rng(entropy).integers(2, size=num_canaries)
  return Membership(bits.astype(bool), num_examples)
