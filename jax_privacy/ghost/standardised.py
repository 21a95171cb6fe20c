"""The norm of a gradient through weight standardisation, in closed form.

The notation is from docs/ghost_clipping.md, for each output channel:

  w, N: the kernel, of N numbers    a: the gain
  s = 1 / |w - mean w|              w~ = s (w - mean w), so |w~| = 1
  v = a w~: the weight              g = d loss / d v = sum over t of x_t z_t^T
  u = output / a = <x_t, w~>

and the two norms are

  |d loss / dw|^2 = a^2 s^2 (|g|^2 - <1, g>^2 / N - <g, w~>^2)
   d loss / da    = <g, w~> = sum over t of z_t u_t

The first two terms are the Gram form with a s folded into z, and each patch
without its mean. The third is absent where |w - mean w|^2 is below epsilon.

The invariant: a norm is rounded up, as in `norms.py`, and no gradient is made.

Where a is within a millionth of 0, the site runs with 1 in its place, and its
output is multiplied by a afterwards (`rescaled`); u is the output before that.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import standardised
  >>> print(standardised.divisor(jnp.array([2.0, 0.0])))
  [2. 1.]
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import weight_standardisation as ws
from jax_privacy.ghost import components, graph, norms, rules, tracing

# Units in the last place that rounding is allowed: for <g, w~>, relative to the
# root of the sum of squares of its terms; and so for the Gram form less that.
_UNITS_ALONG = 4
_UNITS = 16 + _UNITS_ALONG


def norms_fn(
    form: rules.Form,
    w: jax.Array,
    a: jax.Array,
    epsilon: jax.typing.ArrayLike,
    unit: float,
) -> Callable[..., list[jax.Array]]:
  """Returns a function from one example to the norms of two gradients.

  Args:
    form: Form of the one site that the weight is used at.
    w: The kernel, [..., channels].
    a: The gain, [channels].
    epsilon: Least squared norm; see `standardise_weight`.
    unit: Unit of the norms; see `magnitude.unit_near`.

  Returns:
    `(x, z, output)` to the norms, over `unit`, of the gradients of kernel and
    gain: two scalars. `output` is the site's, before the factor of `rescaled`.
  """
  divisor_a, a_s = divisor(a), amplitude(w, a, epsilon)
  has_norm = ws.channel_scale(w, epsilon)[2]
  n = math.prod(w.shape[:-1])

  def norms_of_example(x, z, output):
    (z,), exponent = norms.in_units(unit, form.cotangents(z))
    gram_x = norms.gram(form, x)
    # a^2 s^2 (|g|^2 - <1, g>^2 / N), summed over channels: the Gram form of
    # a s z and <x_t, x_u> - (sum of x_t) (sum of x_u) / N.
    centred = norms.contracted(
        form,
        gram_x,
        z * a_s.astype(z.dtype).reshape(form.num_groups, 1, -1),
        units=_UNITS,
        left_out=form.input_sums(x) / math.sqrt(n),
    )
    # <g, w~> = sum over t of z_t u_t, with u = output / a.
    along = jnp.sum(z * form.cotangents(output), axis=1).ravel()
    along /= divisor_a.astype(z.dtype)
    # sum over t of |x_t|^2 |z_t|^2, for the rounding of <g, w~>.
    of_z = jnp.sum(jnp.square(z), axis=-1)
    terms = jnp.vdot(norms.diagonal(gram_x), of_z)
    squares = squared_norms(centred, along, terms, a_s=a_s, has_norm=has_norm)
    return [norms.root(form, square, exponent) for square in squares]

  return norms_of_example


def squared_norms(
    centred: jax.Array,
    along: jax.Array,
    terms: jax.Array,
    *,
    a_s: jax.Array,
    has_norm: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Squared gradient norms of (kernel, gain), for one example.

  What rounding may have taken away is added (see `norms.py`): <g, w~> is a sum
  of positions too, and an error d e of it, d small, moves its square by
  d (<g, w~>^2 + e^2) at most.

  Args:
    centred: The sum over channels of a^2 s^2 (|g|^2 - <1, g>^2 / N), by
      `norms.contracted` with its units of rounding.
    along: Products <g, w~>, [channels].
    terms: The sum over t of |x_t|^2 |z_t|^2.
    a_s: Products a s, [channels]; see `amplitude`.
    has_norm: Booleans [channels], whether s is 1 / |w - mean w|, not constant.

  Returns:
    Two scalars.
  """
  slack = _UNITS_ALONG * float(jnp.finfo(along.dtype).eps)
  along_squares = jnp.square(along)
  # |d loss / dw|^2 = a^2 s^2 (|g|^2 - <1, g>^2 / N - <g, w~>^2)
  a2_s2 = jnp.square(a_s.astype(along.dtype))
  taken = jnp.sum(jnp.where(has_norm, a2_s2 * along_squares, 0))
  of_w = jnp.maximum(centred - (1 - slack) * taken, 0)
  # d loss / da = <g, w~>
  norm_of_a = jnp.sqrt(jnp.sum(along_squares)) + slack * jnp.sqrt(terms)
  return of_w, jnp.square(norm_of_a)


def divisor(gain: jax.Array) -> jax.Array:
  """Returns the gain, with 1 where it is too near zero to be divided by.

  Args:
    gain: The gain, [channels].
  """
  return jnp.where(jnp.abs(gain) > 1e-6, gain, 1)


def amplitude(
    kernel: jax.Array, gain: jax.Array, epsilon: jax.typing.ArrayLike
) -> jax.Array:
  """Returns a s, [channels]: what a centred channel is multiplied by.

  Args:
    kernel: The kernel, [..., channels].
    gain: The gain, [channels].
    epsilon: Least squared norm; see `standardise_weight`.
  """
  _, scale, _ = ws.channel_scale(kernel, epsilon)
  return gain.astype(scale.dtype) * scale


def rescaled(
    split: graph.Split,
    component: components.Component,
    standardise: Any,
    shared: tracing.Env,
) -> graph.Rescaled:
  """Returns a way to run the one site with no gain about zero.

  Its output over those gains is then what it would be with all gains 1, which
  the norm of the gradient needs, even of a channel whose gain is 0. For others
  the factor is exactly 1.

  Args:
    split: The loss.
    component: The component.
    standardise: The equation of weight standardisation.
    shared: Values of all shared variables.
  """
  kernel, gain, epsilon = (tracing.read(shared, v) for v in standardise.invars)
  safe_gain = divisor(gain)
  (weight,) = tracing.bind(standardise, [kernel, safe_gain, epsilon])
  (site,) = (split.sites[i] for i in component.site_indices)
  (output,) = (var.aval for var in site.outputs)
  axes = set(range(output.ndim)) - {rules.find(site).channel_axis}
  factor = jnp.expand_dims(gain / safe_gain, sorted(axes))
  return graph.Rescaled(weight, factor.astype(output.dtype))
