"""One example's loss, as a function of the leaves of its arguments.

The invariant: an `ExampleLoss` is frozen; what a call finds out (the structure
of aux) is in what it returns.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import ghost
  >>> from jax_privacy.ghost import example_loss
  >>> summed = ghost.GhostSum(
  ...     fun=lambda w, x: (jnp.sum(x * w), {"x": x}), argnums=0,
  ...     batch_argnums=(1,), prng_argnum=None, clip_norms=1.0, divide_by=1.0,
  ...     keep_batch_dim=False, nan_safe=True, dtype=None, spmd_axis_name=None)
  >>> args = (jnp.array([3.0]), jnp.array([[1.0], [2.0]]))
  >>> loss = example_loss.ExampleLoss.of(summed, args)
  >>> value, aux = loss(loss.leaves, [args[1][0], jnp.zeros(())])
  >>> print(value, aux)
  3.0 {'x': Array([1.], dtype=float32)}
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import clipped_sum, precision


@dataclasses.dataclass(frozen=True)
class ExampleLoss:
  """One example's loss as `(leaves, rows) -> (loss, aux)`.

  The last row is a zero that is added to the loss: without it, a loss that does
  not depend on the data would have no equation on the data side.

  Attributes:
    spec: The loss, and which arguments are what.
    args: All its arguments.
    leaves: The parameters.
    treedef: Their structure.
    rows: Arrays that are mapped over, batched.
    row_treedef: Its structure: a list with an item per mapped argument.
  """

  spec: clipped_sum.ClippedSum
  args: tuple[Any, ...]
  leaves: list[jax.Array]
  treedef: Any
  rows: list[jax.Array]
  row_treedef: Any

  @classmethod
  def of(
      cls, spec: clipped_sum.ClippedSum, args: Sequence[Any]
  ) -> "ExampleLoss":
    """Returns the loss with arguments taken apart.

    Args:
      spec: The loss, and which arguments are what.
      args: Arguments of a call.

    Raises:
      TypeError: If a parameter is not real and floating point.
    """
    params = [args[i] for i in spec.param_argnums]
    leaves, treedef = jax.tree.flatten(params)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    precision.at_least_float32(*(leaf.dtype for leaf in leaves))
    rows, row_treedef = jax.tree.flatten([args[i] for i in _mapped(spec)])
    rows = [jnp.asarray(row) for row in rows]
    return cls(spec, tuple(args), leaves, treedef, rows, row_treedef)

  def row_shapes(self) -> list[jax.ShapeDtypeStruct]:
    """Returns one example's shapes."""
    rows = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in self.rows]
    return [*rows, jax.ShapeDtypeStruct((), jnp.float32)]

  def unflatten(self, leaves: Sequence[Any]) -> Any:
    """Returns values of the leaves as the argument(s) to differentiate.

    Args:
      leaves: Values, one for each parameter.
    """
    params = self.treedef.unflatten(leaves)
    return params[0] if isinstance(self.spec.argnums, int) else tuple(params)

  def __call__(self, leaves, rows):
    """Returns the loss and aux."""
    spec, args = self.spec, list(self.args)
    params = self.treedef.unflatten(leaves)
    for i, param in zip(spec.param_argnums, params, strict=True):
      args[i] = param
    *rows, zero = rows
    rows = self.row_treedef.unflatten(rows)
    for i, row in zip(_mapped(spec), rows, strict=True):
      if spec.keep_batch_dim and i != spec.prng_argnum:
        row = jax.tree.map(lambda x: jnp.expand_dims(x, 0), row)
      args[i] = row
    value, aux = spec.fun(*args)
    value = jnp.asarray(value)
    if value.shape == () and jnp.issubdtype(value.dtype, jnp.floating):
      value = value + zero.astype(value.dtype)
    if spec.keep_batch_dim:
      aux = jax.tree.map(clipped_sum.drop_unit_batch_axis, aux)
    return value, aux


def _mapped(spec):
  """The arguments that are given one row at a time."""
  keys = () if spec.prng_argnum is None else (spec.prng_argnum,)
  return (*spec.batched, *keys)
