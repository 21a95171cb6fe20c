"""Clip norms that are traced, such as one that adapts within a compiled step.

Clipping a gradient g to C is clipping g / C to 1, times C. So the loss is
divided by the traced C, its gradients are clipped to 1 by the same method as
ever, and the sum is multiplied by C.

The invariant: one example moves the sum by at most C over `normalize_by` (1
over it, if rescaled), for any C: what is multiplied by C was clipped to 1. A C
out of its range gives zeros.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy import clipping
  >>> loss = lambda w, x: 0.5 * jnp.mean((x - w) ** 2)
  >>> x = jnp.array([0.0, 7.0, 2.0])
  >>> step = jax.jit(
  ...     lambda c: clipping.clipped_grad(loss, l2_clip_norm=c)(3.0, x))
  >>> print(step(2.0), step(jnp.nan))  # 2 - 2 + 1
  1.0 0.0
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, cast

import jax
import jax.numpy as jnp

from jax_privacy import _validate, clipping_functions
from jax_privacy.sensitivity import BoundedSensitivityCallable

_P = ParamSpec("_P")


def allowed(
    clipped_grad: Callable[_P, BoundedSensitivityCallable],
) -> Callable[_P, BoundedSensitivityCallable]:
  """Returns `clipped_grad`, which takes a traced clip norm too.

  Args:
    clipped_grad: Function of that name, for clip norms that are numbers.
  """

  @functools.wraps(clipped_grad)
  def with_traced(*args: _P.args, **kwargs: _P.kwargs):
    clip_norm: Any = kwargs.get("l2_clip_norm")
    leaves = jax.tree.leaves(clip_norm)
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
      return clipped_grad(*args, **kwargs)
    if not isinstance(clip_norm, jax.core.Tracer) or clip_norm.ndim:
      rule = "a scalar where it is traced (a pytree of norms must be numbers)"
      _validate.fail("l2_clip_norm", rule, clip_norm)
    made: Any = of_array
    return made(clipped_grad, *args, **kwargs)

  return with_traced


def of_array(
    clipped_grad: Callable[..., BoundedSensitivityCallable],
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    l2_clip_norm: jax.Array,
    rescale_to_unit_norm: bool = False,
    return_values: bool = False,
    return_grad_norms: bool = False,
    pre_clipping_transform: Callable[[Any], Any] | None = None,
    grid_scale: None = None,
    clipping: Any = "standard",
    **options: Any,
) -> BoundedSensitivityCallable:
  """Returns the sum for a clip norm that is an array, traced or not.

  Args:
    clipped_grad: Function of that name.
    fun: Loss; see there for this and all below.
    argnums: Positions of the arguments to differentiate.
    has_aux: Whether the loss returns (loss, aux).
    l2_clip_norm: Clip norm, a scalar array.
    rescale_to_unit_norm: Whether to divide the sum by the clip norm.
    return_values: Whether to return losses too.
    return_grad_norms: Whether to return norms before clipping too.
    pre_clipping_transform: Function of each example's gradient.
    grid_scale: None; there is no grid for it.
    clipping: Weight of a gradient, by its norm.
    **options: Other options of `clipped_grad`.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  if grid_scale is not None:
    _validate.fail("grid_scale", "None with a traced l2_clip_norm", grid_scale)
  dtype = jnp.promote_types(l2_clip_norm.dtype, jnp.float32)
  clip_norm = l2_clip_norm.astype(dtype)
  is_valid = (clip_norm >= _validate.MIN_CLIP_NORM) & (
      clip_norm <= _validate.MAX_CLIP_NORM
  )
  unit = jnp.where(is_valid, clip_norm, 1)

  def scaled(*args, **named):
    found = fun(*args, **named)
    loss, aux = found if has_aux else (found, None)
    return loss / unit.astype(jnp.result_type(loss)), (loss, aux)

  def of_whole(transform, grads):
    whole = jax.tree.map(lambda g: g * unit.astype(g.dtype), grads)
    return jax.tree.map(lambda g: g / unit.astype(g.dtype), transform(whole))

  function = clipping_functions.get(clipping)
  if function is not None:
    options["clipping"] = clipping_functions.InUnits(function, unit)
  inner = clipped_grad(
      scaled,
      argnums,
      True,
      l2_clip_norm=1.0,
      return_grad_norms=True,
      pre_clipping_transform=pre_clipping_transform
      and functools.partial(of_whole, pre_clipping_transform),
      **options,
  )
  factor = jnp.ones_like(unit) if rescale_to_unit_norm else unit

  def clipped_grad_fn(*args, is_padding_example=None, **named):
    total, found = inner(*args, is_padding_example=is_padding_example, **named)
    total = jax.tree.map(
        lambda g: jnp.where(is_valid, g * factor.astype(g.dtype), 0), total
    )
    if not (has_aux or return_values or return_grad_norms):
      return total
    values, aux = found.aux
    norms = found.grad_norms
    return total, found._replace(
        values=values if return_values else None,
        grad_norms=norms * unit.astype(norms.dtype)
        if return_grad_norms
        else None,
        aux=aux if has_aux else None,
    )

  return BoundedSensitivityCallable(
      fun=clipped_grad_fn,
      l2_norm_bound=cast(Any, inner.l2_norm_bound * factor),
      has_aux=has_aux or return_values or return_grad_norms,
      keys_by_position=inner.keys_by_position,
      explain_fn=inner.explain_fn,
  )
