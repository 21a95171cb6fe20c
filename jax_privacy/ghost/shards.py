"""Parameters that stay split over devices until they are used.

For `passes=2` on a mesh with an axis `fsdp`, of which each device holds a part
of every parameter. A loop or a `jax.checkpoint` is given parts, and gathers
them inside: the parameters of one iteration are whole at a time. They are
dropped after it, and gathered again on the way back.

The invariant: what is computed is what whole parameters give. A part's
gradient is summed over `fsdp`, and over no other axis. A device without an
example that counts adds zero to it, whatever its own numbers are.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import shards
  >>> layout = shards.Layout("fsdp", 4, (None, 1))
  >>> parts = [jnp.ones(3), jnp.ones((5, 2))]
  >>> [x.shape for x in layout.whole_shapes(parts)]
  [(3,), (5, 8)]
  >>> [type(x).__name__ for x in layout.wrap(parts)]
  ['ArrayImpl', 'Shard']
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import regions, tracing

_GATHER = "all_gather"
_IN_PLACE = ("convert_element_type", "copy", "copy_p", "neg")
_MOVES = (*_IN_PLACE, "slice", "transpose")
# What is cheaper to make again than to keep, after a parameter is gathered.
_CHEAP = frozenset(
    (*_MOVES, "broadcast_in_dim", "expand_dims", "reshape", "rev", "squeeze")
)


class Shard(NamedTuple):
  """This device's part of a parameter.

  Attributes:
    value: The part.
    axis: Axis of the parameter that is split.
  """

  value: Any
  axis: int


class Layout(NamedTuple):
  """How parameters are split.

  Attributes:
    name: Name of the mesh's axis.
    size: Number of parts.
    axes: Axes that are split, one per parameter; None if it is not.
  """

  name: str
  size: int
  axes: tuple[int | None, ...]

  def whole_shapes(self, leaves: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
    """Returns the shapes of whole parameters.

    Args:
      leaves: This device's parts.
    """
    return [
        jax.ShapeDtypeStruct(
            [
                n * (self.size if i == axis else 1)
                for i, n in enumerate(x.shape)
            ],
            x.dtype,
        )
        for x, axis in zip(leaves, self.axes, strict=True)
    ]

  def wrap(self, leaves: Sequence[Any]) -> list[Any]:
    """Returns parameters, those that are split as a `Shard`.

    Args:
      leaves: This device's parts.
    """
    pairs = zip(leaves, self.axes, strict=True)
    return [x if axis is None else Shard(x, axis) for x, axis in pairs]

  def gather(self, value: Any, is_used: Any = None) -> Any:
    """Returns a whole parameter.

    Args:
      value: A `Shard`, or what is whole already.
      is_used: Boolean, whether this device adds to the gradient; None if there
        is none to be taken.
    """
    if not isinstance(value, Shard):
      return value
    if is_used is None:
      return _whole(self.name, value.axis, value.value)
    return _gather(self.name, value.axis, value.value, is_used)

  def for_loop(self, value: Any, is_used: Any = None) -> Any:
    """Returns what a loop may run over: what is not split along its rows.

    Args:
      value: A `Shard`, or what is whole.
      is_used: Boolean, as for `gather`.
    """
    if not isinstance(value, Shard) or value.axis:
      return value
    sizes = value.value.shape
    axes = [i for i, n in enumerate(sizes) if i and n and n % self.size == 0]
    if not axes:
      return self.gather(value, is_used)
    axis = max(axes, key=lambda i: sizes[i])
    part = jax.lax.all_to_all(value.value, self.name, axis, 0, tiled=True)
    return Shard(part, axis)


def unwrap(
    values: Sequence[Any], *, dropped: int = 0
) -> tuple[list[Any], Callable[[Sequence[Any]], list[Any]]]:
  """Returns arrays, and the function that makes them what they were.

  Args:
    values: Arrays, some of them in a `Shard`.
    dropped: Number of leading axes that they have lost by then.
  """
  axes = [v.axis - dropped if isinstance(v, Shard) else None for v in values]
  arrays = [v.value if isinstance(v, Shard) else v for v in values]

  def restore(arrays):
    pairs = zip(arrays, axes, strict=True)
    return [x if axis is None else Shard(x, axis) for x, axis in pairs]

  return arrays, restore


def _whole(name, axis, value):
  return jax.lax.all_gather(value, name, axis=axis, tiled=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gather(name, axis, value, is_used):
  del is_used
  return _whole(name, axis, value)


def _gather_forward(name, axis, value, is_used):
  return _whole(name, axis, value), is_used


def _gather_backward(name, axis, is_used, cotangent):
  cotangent = jnp.where(is_used, cotangent, 0)  # Before it meets the others'.
  part = jax.lax.psum_scatter(
      cotangent, name, scatter_dimension=axis, tiled=True
  )
  return part, None


_gather.defvjp(_gather_forward, _gather_backward)


def entered(
    region: regions.Region,
    values: Sequence[Any],
    gather: Callable[[Any], Any],
) -> tracing.Env:
  """Returns the values of a region's inputs and shared variables.

  What only calls take stays a `Shard`; all else is gathered.

  Args:
    region: The region.
    values: Values of the inputs of its jaxpr that are known.
    gather: Function that makes a `Shard` whole.
  """
  closed, stays = region.split.closed, staying(region)
  env = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
  for var, value in zip(closed.jaxpr.invars, values, strict=False):
    env[var] = value if var in stays else gather(value)
  for eqn in region.split.shared_eqns:
    first = tracing.read(env, eqn.invars[0]) if eqn.invars else None
    if isinstance(first, Shard):
      env[eqn.outvars[0]] = _moved(eqn, first, gather)
    else:
      tracing.evaluate([eqn], env)
  return env


def gathers(region: regions.Region, values: Sequence[Any]) -> bool:
  """Returns whether a region itself, not only its calls, gathers what is split.

  Args:
    region: The region.
    values: Values of its inputs, as many as are known.
  """
  stays = staying(region)
  pairs = zip(region.split.closed.jaxpr.invars, values, strict=False)
  return any(isinstance(x, Shard) and v not in stays for v, x in pairs)


def staying(region: regions.Region) -> set[Any]:
  """Returns the variables of a region that only its calls take.

  Args:
    region: The region.
  """
  jaxpr, found = region.split.closed.jaxpr, set()
  readers = {}
  for eqn in jaxpr.eqns:
    for var in filter(tracing.is_var, eqn.invars):
      readers.setdefault(var, []).append(eqn)
  outputs = set(filter(tracing.is_var, jaxpr.outvars))

  def is_kept(eqn):
    is_move = eqn.primitive.name in _MOVES
    return id(eqn) in region.calls or (is_move and eqn.outvars[0] in found)

  made = [v for eqn in reversed(jaxpr.eqns) for v in eqn.outvars]
  for var in (*made, *jaxpr.invars):
    if var in readers and var not in outputs:
      if all(map(is_kept, readers[var])):
        found.add(var)
  return found


def _moved(eqn, shard, gather):
  """What an equation that moves entries makes of a part."""
  name, axis = eqn.primitive.name, shard.axis
  if name in _IN_PLACE:
    return Shard(jaxprs.bind(eqn, [shard.value])[0], axis)
  if name == "transpose":
    to = jaxprs.param(eqn, "permutation").index(axis)
    return Shard(jaxprs.bind(eqn, [shard.value])[0], to)
  before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
  start, strides = jaxprs.params(eqn, "start_indices", "strides").values()
  if before[axis] != after[axis] or (strides and strides[axis] != 1):
    return jaxprs.bind(eqn, [gather(shard)])[0]
  limits = list(jaxprs.param(eqn, "limit_indices"))
  limits[axis] = start[axis] + shard.value.shape[axis]
  (part,) = jaxprs.bind(eqn, [shard.value], limit_indices=tuple(limits))
  return Shard(part, axis)


def policy(own: Any) -> Any:
  """Returns a policy of `jax.checkpoint` that keeps no gathered parameter.

  Args:
    own: The policy that decides of all else; None to keep nothing.
  """
  if own is None:
    return None

  def saves(primitive, *args, **options):
    if primitive.name == _GATHER or primitive.name in _CHEAP:
      return False
    return own(primitive, *args, **options)

  return saves
