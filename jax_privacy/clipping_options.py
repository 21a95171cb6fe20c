"""Checks of the options that `clipped_grad` and `clipped_fun` share.

The invariant: a position has one role, and what passes goes together.

Example:
  >>> from jax_privacy import clipping_options
  >>> clipping_options.positions("batch_argnums", 1)
  (1,)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import _validate


def positions(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
  """Returns positions of arguments as a tuple.

  Args:
    name: The option's name.
    value: A position, or several.

  Raises:
    ValueError: If they are no distinct positions, one at least.
  """
  values = (value,) if isinstance(value, (int, np.integer)) else tuple(value)
  if not values or len(set(values)) < len(values):
    _validate.fail(name, "one or several distinct positions", value)
  return tuple(_validate.integer(name, v, at_least=0) for v in values)


def check_roles(
    argnums: Sequence[int],
    batch_argnums: Sequence[int],
    prng_argnum: int | None,
) -> None:
  """Refuses an argument position that is given two roles.

  Args:
    argnums: Positions to differentiate.
    batch_argnums: Positions with a batch axis.
    prng_argnum: Position of keys, or None.

  Raises:
    ValueError: If one is given twice.
  """
  if prng_argnum is not None:
    _validate.integer("prng_argnum", prng_argnum, at_least=0)
  roles = [*argnums, *batch_argnums]
  roles += [] if prng_argnum is None else [prng_argnum]
  if len(set(roles)) < len(roles):
    raise ValueError(
        "argnums, batch_argnums and prng_argnum must be disjoint, got"
        f" {argnums}, {batch_argnums} and {prng_argnum}."
    )


def check(
    mesh: jax.sharding.Mesh | None,
    spmd_axis_name: str | None,
    dtype: jax.typing.DTypeLike | None,
) -> None:
  """Refuses options that do not go together, or give a sum no bound.

  Args:
    mesh: Devices, or None.
    spmd_axis_name: Name of the batch axis for `jax.vmap`, or None.
    dtype: Type of the sum, or None.

  Raises:
    ValueError: If one breaks its rule.
  """
  if mesh is not None and spmd_axis_name is not None:
    rule = "None with a mesh, within which each device runs by itself"
    _validate.fail("spmd_axis_name", rule, spmd_axis_name)
  _check_sum_dtype(dtype)


def _check_sum_dtype(dtype):
  """Refuses a dtype whose rounding alone moves a sum by more than a clip."""
  if dtype is None:
    return
  if jnp.dtype(dtype) not in (jnp.dtype("float32"), jnp.dtype("float64")):
    rule = "float32, float64 or None (a shorter sum's rounding has no bound)"
    _validate.fail("dtype", rule, jnp.dtype(dtype).name)
