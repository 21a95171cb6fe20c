"""Squared norms from Gram matrices, rounded towards safety.

With a site's form (`rules`), one example's gradient is, in each of S groups,
the sum over T positions of x_t z_t^T, so its squared norm is

  sum over t, u of <x_t, x_u> <z_t, z_u>

and no gradient is made. Where positions cancel, rounding could leave less than
the gradient has; so two bounds are added, to the diagonals alone:

  rounding: an inner product is off by some units in the last place of |x_t|
    |x_u|. Errors of random signs then have the root of the sum of squares at
    most a multiple of the sum of |x_t|^2 |z_t|^2: the products on the diagonal.
  underflow: each product loses the smallest normal number at most.

Errors of one sign, as sums of equal numbers have, are bounded by `margin`. One
accumulator that takes n equal numbers is off by up to n/4 units of rounding u
(2^-24 in float32): 251 of 1,024 and 126 of 512 were seen on a CPU. So long sums
are made in blocks (`patches.gram`, `sums.outer`), and norms are rounded up by
what the blocks allow, for they need not be blocks of a few numbers then.

The invariant: a norm is never below what the gradient has, up to the last few
units of a sum, unless the errors of many inner products have one sign.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, norms, rules
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(rows[0] @ leaves[0])), [])
  >>> split = graph.split(loss, [jnp.ones((3, 2))], [jnp.ones((4, 3))])
  >>> form = rules.find(split.sites[0])
  >>> x, z = jnp.ones((4, 3)), jnp.ones((4, 2))
  >>> print(norms.squared_norm(form, x, form.cotangents(z)).round())
  96.0
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import magnitude
from jax_privacy.ghost import patches, rules, sums

# Units of rounding that are left to all but long sums: 1e-6 is 16, and
# `per_example.clip_factor` takes off 8.
_FREE = 8


def norm(
    form: rules.Form, x: jax.Array, z: jax.Array, unit: float = 1.0
) -> jax.Array:
  """Norm of one example's gradient, over `unit`.

  Args:
    form: The site's form.
    x: Its operand.
    z: The cotangent of its output.
    unit: Unit of the norm; see `magnitude.unit_near`.

  Returns:
    A scalar.
  """
  (x, z), exponent = in_units(unit, x, form.cotangents(z))
  return root(form, squared_norm(form, x, z), exponent)


def root(
    form: rules.Form, squared: jax.Array, exponent: jax.Array | None
) -> jax.Array:
  """Returns the norm of a squared one from `in_units`, with its margin.

  Args:
    form: The site's form.
    squared: The squared norm.
    exponent: Exponent that `in_units` gave.
  """
  return times_power(jnp.sqrt(squared) * margin(form, squared.dtype), exponent)


def in_units(
    unit: float, *arrays: jax.Array
) -> tuple[list[jax.Array], jax.Array | None]:
  """Returns arrays with entries near 1, and log2 of what to multiply norms by.

  Squares then neither overflow nor vanish, whatever share of an extreme norm is
  in which array. For an ordinary one, a unit of 1, nothing is done: it would
  cost a pass over all, and the exponent is None. Integers stay what they are.

  Args:
    unit: Unit of norms; see `magnitude.unit_near`.
    *arrays: Arrays whose products are squared.
  """
  if unit == 1:
    return list(arrays), None
  made: list[jax.Array] = []
  exponent: Any = 1 - math.frexp(unit)[1]
  for x in arrays:
    if jnp.issubdtype(x.dtype, jnp.floating):
      x, of_x = magnitude.mantissa(x)
      exponent += of_x
    made.append(x)
  return made, exponent


def times_power(x: jax.Array, exponent: jax.Array | None) -> jax.Array:
  """Returns x times two to the `exponent`.

  Args:
    x: Any array.
    exponent: An integer array, or None for 0.
  """
  return x if exponent is None else jnp.ldexp(x, exponent)


def margin(
    form: rules.Form, dtype: jax.typing.DTypeLike, *, has_gram: bool = True
) -> float:
  """What a norm is multiplied by, for sums whose errors have one sign.

  Args:
    form: The site's form.
    dtype: Dtype of sums.
    has_gram: Whether the norm is a root of two Gram matrices, each of which
      counts half; else it is of a gradient that is made, and rounds, twice.

  Returns:
    1 for one position: XLA's plain sums are in blocks.
  """
  if form.num_positions == 1:
    return 1.0
  units = _accumulated(form) / 4
  if has_gram:
    sizes = (
        (form.num_outputs,)
        if form.merge
        else (form.num_outputs, form.num_inputs)
    )
    units += sum(min(size, patches.GRAM_BLOCK) for size in sizes) / 8
  else:
    units *= 2
  return 1 + max(units - _FREE, 0) * float(jnp.finfo(dtype).eps) / 2


def _accumulated(form):
  """Positions that the clipped sum takes into one accumulator.

  XLA makes the sum of a convolution in blocks itself: of up to 16,384 equal
  positions it was off by 69 units of rounding, and 256 / 4 + `_FREE` is more.
  """
  if form.merge is None or form.num_positions <= sums.POSITION_BLOCK:
    return min(form.num_positions, sums.POSITION_BLOCK)
  block = sums.merge_block_size(form.num_positions)
  return block + form.num_positions / block


def squared_norm(
    form: rules.Form, x: jax.Array, cotangents: jax.Array
) -> jax.Array:
  """Squared norm of one example's gradient.

  Args:
    form: The site's form.
    x: Its operand.
    cotangents: Cotangents z, [S, T, P].

  Returns:
    A scalar.
  """
  units = 16 if form.num_positions > 1 else 0  # One position cannot cancel.
  return contracted(form, gram(form, x), cotangents, units=units)


def contracted(
    form: rules.Form,
    of_x: jax.Array,
    cotangents: jax.Array,
    *,
    units: float,
    left_out: jax.Array | None = None,
) -> jax.Array:
  """The sum over s, t, u of <x_t, x_u> <z_t, z_u>, with its bounds.

  Args:
    form: The site's form.
    of_x: Inner products <x_t, x_u>, [S, T, T].
    cotangents: Cotangents z, [S, T, P].
    units: Units in the last place that rounding is allowed.
    left_out: Parts <x_t, v> of x along a vector v of norm 1, [S, T], which are
      not counted. None for nothing.

  Returns:
    A scalar.
  """
  if form.num_positions == 1:
    of_z = jnp.sum(jnp.square(cotangents), axis=-1, keepdims=True)
  else:
    of_z = patches.gram(cotangents)
  on_diagonal = diagonal(of_x), diagonal(of_z)
  if left_out is not None:
    of_x -= left_out[:, :, None] * left_out[:, None, :]
  total = jnp.sum(of_x * of_z)
  return jnp.maximum(total, 0) + _bounds(form, *on_diagonal, units)


def gram(form: rules.Form, x: jax.Array) -> jax.Array:
  """Returns <x_t, x_u>, [S, T, T].

  Args:
    form: The site's form.
    x: Its operand.
  """
  if form.num_positions == 1:
    return form.diagonal(x)[:, :, None]
  return form.gram(x)


def diagonal(of_x: jax.Array) -> jax.Array:
  """Returns |x_t|^2, [S, T].

  Args:
    of_x: Inner products <x_t, x_u>, [S, T, T].
  """
  groups, positions, _ = of_x.shape
  return of_x.reshape(groups, positions**2)[:, :: positions + 1]


def _bounds(form, of_x, of_z, units):
  """What rounding and underflow may have taken, from the diagonals."""
  limits = jnp.finfo(of_z.dtype)
  tiny = float(limits.tiny) * form.num_positions
  bounds = tiny * (form.num_inputs * of_z + form.num_outputs * of_x)
  if units:
    bounds += units * float(limits.eps) * of_x * of_z
  return jnp.sum(bounds)


def rounding(
    form: rules.Form,
    x: jax.Array,
    cotangents: jax.Array,
    scale: jax.Array | float = 1.0,
) -> jax.Array:
  """Bound of the norm of what rounding moves one example's gradient by.

  The root of the sum of squares of its terms, x_t z_t^T, times some units in
  the last place: a random walk, not the worst case.

  Args:
    form: The site's form.
    x: Its operand.
    cotangents: Cotangents z, [S, T, P].
    scale: Factor of z that is applied afterwards.

  Returns:
    A scalar.
  """
  of_z = jnp.sum(jnp.square(cotangents * scale), axis=-1)
  eps = float(jnp.finfo(cotangents.dtype).eps)
  return 8 * eps * jnp.sqrt(jnp.vdot(form.diagonal(x), of_z))
