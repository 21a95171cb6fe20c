"""Disjoint pieces of a parameter: each is a parameter by itself.

A parameter is often cut before use: a fused weight by `jnp.split`, stacked
layers by their index. If no two pieces share an entry, the squared norm of the
parameter's gradient is the sum of those of its pieces, and its clipped sum is
theirs, put together. So components are made of pieces, and rules apply to each.

The invariant: every entry of a parameter is in at most one piece, and all that
the parameter does to the loss, its pieces do. A parameter that is not cut, or
not into disjoint pieces, is one piece.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph
  >>> def loss(leaves, rows):
  ...   first, second = jnp.split(leaves[0], 2, axis=1)
  ...   return jnp.sum(jnp.tanh(rows[0] @ first) * (rows[0] @ second)), []
  >>> split = graph.split(loss, [jnp.ones((3, 4))], [jnp.ones((5, 3))])
  >>> [piece.var.aval.shape for piece in split.pieces], len(split.components)
  ([(3, 2), (3, 2)], 2)
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import tracing, transforms

# Which entries of an array: per axis, their indices.
Box: TypeAlias = tuple[range, ...]
# Boxes that are compared pair by pair, where no axis tells them all apart.
_MAX_COMPARED = 256


@dataclasses.dataclass(frozen=True)
class Piece:
  """A shared variable that takes a parameter's place in components.

  Attributes:
    var: The shared variable.
    leaf: Number of the parameter that it is a piece of.
  """

  var: Any
  leaf: int


@dataclasses.dataclass(frozen=True)
class Cut:
  """How a shared variable is made of pieces.

  Attributes:
    var: The variable.
    chain: Isometries on the way to what is cut, in order.
    boxes: Entries that each part has, of what is cut.
    parts: Pieces, or parts that are cut further.
  """

  var: Any
  chain: tuple[Any, ...]
  boxes: tuple[Box, ...]
  parts: "tuple[Piece | Cut, ...]"

  @property
  def source(self) -> Any:
    """The variable that is cut: the last of `chain`."""
    return self.chain[-1].outvars[0] if self.chain else self.var


def find(
    leaf_vars: Sequence[Any], eqns: Sequence[Any], weights: Collection[Any]
) -> list[Piece | Cut]:
  """Returns how each parameter is made of pieces.

  Args:
    leaf_vars: Variables of the parameters.
    eqns: Shared equations on the paths from parameters to weights, in order.
    weights: Variables that sites read.
  """
  readers = {}
  for eqn in eqns:
    for var in {v for v in eqn.invars if tracing.is_var(v)}:
      readers.setdefault(var, []).append(eqn)
  return [
      _find(var, leaf, readers, weights) for leaf, var in enumerate(leaf_vars)
  ]


def _find(var, leaf, readers, weights) -> Piece | Cut:
  chain, at = [], var
  while at not in weights and len(readers.get(at, ())) == 1:
    (eqn,) = readers[at]
    if not transforms.is_isometry(eqn):
      break
    chain.append(eqn)
    at = eqn.outvars[0]
  eqns = () if at in weights else readers.get(at, ())
  boxes, outs = [], []
  for eqn in eqns:
    made = _CUTS.get(eqn.primitive.name, lambda _: None)(eqn)
    if made is None:
      return Piece(var, leaf)
    for box, out in zip(made, eqn.outvars, strict=True):
      if out in readers or out in weights:
        boxes.append(box)
        outs.append(out)
  if not boxes or not _are_disjoint(boxes):
    return Piece(var, leaf)
  parts = tuple(_find(out, leaf, readers, weights) for out in outs)
  return Cut(var, tuple(chain), tuple(boxes), parts)


def in_order(node: Piece | Cut) -> Iterator[Piece]:
  """Yields the pieces of a parameter.

  Args:
    node: Tree that `find` gave for it.
  """
  if isinstance(node, Piece):
    yield node
  else:
    for part in node.parts:
      yield from in_order(part)


def join(node: Piece | Cut, totals: Mapping[Any, jax.Array]) -> jax.Array:
  """Returns a parameter's array, made of those of its pieces.

  Args:
    node: Tree that `find` gave for it.
    totals: Arrays by the pieces' variables, all of one dtype.

  Returns:
    An array of the parameter's shape, zero where there is no piece. Casts of
    the parameter are left out.
  """
  if isinstance(node, Piece):
    return totals[node.var]
  values = [join(part, totals) for part in node.parts]
  shape = node.source.aval.shape
  axis = _tiled_axis(node.boxes, shape)
  if axis is not None:
    pairs = zip(node.boxes, values, strict=True)
    ordered = sorted(pairs, key=lambda pair: pair[0][axis].start)
    values = [value.reshape([*map(len, box)]) for box, value in ordered]
    total = jnp.concatenate(values, axis)
  else:
    total = jnp.zeros(shape, values[0].dtype)
    for box, value in zip(node.boxes, values, strict=True):
      at = tuple(slice(r.start, r.stop, r.step) for r in box)
      size = tuple(map(len, box))  # A part has no axis where one is taken out.
      total = total.at[at].set(value.reshape(size))
  return transforms.pull_back(node.chain, node.var, total)


def _tiled_axis(boxes, shape) -> int | None:
  """The axis along which boxes lie one after the other, and fill an array."""
  for axis, size in enumerate(shape):
    ranges = sorted((box[axis] for box in boxes), key=lambda r: r.start)
    ends = [0, *(r.stop for r in ranges)]
    is_tiled = ends[-1] == size and all(
        r.step == 1 and r.start == end
        for r, end in zip(ranges, ends[:-1], strict=True)
    )
    whole = [range(n) for i, n in enumerate(shape) if i != axis]
    if is_tiled and all(
        [*box[:axis], *box[axis + 1 :]] == whole for box in boxes
    ):
      return axis
  return None


def _are_disjoint(boxes: Sequence[Box]) -> bool:
  """Whether no two boxes share an entry, as far as this can be seen quickly."""
  for ranges in zip(*boxes, strict=True):
    ordered = sorted(filter(None, ranges), key=lambda r: r.start)
    if all(r[-1] < s[0] for r, s in itertools.pairwise(ordered)):
      return True
  if len(boxes) > _MAX_COMPARED:
    return False
  pairs = itertools.combinations(boxes, 2)
  return all(any(map(_share_nothing, a, b)) for a, b in pairs)


def _share_nothing(r: range, s: range) -> bool:
  if not r or not s or r[-1] < s[0] or s[-1] < r[0]:
    return True
  return r.step == s.step and (r.start - s.start) % r.step != 0


def _of_slice(eqn) -> list[Box]:
  names = ("start_indices", "limit_indices", "strides")
  starts, limits, strides = jaxprs.params(eqn, *names).values()
  strides = strides or (1,) * len(starts)
  return [tuple(map(range, starts, limits, strides))]


def _of_split(eqn) -> list[Box]:
  sizes, axis = jaxprs.params(eqn, "sizes", "axis").values()
  ends = list(itertools.accumulate(map(int, sizes)))
  ranges = map(range, [0, *ends[:-1]], ends)
  return [_along(eqn, axis, r) for r in ranges]


def _of_unstack(eqn) -> list[Box]:
  axis = jaxprs.param(eqn, "axis")
  size = eqn.invars[0].aval.shape[axis]
  return [_along(eqn, axis, range(i, i + 1)) for i in range(size)]


def _along(eqn, axis, indices) -> Box:
  whole = [range(n) for n in eqn.invars[0].aval.shape]
  return (*whole[:axis], indices, *whole[axis + 1 :])


# Primitive -> the boxes of its outputs.
_CUTS: dict[str, Callable[[Any], list[Box]]] = {
    "slice": _of_slice,
    "split": _of_split,
    "unstack": _of_unstack,
}
