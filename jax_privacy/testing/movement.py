"""Replays a clipped gradient on neighbouring batches, to test its sensitivity.

The invariant: a report is returned only if no batch that was tried moved the
sum by more than `.sensitivity()`, whatever the neighbouring relation.

Example:
  >>> import jax.numpy as jnp
  >>> import jax_privacy
  >>> from jax_privacy import testing
  >>> loss_fn = lambda w, batch: jnp.mean((batch["x"] @ w - batch["y"]) ** 2)
  >>> grad_fn = jax_privacy.clipped_grad(loss_fn, l2_clip_norm=0.5)
  >>> batch = {"x": jnp.eye(3), "y": jnp.array([1.0, -2.0, 3.0])}
  >>> report = testing.check_sensitivity(grad_fn, jnp.zeros(3), batch)
  >>> print({name: round(m, 3) for name, m in report.movements.items()})
  {'add_or_remove_one': 0.5, 'replace_special': 0.5, 'replace_one': 1.0}
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import _validate, arguments
from jax_privacy.testing import control_flow, neighbours
from jax_privacy.testing.errors import SensitivityError

_REMOVE, _ZERO_OUT, _REPLACE = (
    "add_or_remove_one",
    "replace_special",
    "replace_one",
)
_HUGE = 1e10
# A movement is none below this part of the bound.
_VACUOUS = 1e-9


@dataclasses.dataclass(frozen=True)
class SensitivityReport:
  """Result of a sensitivity check that passed.

  PRIVATE, not for release: movements are functions of the data.

  Attributes:
    bounds: Claimed L2 sensitivity, by neighbouring relation.
    movements: Largest L2 movement of the sum that was seen, by relation.
    worst: Description of the neighbours that moved it that far, by relation.
    tolerance: Amount by which a movement may exceed its bound, for rounding.
    num_batches: Number of batches that were run.
    padding_branches: Control flow that depends on `is_padding_example`; see
      `check_sensitivity`.
  """

  bounds: Mapping[str, float]
  movements: Mapping[str, float]
  worst: Mapping[str, str]
  tolerance: float
  num_batches: int
  padding_branches: tuple[str, ...]


def check_sensitivity(
    grad_fn: Callable[..., Any],
    params: Any,
    *batch: Any,
    unbatched: Sequence[int] = (),
    max_examples: int = 8,
) -> SensitivityReport:
  """Checks that one example moves the sum by no more than is claimed.

  Runs, with the same randomness: the batch with each example removed (marked as
  padding, and really dropped), and replaced by each other one, by itself scaled
  (from 1e-30 to 1e30, negated, zeroed) and by NaN and infinities, an array at a
  time and all together; and batches of copies of one example, of one against
  copies of its most opposite, all huge, and all but one NaN. Also checks that
  examples do not influence each other: the sum over the batch is the sum of
  what each adds when all other rows are copies of it, and padded.

  Args:
    grad_fn: Function of `clipped_grad`, or any other with `.sensitivity(
      neighboring_relation)` that is called `(params, *batch,
      is_padding_example=mask)` and returns a pytree of sums, or `(sums, aux)`
      if it has a true `has_aux`. Must be traceable.
    params: First argument of `grad_fn`.
    *batch: Other arguments of `grad_fn`: pytrees of arrays [batch_size, ...] of
      real, valid examples. Arrays of PRNG keys are not changed by replacements.
    unbatched: Positions in `batch` of arguments that have no batch axis, such
      as the one key of a `prng_argnum` without `keys_by_example`.
    max_examples: Number of examples to use, the first ones; at least 2. For
      each, 33 batches of that size are run for every floating-point array, and
      33 for all of them together.

  Returns:
    A `SensitivityReport`.

  Raises:
    SensitivityError: If a sum moves too far, or is not float32 at least; if
      output shapes, or control flow, depend on examples; if examples influence
      each other. The text names relation, example, movement and bound.
    ValueError: If an argument breaks its rule.

  Guarantee: Failing proves a fault of `grad_fn`, or of its `.sensitivity()`, up
    to the tolerance. Passing proves the shapes, and that no `cond` or `while`
    depends on examples' values, for batches of this shape; for movements it is
    evidence on the batches tried and not a proof for all. Aux is not checked:
    it carries no guarantee. Control flow may depend on which rows are padding,
    since `clipped_grad` skips microbatches of padding only: time then reveals
    the realised batch size, and the report says where.
  """
  _validate.integer("max_examples", max_examples, at_least=2)
  replay = _Replay(grad_fn, params, batch, unbatched, max_examples)
  branches = replay.check_program()
  contributions = replay.check_additivity()
  for row in range(replay.size):
    replay.check_row(row)
  replay.check_adversarial_batches(contributions)
  replay.check_not_vacuous()
  return SensitivityReport(
      bounds=replay.bounds,
      movements=replay.movements,
      worst=replay.worst,
      tolerance=replay.tolerance,
      num_batches=replay.num_batches,
      padding_branches=branches,
  )


class _Replay:
  """Runs batches, and compares what comes out."""

  def __init__(self, grad_fn, params, batch, unbatched, max_examples):
    self._grad_fn, self._params, self._args = grad_fn, params, batch
    self._batched = [i for i in range(len(batch)) if i not in unbatched]
    if params is None:
      _validate.fail("params", "what grad_fn differentiates", None)
    rows = tuple(batch[i] for i in self._batched)
    size = arguments.batch_size(batch, self._batched)
    if size < 2:
      rule = "arrays with one leading size of at least 2"
      _validate.fail("batch", rule, size)
    self.size = min(max_examples, size)
    self._batch = neighbours.take(rows, range(self.size))
    self._nobody = np.zeros(self.size, bool)
    relations = [_REMOVE, _ZERO_OUT, _REPLACE]
    if getattr(grad_fn, "keys_by_position", False):
      relations.remove(_REMOVE)  # No bound is claimed.
    self._one_share = [r for r in relations if r != _REPLACE]
    self.bounds = {
        r: _validate.positive(f"sensitivity({r!r})", grad_fn.sensitivity(r))
        for r in relations
    }
    # A sum of n float32 terms of norm at most C is off by at most depth x eps
    # x n C, whatever the order, where depth is the number of additions that a
    # term goes through: n at most over examples, and 64 more are allowed for a
    # blocked sum within an example. Two sums are compared, hence 2. For n = 8
    # that is 1.4e-4 of C.
    eps = float(np.finfo(np.float32).eps)
    n = self.size
    self.tolerance = 2 * (n + 64) * eps * n * self.bounds[_ZERO_OUT]
    self.movements = dict.fromkeys(relations, 0.0)
    self.worst = dict.fromkeys(relations, "none moved it")
    self.num_batches = 0
    self._jitted = jax.jit(self._traceable)

  def _traceable(self, params, rows, is_padding):
    """The sums for the batched arguments `rows`."""
    args = list(self._args)
    for i, arg in zip(self._batched, rows, strict=True):
      args[i] = arg
    out = self._grad_fn(params, *args, is_padding_example=is_padding)
    return out[0] if getattr(self._grad_fn, "has_aux", False) else out

  def _sum(self, batch, is_padding):
    """The sums as one float64 vector."""
    self.num_batches += 1
    total = self._jitted(self._params, batch, is_padding)
    leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(total)]
    return np.concatenate(leaves)

  def check_program(self):
    """Checks shapes, dtypes, control flow and repeatability."""
    branches = control_flow.find_branches(
        self._traceable, self._params, self._batch, self._nobody
    )
    if branches.data:
      raise SensitivityError(
          "Control flow depends on examples' values, in"
          f" {', '.join(branches.data)}: time and memory reveal them. Use"
          " jnp.where, or loops of a fixed length."
      )
    self._check_shapes()
    first = self._mask([0])
    variants = [("the batch", self._batch, self._nobody)]
    variants.append(("the batch with example 0 padded", self._batch, first))
    for value in (0.0, np.nan, _HUGE):
      filled = neighbours.fill(self._batch, first, value)
      name = f"the batch with example 0 at {value:g}"
      variants.append((name, filled, self._nobody))
    # As a function that is not jitted meets them: JAX's arrays.
    variants = [(n, jax.tree.map(jnp.asarray, b), m) for n, b, m in variants]
    control_flow.check_same_program(self._traceable, self._params, variants)
    a, b = (self._sum(self._batch, self._nobody) for _ in range(2))
    if not _distance(a, b) <= self.tolerance:
      raise SensitivityError(
          "Two runs on one batch differ: randomness must come from the"
          " arguments, or neighbours cannot be compared."
      )
    return branches.padding

  def _check_shapes(self):
    shapes = [
        jax.eval_shape(
            self._jitted,  # Which keeps the trace.
            self._params,
            neighbours.take(self._batch, range(size)),
            jax.ShapeDtypeStruct((size,), bool),
        )
        for size in (self.size, self.size - 1)
    ]
    if not _same_shapes(*shapes):
      raise SensitivityError(
          "The output's shapes depend on the batch size: a batch without its"
          f" last example gives {shapes[1]}, not {shapes[0]}."
      )
    on_grid = getattr(self._grad_fn, "grid_step", None) is not None
    allowed = (jnp.int32,) if on_grid else (jnp.float32, jnp.float64)
    for leaf in jax.tree.leaves(shapes[0]):
      if leaf.dtype not in allowed:
        raise SensitivityError(
            "Sums must be float32 or float64 (int32 on a grid): a shorter one's"
            f" rounding alone can exceed the sensitivity, got {leaf.dtype}."
        )

  def check_additivity(self):
    """Checks that examples do not meet; returns what each adds, [n, D]."""
    contributions = []
    for row in range(self.size):
      others = ~self._mask([row])
      copies = neighbours.take(self._batch, [row] * self.size)
      alone = self._sum(copies, others)
      among_nan = neighbours.fill(copies, others, np.nan)
      for name, batch in (("NaN", among_nan), ("the batch's", self._batch)):
        moved = _distance(alone, self._sum(batch, others))
        if not moved <= self.tolerance:
          raise SensitivityError(
              f"What example {row} adds depends on rows that are padding: it"
              f" moves by {moved:.6g} (tolerance {self.tolerance:.2g}) when"
              f" their values are {name} and not its own. Padding must count"
              " zero, and examples must not meet (as in batch norm)."
          )
      contributions.append(alone)
    total = self._sum(self._batch, self._nobody)
    gap = _distance(total, np.sum(contributions, axis=0))
    if not gap <= self.tolerance:
      raise SensitivityError(
          "The sum over the batch is not the sum of what each example adds"
          f" alone: they are {gap:.6g} apart (tolerance {self.tolerance:.2g})."
          " Examples must not meet (as in batch norm, or in a clip of their"
          " mean), microbatches must add up, and the sum must not be divided by"
          " the realised batch size."
      )
    return np.stack(contributions)

  def check_row(self, row):
    """Checks all neighbours that differ in one row."""
    padded = self._sum(self._batch, self._mask([row]))
    self._check_removal(f"example {row}", self._batch, row, padded)
    sums = [("as given", self._sum(self._batch, self._nobody))]
    for name, batch in neighbours.replacements(self._batch, row):
      total = self._sum(batch, self._nobody)
      for relation in self._one_share:
        self._compare(relation, f"example {row} {name}", total, padded)
      for other_name, other in sums:
        what = f"example {row} {name} against {other_name}"
        self._compare(_REPLACE, what, total, other)
      sums.append((name, total))

  def check_adversarial_batches(self, contributions):
    """Checks removals from batches in which examples pull together."""
    norms = np.linalg.norm(contributions, axis=1)
    longest = int(np.argmax(norms))
    cosines = contributions @ contributions[longest] / np.maximum(norms, 1e-300)
    opposite = int(np.argmin(cosines))
    copies = [longest] * (self.size - 1)
    batches = {
        f"copies of example {longest}": neighbours.take(
            self._batch, [longest, *copies]
        ),
        f"example {opposite} against copies of {longest}": neighbours.take(
            self._batch, [opposite, *copies]
        ),
        "all huge": neighbours.scale(self._batch, _HUGE),
        "all but the first NaN": neighbours.fill(
            self._batch, ~self._mask([0]), np.nan
        ),
    }
    for name, batch in batches.items():
      for row in (0, self.size - 1):
        padded = self._sum(batch, self._mask([row]))
        what = f"example {row} of a batch of {name}"
        self._check_removal(what, batch, row, padded)

  def check_not_vacuous(self):
    """Checks that something moved: else nothing was checked."""
    moved = max(self.movements[r] / self.bounds[r] for r in self.bounds)
    if not moved > _VACUOUS:
      raise SensitivityError(
          "No example moved the sum, so nothing was checked: the gradient of"
          " one example alone is zero for every example, and nothing would be"
          " learnt. A loss that compares examples with each other (batch norm,"
          " contrastive or pairwise losses, centring) has none to compare with."
          " testing.check_loss(loss_fn, params, batch) says more."
      )

  def _check_removal(self, what, batch, row, padded):
    """Compares a batch with itself less a row: as padding, and dropped."""
    total = self._sum(batch, self._nobody)
    for relation in self._one_share:
      self._compare(relation, f"{what}, marked as padding,", total, padded)
    if _REMOVE not in self._one_share:
      return
    # Others move up, as in a batch without it: keys must not go by position.
    rest = [i for i in range(self.size) if i != row]
    dropped = self._sum(neighbours.take(batch, rest), self._nobody[1:])
    self._compare(_REMOVE, f"{what}, dropped,", total, dropped)

  def _compare(self, relation, what, a, b):
    moved, bound = _distance(a, b), self.bounds[relation]
    if not moved <= bound + self.tolerance:
      raise SensitivityError(
          f"{relation}: {what} moves the sum by {moved:.6g}, more than the"
          f" claimed sensitivity {bound:.6g} (tolerance for float32 rounding"
          f" {self.tolerance:.2g})."
      )
    if moved > self.movements[relation]:
      self.movements[relation], self.worst[relation] = moved, what

  def _mask(self, rows):
    mask = self._nobody.copy()
    mask[rows] = True
    return mask


def _distance(a, b):
  """L2 distance; NaN, which is within no bound, where it is not finite."""
  with np.errstate(invalid="ignore", over="ignore"):
    return float(np.linalg.norm(a - b))


def _same_shapes(a, b):
  if jax.tree.structure(a) != jax.tree.structure(b):
    return False
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(x.shape == y.shape and x.dtype == y.dtype for x, y in pairs)
