"""The rule of `gather`, where it looks up whole rows of a table by their ids.

Invariant: `forms.Form`'s; ids out of range are treated as JAX treats them.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, rules
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(leaves[0][rows[0]])), [])
  >>> split = graph.split(loss, [jnp.ones((9, 2))], [jnp.array([3, 5, 3])])
  >>> print(rules.find(split.sites[0]).gram(jnp.array([[3], [5], [3]]))[0])
  [[1. 0. 1.]
   [0. 1. 0.]
   [1. 0. 1.]]
"""

import math

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import graph, sums
from jax_privacy.ghost.rules import axes, forms

# What an id that is out of range reads. A mode that is not here has no form.
_MODES = (
    jax.lax.GatherScatterMode.CLIP,
    jax.lax.GatherScatterMode.FILL_OR_DROP,
    jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
)


@forms.register("gather")
def gather(site: graph.Site) -> forms.Form | None:
  """Returns the form of a site, or None.

  Rows looked up by id: x is one-hot, so <x_t, x_u> says if ids are equal.

  gradient[v] = sum of the z_t whose id is v. Source: Li et al. 2022 (arXiv
  2110.05679), section 4.

  Args:
    site: A site of this primitive.
  """
  table, ids = (v.aval for v in site.eqn.invars)
  names = ("dimension_numbers", "slice_sizes", "mode")
  numbers, sizes, mode = jaxprs.params(site.eqn, *names).values()
  looked_up = tuple(numbers.collapsed_slice_dims)
  is_lookup = (
      site.weight_operands == (0,)
      and len(looked_up) == 1
      and tuple(numbers.start_index_map) == looked_up
      and not numbers.operand_batching_dims
      and mode in _MODES
      and max(table.shape) < jnp.iinfo("int32").max
      and all(
          sizes[i] == table.shape[i] for i in axes.others(table.ndim, looked_up)
      )
  )
  if not is_lookup:
    return None
  dtype, rows = forms.norm_dtype(site), table.shape[looked_up[0]]
  num_positions = math.prod(ids.shape[:-1])
  num_outputs = math.prod(table.shape) // rows
  free = axes.others(site.outputs[0].aval.ndim, numbers.offset_dims)
  is_clipped = mode == jax.lax.GatherScatterMode.CLIP

  def one_hot_ids(x):
    x = _as_int32(x.reshape(num_positions))
    if is_clipped:
      return jnp.clip(x, 0, rows - 1), jnp.ones(num_positions, bool)
    return x, (x >= 0) & (x < rows)  # Others are read as a constant.

  def input_sums(x):
    return one_hot_ids(x)[1].astype(dtype)[None]

  def gram(x):
    x, is_row = one_hot_ids(x)
    same = (x[:, None] == x[None]) & is_row[:, None]
    return same.astype(dtype)[None]

  def cotangents(z):
    z = jnp.transpose(z.astype(dtype), (*free, *numbers.offset_dims))
    return z.reshape(1, num_positions, num_outputs)

  def merge(x, z):
    if num_positions <= sums.POSITION_BLOCK:
      return z
    order = (*free, *numbers.offset_dims)
    merged = sums.merged(*one_hot_ids(x), cotangents(z)[0])
    shape = [z.shape[i] for i in order]
    return jnp.transpose(merged.reshape(shape), axes.inverse(order))

  def gradient(x, z):
    z = merge(x, z)
    x, is_row = one_hot_ids(x)
    at = jnp.where(is_row, x, rows)
    grad = jnp.zeros((rows, num_outputs), dtype)
    grad = grad.at[at].add(cotangents(z)[0], mode="drop")
    rest = [n for i, n in enumerate(table.shape) if i != looked_up[0]]
    return jnp.moveaxis(grad.reshape(rows, *rest), 0, looked_up[0])

  return forms.Form(
      num_groups=1,
      num_positions=num_positions,
      num_inputs=rows,
      num_outputs=num_outputs,
      gram=gram,
      diagonal=input_sums,
      input_sums=input_sums,
      cotangents=cotangents,
      rows=None,
      restore=None,
      merge=merge,
      gradient=gradient,
      gram_flops=float(num_positions**2),
      channel_axis=None,
  )


def _as_int32(ids):
  """Casts ids, so that no id becomes another: int32's ends mean "beyond"."""
  own, limits = jnp.iinfo(ids.dtype), jnp.iinfo("int32")
  low, high = max(own.min, limits.min), min(own.max, limits.max)
  ids = jnp.maximum(ids, jnp.asarray(low, ids.dtype))
  return jnp.minimum(ids, jnp.asarray(high, ids.dtype)).astype("int32")
