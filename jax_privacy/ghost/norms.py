"""Squared norms from Gram matrices, rounded towards safety.

With a site's form (`rules.py`), one example's gradient is, in each of S groups,
the sum over T positions of x_t z_t^T, so its squared norm is

  sum over t, u of <x_t, x_u> <z_t, z_u>

and no gradient is made. Where positions cancel, rounding could leave less than
the gradient has; so two bounds are added, to the diagonals alone:

  rounding: an inner product is off by some units in the last place of |x_t|
    |x_u|. Errors of random signs then have the root of the sum of squares at
    most a multiple of the sum of |x_t|^2 |z_t|^2: the products on the diagonal.
  underflow: each product loses the smallest normal number at most.

Errors of one sign, as sums of equal numbers have, are kept small instead: all
sums are made in blocks (`patches.gram`, `magnitude.block_sum`). In units of
rounding u (2^-24 in float32), sums of 256 equal numbers in one accumulator were
off by up to 26 on a CPU, and of 64 by up to 15 (256 / 2 and 64 / 2 bound them).
A norm, a root of two Gram matrices, may so be short by 26 and the clipped sum
long by 15: `_MARGIN` takes 24 off, and `per_example.clip_factor` 8.

The invariant: a norm is never below what the gradient has, up to the last few
units of a sum, unless the errors of many inner products had the same sign.

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

import jax
import jax.numpy as jnp

from jax_privacy.ghost import patches, rules

# In the last place: how much a norm from Gram matrices is rounded up.
_MARGIN = 12
# Of one accumulator, before XLA adds it to another.
_MOST_POSITIONS = 512


def norm(
    form: rules.Form, x: jax.Array, z: jax.Array, unit: float = 1.0
) -> jax.Array:
  """Norm of one example's gradient, over `unit`.

  Args:
    form: The site's form.
    x: Its operand.
    z: The cotangent of its output.
    unit: See `magnitude.unit_near`.

  Returns:
    A scalar.
  """
  squared = squared_norm(form, x, in_units(form.cotangents(z), unit))
  return jnp.sqrt(squared) * margin(form, squared.dtype)


def in_units(cotangents: jax.Array, unit: float) -> jax.Array:
  """Returns cotangents, float32 at least, over a power of two."""
  return cotangents if unit == 1 else cotangents * (1 / unit)


def margin(form: rules.Form, dtype: jax.typing.DTypeLike) -> float:
  """What a norm is multiplied by, for sums whose errors have one sign.

  A sum that XLA makes of all positions in one go is not in blocks: a quarter of
  a unit of rounding a position, twice what was seen, is added for it.
  """
  units = _MARGIN if form.positions > 1 else 0
  if form.rows is None and form.merge is None:
    units += min(form.positions, _MOST_POSITIONS) / 8
  return 1 + units * float(jnp.finfo(dtype).eps)


def squared_norm(
    form: rules.Form, x: jax.Array, cotangents: jax.Array
) -> jax.Array:
  """Squared norm of one example's gradient.

  Args:
    form: The site's form.
    x: Its operand.
    cotangents: z, [S, T, P].

  Returns:
    A scalar.
  """
  units = 16 if form.positions > 1 else 0  # One position cannot cancel.
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
    of_x: <x_t, x_u>, [S, T, T].
    cotangents: z, [S, T, P].
    units: In the last place, that rounding is allowed.
    left_out: [S, T], <x_t, v>: what x has along a vector v of norm 1 is not
      counted. None for nothing.

  Returns:
    A scalar.
  """
  if form.positions == 1:
    of_z = jnp.sum(jnp.square(cotangents), axis=-1, keepdims=True)
  else:
    of_z = patches.gram(cotangents)
  on_diagonal = diagonal(of_x), diagonal(of_z)
  if left_out is not None:
    of_x -= left_out[:, :, None] * left_out[:, None, :]
  total = jnp.sum(of_x * of_z)
  return jnp.maximum(total, 0) + _bounds(form, *on_diagonal, units)


def gram(form: rules.Form, x: jax.Array) -> jax.Array:
  """Returns <x_t, x_u>, [S, T, T]."""
  if form.positions == 1:
    return form.diagonal(x)[:, :, None]
  return form.gram(x)


def diagonal(of_x: jax.Array) -> jax.Array:
  """Returns |x_t|^2, [S, T], of <x_t, x_u>, [S, T, T]."""
  groups, positions, _ = of_x.shape
  return of_x.reshape(groups, positions**2)[:, :: positions + 1]


def _bounds(form, of_x, of_z, units):
  """What rounding and underflow may have taken, from the diagonals."""
  limits = jnp.finfo(of_z.dtype)
  tiny = float(limits.tiny) * form.positions
  bounds = tiny * (form.inputs * of_z + form.outputs * of_x)
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
    cotangents: z, [S, T, P].
    scale: What z is multiplied by afterwards.

  Returns:
    A scalar.
  """
  of_z = jnp.sum(jnp.square(cotangents * scale), axis=-1)
  eps = float(jnp.finfo(cotangents.dtype).eps)
  return 8 * eps * jnp.sqrt(jnp.vdot(form.diagonal(x), of_z))
