"""Refuses programs that XLA is known to split over devices wrongly.

Under `jax.jit`, arrays that are sharded over several devices make XLA split the
program by itself. For one kind of convolution, its partitioner gives wrong
numbers without an error (seen in jaxlib 0.10.2 on CPU devices; the pass is the
same on every platform). This is a convolution that
  - has groups of one input channel each (a depthwise kernel),
  - is sharded along these groups, and
  - has axes in another order in its output than in its input, such that the
    order's inverse puts the channels elsewhere than the order itself.
`jax.vmap(jax.grad(...))` turns an ordinary convolution's weight gradient into
one of these. Examples become groups, and the first examples of the first device
appear where those of the others should be.

The invariant: a function that was `checked` and holds such a convolution is not
compiled for several devices; it raises ValueError. It may be compiled if each
device runs a part of its own (`jax.shard_map`, as in `clipped_grad(mesh=...)`).

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy import partitioner
  >>> def loss(kernel, image):
  ...   axes = ("NHWC", "HWIO", "NHWC")
  ...   return jnp.sum(jnp.sin(jax.lax.conv_general_dilated(
  ...       image[None], kernel, (1, 1), "SAME", dimension_numbers=axes)))
  >>> grads_fn = jax.vmap(jax.grad(loss), in_axes=(None, 0))
  >>> shapes = [(3, 3, 2, 5), (4, 8, 8, 2)]
  >>> jaxpr = jax.make_jaxpr(grads_fn)(*map(jnp.zeros, shapes)).jaxpr
  >>> partitioner.is_split_wrongly(jaxpr)
  True
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex_core
from jax.interpreters import ad, batching, mlir

from jax_privacy import jaxprs

_REASON = (
    "a gradient with this convolution must be compiled for one device, since"
    " XLA splits it wrongly (see jax_privacy/partitioner.py), got {num}. Give"
    " clipped_grad or make_private the mesh, mesh=..., or call within"
    " jax.shard_map."
)


def checked(fun: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `fun`, made to raise where XLA would split it wrongly.

  Args:
    fun: Function of pytrees of arrays.

  Returns:
    A function of the same results. It raises ValueError when it is compiled
    for, or called on arrays on, several devices, if it holds a convolution of
    the kind described above. Where this process sees one device only, nothing
    is checked, at no cost; else `fun` is traced once more.
  """

  def call(*args):
    if jax.device_count() == 1 or _is_one_device_of_many():
      return fun(*args)
    if is_split_wrongly(jax.make_jaxpr(fun)(*args).jaxpr):
      args = jax.tree.map(_guarded, args)
    return fun(*args)

  return call


def is_split_wrongly(jaxpr: Any) -> bool:
  """Returns whether a jaxpr holds a convolution as described above.

  Args:
    jaxpr: Jaxpr, with those inside it.
  """
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "conv_general_dilated" and _is_wrong(eqn):
      return True
    if any(map(is_split_wrongly, jaxprs.held(eqn))):
      return True
  return False


def _is_wrong(eqn) -> bool:
  if jaxprs.param(eqn, "feature_group_count") == 1:
    return False
  axes = jaxprs.param(eqn, "dimension_numbers")
  kernel_shape = eqn.invars[1].aval.shape
  if kernel_shape[axes.rhs_spec[1]] > 1:  # Is replicated, at a cost, not split.
    return False
  # The place of axis i of the input in the output, and the inverse.
  order = dict(zip(axes.lhs_spec, axes.out_spec, strict=True))
  inverse = dict(zip(axes.out_spec, axes.lhs_spec, strict=True))
  channels = axes.lhs_spec[1]
  return order[channels] != inverse[channels]


def _is_one_device_of_many() -> bool:
  """Whether what is traced is one device's own part: XLA splits no further."""
  mesh = jax.sharding.get_abstract_mesh()
  return not mesh.empty and mesh.are_all_axes_manual


# The identity. What it is compiled for is known when it is lowered, and not
# before: shardings of arguments are no part of what `jax.jit` traces.
_guard = jex_core.Primitive("refuse_to_be_split")
_guard.def_abstract_eval(lambda x: x)
ad.deflinear2(_guard, lambda cotangent, _: [cotangent])


def _guarded(x):
  return _guard.bind(x) if isinstance(x, jax.Array) else x


@_guard.def_impl
def _run(x):
  _refuse_above_one(len(x.sharding.device_set))
  return x


def _lower(ctx, x):
  _refuse_above_one(_num_split(ctx.module_context.axis_context))
  return [x]


def _batch(args, axes):
  return _guard.bind(*args), axes[0]


mlir.register_lowering(_guard, _lower)
batching.primitive_batchers[_guard] = _batch


def _num_split(context) -> int:
  """Over how many devices XLA splits a program: see jax's AxisContext."""
  if not hasattr(context, "manual_axes"):
    return context.num_devices
  size = 1
  for name, length in context.mesh.shape.items():
    size *= 1 if name in context.manual_axes else length
  return size


def _refuse_above_one(num: int) -> None:
  if num > 1:
    raise ValueError(_REASON.format(num=num))
