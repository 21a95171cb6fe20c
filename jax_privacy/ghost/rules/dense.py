"""The rule of `dot_general`: dense layers, attention's projections, tied heads.

Invariant: `forms.Form`'s, for one operand that is the weight and one of data.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, rules
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(rows[0] @ leaves[0])), [])
  >>> split = graph.split(loss, [jnp.ones((3, 2))], [jnp.ones((4, 3))])
  >>> print(rules.find(split.sites[0]).gram(jnp.ones((4, 3))).shape)
  (1, 4, 4)
"""

import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import graph, patches, sums
from jax_privacy.ghost.rules import axes, forms


@forms.register("dot_general")
def dot_general(site: graph.Site) -> forms.Form | None:
  """Returns the form of a site, or None.

  x: the other operand; S: its batch axes; D: the contracted axes.

  gradient[s] = x[s]^T z[s]. Source: Goodfellow 2015 (arXiv 1510.01799) for one
  position; Li et al. 2022 (arXiv 2110.05679), section 4, for several.

  Args:
    site: A site of this primitive.
  """
  (weight_at,), (other_at,) = site.weight_operands, site.data_operands
  contracting, batch = jaxprs.param(site.eqn, "dimension_numbers")
  weight, other = (site.eqn.invars[i].aval for i in (weight_at, other_at))
  if not jnp.issubdtype(other.dtype, jnp.floating):
    return None
  x_free = axes.others(other.ndim, contracting[other_at], batch[other_at])
  w_free = axes.others(weight.ndim, contracting[weight_at], batch[weight_at])
  x_order = (*batch[other_at], *x_free, *contracting[other_at])
  w_order = (*batch[weight_at], *contracting[weight_at], *w_free)
  sizes = (
      axes.size(other, batch[other_at]),
      axes.size(other, x_free),
      axes.size(other, contracting[other_at]),
      axes.size(weight, w_free),
  )
  num_groups, num_positions, num_inputs, num_outputs = sizes
  dtype = forms.norm_dtype(site)
  channel_axis = None
  if not batch[weight_at] and w_free == (weight.ndim - 1,):
    channel_axis = len(x_free) if other_at < weight_at else 0

  def rows(x):
    x = jnp.transpose(x, x_order).astype(dtype)
    return x.reshape(num_groups, num_positions, num_inputs)

  def cotangents(z):
    if other_at < weight_at:  # z is [batch, x's free axes, weight's].
      return z.astype(dtype).reshape(num_groups, num_positions, num_outputs)
    z = z.astype(dtype).reshape(num_groups, num_outputs, num_positions)
    return jnp.swapaxes(z, 1, 2)

  def restore(grad):
    grad = grad.reshape([weight.shape[i] for i in w_order])
    return jnp.transpose(grad, axes.inverse(w_order))

  def gradient(x, z):
    return restore(sums.outer(rows(x)[None], cotangents(z)[None]))

  return forms.Form(
      num_groups=num_groups,
      num_positions=num_positions,
      num_inputs=num_inputs,
      num_outputs=num_outputs,
      gram=lambda x: patches.gram(rows(x)),
      diagonal=lambda x: jnp.sum(jnp.square(rows(x)), axis=-1),
      input_sums=lambda x: jnp.sum(rows(x), axis=-1),
      cotangents=cotangents,
      rows=rows,
      restore=restore,
      gradient=gradient,
      gram_flops=2.0 * num_groups * num_positions**2 * num_inputs,
      channel_axis=channel_axis,
  )
