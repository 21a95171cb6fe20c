"""What is known of the primitives that parameters meet: one rule each.

A rule looks at a site and, where it applies, gives its `Form`: the gradient of
the site's weight, for one example, is

  for each s of S independent groups: sum over t of x[s, t] z[s, t]^T

with T positions, x of D numbers and z of P. Its squared norm follows from Gram
matrices (`norms.py`), and the gradient is not made. To add a rule, write one
function and register it for its primitive.

A site without a rule gets the vjp of its one equation (`generic_gradient`).

The invariant: `Form.gradient` equals that vjp, in float32 at least.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, rules
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(rows[0] @ leaves[0])), [])
  >>> split = graph.split(loss, [jnp.ones((3, 2))], [jnp.ones((4, 3))])
  >>> form = rules.find(split.sites[0])
  >>> form.groups, form.positions, form.inputs, form.outputs
  (1, 4, 3, 2)
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs, precision
from jax_privacy.ghost import graph, patches, sums

# Of `gather`: what an id that is out of range reads. A mode that is not here
# gets no form.
_MODES = (
    jax.lax.GatherScatterMode.CLIP,
    jax.lax.GatherScatterMode.FILL_OR_DROP,
    jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
)
_RULES: dict[str, Callable[[graph.Site], "Form | None"]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
  """One site's weight gradient as a sum of outer products.

  Functions take one example's x, the operand that depends on data, and z, the
  cotangent of the output.

  Attributes:
    groups: S.
    positions: T.
    inputs: D.
    outputs: P.
    gram: x to <x_t, x_u>, [S, T, T].
    diagonal: x to |x_t|^2, [S, T].
    input_sums: x to the sum of each x_t, [S, T].
    cotangents: z to [S, T, P].
    rows: x to [S, T, D]; None where that is much larger than x.
    restore: [S, D, P] to the weight's shape.
    gradient: (x, z) to the weight's gradient, in the weight's shape.
    gram_flops: What `gram` costs, in multiplications and additions.
    channel_axis: Of the output: where it has the weight's last axis, if that is
      the S * P outputs; None if it is not.
    merge: (x, z) to z with positions that are added one after the other added
      before, in blocks; None where there are none such.
  """

  groups: int
  positions: int
  inputs: int
  outputs: int
  gram: Callable[[jax.Array], jax.Array]
  diagonal: Callable[[jax.Array], jax.Array]
  input_sums: Callable[[jax.Array], jax.Array]
  cotangents: Callable[[jax.Array], jax.Array]
  rows: Callable[[jax.Array], jax.Array] | None
  restore: Callable[[jax.Array], jax.Array] | None
  gradient: Callable[[jax.Array, jax.Array], jax.Array]
  gram_flops: float
  channel_axis: int | None
  merge: Callable[[jax.Array, jax.Array], jax.Array] | None = None

  @property
  def gradient_flops(self) -> float:
    """What `gradient` costs, in multiplications and additions."""
    return 2.0 * self.groups * self.positions * self.inputs * self.outputs

  @property
  def size(self) -> int:
    """Numbers in the weight's gradient, by the rule."""
    return self.groups * self.inputs * self.outputs


def register(primitive: str) -> Callable[..., Any]:
  """Registers a rule: a function from a site to its `Form`, or None."""

  def decorate(rule):
    _RULES[primitive] = rule
    return rule

  return decorate


def find(site: graph.Site) -> Form | None:
  """Returns a site's form, or None where no rule applies."""
  is_bilinear = len(site.positions) == 1 and len(site.data_positions) == 1
  if site.name not in _RULES or not is_bilinear:
    return None
  shapes = [atom.aval.shape for atom in (*site.eqn.invars, *site.eqn.outvars)]
  dtypes = [site.weights[0].aval.dtype, *(v.aval.dtype for v in site.outputs)]
  if 0 in map(math.prod, shapes):
    return None
  if not all(jnp.issubdtype(d, jnp.floating) for d in dtypes):
    return None
  return _RULES[site.name](site)


def generic_gradient(
    site: graph.Site,
    shared: Any,
    weights: Sequence[jax.Array],
    data: Sequence[jax.Array],
    cotangents: Sequence[jax.Array],
) -> list[jax.Array]:
  """Returns the gradients of a site's weights: the vjp of its equation.

  Args:
    site: The site.
    shared: Values of the operands that are neither weights nor data.
    weights: Values of the weights.
    data: One example's operands.
    cotangents: One per output of the site.
  """
  _, pull = jax.vjp(lambda *w: site.apply(shared, w, data), *weights)
  return list(pull(list(cotangents)))


def in_dtype(site: graph.Site, dtype: jax.typing.DTypeLike) -> graph.Site:
  """Returns the site with its equation set to compute in `dtype`."""
  eqn = jaxprs.with_params(
      site.eqn,
      preferred_element_type=jnp.dtype(dtype),
      precision=jax.lax.Precision.HIGHEST,
  )
  return dataclasses.replace(site, eqn=eqn)


@register("dot_general")
def dot_general(site: graph.Site) -> Form | None:
  """x: the other operand; S: its batch axes; D: the contracted axes.

  gradient[s] = x[s]^T z[s]. Source: Goodfellow 2015 (arXiv 1510.01799) for one
  position; Li et al. 2022 (arXiv 2110.05679), section 4, for several.
  """
  (weight_at,), (other_at,) = site.positions, site.data_positions
  contracting, batch = jaxprs.param(site.eqn, "dimension_numbers")
  weight, other = (site.eqn.invars[i].aval for i in (weight_at, other_at))
  if not jnp.issubdtype(other.dtype, jnp.floating):
    return None
  x_free = _rest(other.ndim, contracting[other_at], batch[other_at])
  w_free = _rest(weight.ndim, contracting[weight_at], batch[weight_at])
  x_order = (*batch[other_at], *x_free, *contracting[other_at])
  w_order = (*batch[weight_at], *contracting[weight_at], *w_free)
  sizes = (
      _size(other, batch[other_at]),
      _size(other, x_free),
      _size(other, contracting[other_at]),
      _size(weight, w_free),
  )
  groups, positions, inputs, outputs = sizes
  dtype = _dtype(site)
  channel_axis = None
  if not batch[weight_at] and w_free == (weight.ndim - 1,):
    channel_axis = len(x_free) if other_at < weight_at else 0

  def rows(x):
    x = jnp.transpose(x, x_order).astype(dtype)
    return x.reshape(groups, positions, inputs)

  def cotangents(z):
    if other_at < weight_at:  # z is [batch, x's free axes, weight's].
      return z.astype(dtype).reshape(groups, positions, outputs)
    z = z.astype(dtype).reshape(groups, outputs, positions)
    return jnp.swapaxes(z, 1, 2)

  def restore(grad):
    grad = grad.reshape([weight.shape[i] for i in w_order])
    return jnp.transpose(grad, _inverse(w_order))

  def gradient(x, z):
    return restore(sums.outer(rows(x)[None], cotangents(z)[None]))

  return Form(
      groups=groups,
      positions=positions,
      inputs=inputs,
      outputs=outputs,
      gram=lambda x: patches.gram(rows(x)),
      diagonal=lambda x: jnp.sum(jnp.square(rows(x)), axis=-1),
      input_sums=lambda x: jnp.sum(rows(x), axis=-1),
      cotangents=cotangents,
      rows=rows,
      restore=restore,
      gradient=gradient,
      gram_flops=2.0 * groups * positions**2 * inputs,
      channel_axis=channel_axis,
  )


@register("conv_general_dilated")
def conv_general_dilated(site: graph.Site) -> Form | None:
  """x: the patches of the input; S: the groups; D: kernel pixels x channels.

  gradient[s] = patches[s]^T z[s]. Source: Bu et al. 2022 (arXiv 2205.10683).
  The Gram matrix of patches is a sum of shifted slices of that of pixels.
  """
  if site.positions != (1,):
    return None
  layout = patches.layout(site.eqn)
  if layout is None:
    return None
  dtype = _dtype(site)

  def cotangents(z):
    return layout.outputs(z.astype(dtype))

  def gradient(x, z):
    rows = layout.patches(x.astype(dtype))
    return layout.kernel(sums.outer(rows[None], cotangents(z)[None]))

  return Form(
      groups=layout.groups,
      positions=layout.positions,
      inputs=layout.inputs,
      outputs=layout.channels_out,
      gram=lambda x: layout.gram(x.astype(dtype)),
      diagonal=lambda x: layout.patch_sums(jnp.square(x.astype(dtype))),
      input_sums=lambda x: layout.patch_sums(x.astype(dtype)),
      cotangents=cotangents,
      rows=None,
      restore=None,
      gradient=gradient,
      gram_flops=layout.gram_flops,
      channel_axis=layout.channel_axis,
  )


@register("gather")
def gather(site: graph.Site) -> Form | None:
  """Rows looked up by id: x is one-hot, so <x_t, x_u> says if ids are equal.

  gradient[v] = sum of the z_t whose id is v. Source: Li et al. 2022 (arXiv
  2110.05679), section 4.
  """
  table, ids = (v.aval for v in site.eqn.invars)
  names = ("dimension_numbers", "slice_sizes", "mode")
  numbers, sizes, mode = jaxprs.params(site.eqn, *names).values()
  axes = tuple(numbers.collapsed_slice_dims)
  is_lookup = (
      site.positions == (0,)
      and len(axes) == 1
      and tuple(numbers.start_index_map) == axes
      and not numbers.operand_batching_dims
      and mode in _MODES
      and max(table.shape) < jnp.iinfo("int32").max
      and all(sizes[i] == table.shape[i] for i in _rest(table.ndim, axes))
  )
  if not is_lookup:
    return None
  dtype, rows = _dtype(site), table.shape[axes[0]]
  positions = math.prod(ids.shape[:-1])
  outputs = math.prod(table.shape) // rows
  free = _rest(site.outputs[0].aval.ndim, numbers.offset_dims)
  is_clipped = mode == jax.lax.GatherScatterMode.CLIP

  def one_hot_ids(x):
    x = _as_int32(x.reshape(positions))
    if is_clipped:
      return jnp.clip(x, 0, rows - 1), jnp.ones(positions, bool)
    return x, (x >= 0) & (x < rows)  # Others are read as a constant.

  def input_sums(x):
    return one_hot_ids(x)[1].astype(dtype)[None]

  def gram(x):
    x, is_row = one_hot_ids(x)
    same = (x[:, None] == x[None]) & is_row[:, None]
    return same.astype(dtype)[None]

  def cotangents(z):
    z = jnp.transpose(z.astype(dtype), (*free, *numbers.offset_dims))
    return z.reshape(1, positions, outputs)

  def merge(x, z):
    if positions <= sums.POSITIONS:
      return z
    order = (*free, *numbers.offset_dims)
    merged = sums.merged(*one_hot_ids(x), cotangents(z)[0])
    shape = [z.shape[i] for i in order]
    return jnp.transpose(merged.reshape(shape), _inverse(order))

  def gradient(x, z):
    z = merge(x, z)
    x, is_row = one_hot_ids(x)
    at = jnp.where(is_row, x, rows)
    grad = jnp.zeros((rows, outputs), dtype)
    grad = grad.at[at].add(cotangents(z)[0], mode="drop")
    rest = [n for i, n in enumerate(table.shape) if i != axes[0]]
    return jnp.moveaxis(grad.reshape(rows, *rest), 0, axes[0])

  return Form(
      groups=1,
      positions=positions,
      inputs=rows,
      outputs=outputs,
      gram=gram,
      diagonal=input_sums,
      input_sums=input_sums,
      cotangents=cotangents,
      rows=None,
      restore=None,
      merge=merge,
      gradient=gradient,
      gram_flops=float(positions**2),
      channel_axis=None,
  )


def _as_int32(ids):
  """Casts ids, so that no id becomes another: int32's ends mean "beyond"."""
  own, limits = jnp.iinfo(ids.dtype), jnp.iinfo("int32")
  low, high = max(own.min, limits.min), min(own.max, limits.max)
  ids = jnp.maximum(ids, jnp.asarray(low, ids.dtype))
  return jnp.minimum(ids, jnp.asarray(high, ids.dtype)).astype("int32")


def _dtype(site):
  """The dtype of a site's norms: float32 at least, and no operand is cut."""
  atoms = (*site.weights, *site.outputs, *site.data)
  dtypes = [v.aval.dtype for v in atoms if graph.is_inexact(v)]
  return precision.at_least_float32(*dtypes)


def _rest(ndim, *taken):
  return tuple(i for i in range(ndim) if not any(i in axes for axes in taken))


def _size(aval, axes):
  return math.prod(aval.shape[i] for i in axes)


def _inverse(order):
  return tuple(sorted(range(len(order)), key=order.__getitem__))
