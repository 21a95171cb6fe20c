"""A product with a weight, as products with what the weight is made of.

The invariant: what is computed is the same, up to rounding.

Example:
  >>> from jax_privacy.ghost import products
  >>> sorted(products.STEPS)
  ['add', 'div', 'dot_general', 'mul', 'sub']
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import tracing
from jax_privacy.ghost.making import Made
from jax_privacy.ghost.rules import axes

Move = Callable[[tracing.Env], jax.Array]


def push(eqn: Any, at: int, made: Made) -> Move | None:
  """Returns a function from values to the product, or None to leave it.

  Args:
    eqn: Equation of a product, `dot_general`.
    at: Number of its operand that is the weight.
    made: Equations that make the weight.
  """
  step = STEPS.get(made.name)
  return None if step is None else step(eqn, at, made)


def _with(eqn, at, env, weight):
  """The product with another weight."""
  operands = [tracing.read(env, v) for v in eqn.invars]
  operands[at] = weight
  return jaxprs.bind(eqn, operands)[0]


def _sum(eqn, at, made) -> Move | None:
  """X (A + B) = x A + x B, if one of them is a product of low rank."""
  atoms = made.maker.invars
  if any(v.aval.shape != made.shape for v in atoms):
    return None
  if not any(_is_low_rank(atom, made) for atom in atoms):
    return None

  def move(env):
    parts = [made.through(tracing.read(env, v)) for v in atoms]
    parts = [_with(eqn, at, env, part) for part in parts]
    return jaxprs.bind(made.maker, parts)[0]

  return move


def _is_low_rank(atom, made) -> bool:
  """Whether a weight is a product of low rank, up to a number."""
  inner = Made.of(atom, made.makers, made.origins)
  if inner is None:
    return False
  if inner.name == "mul":
    full = [v for v in inner.maker.invars if math.prod(v.aval.shape) > 1]
    return len(full) == 1 and _is_low_rank(full[0], inner)
  return inner.name == "dot_general" and _saves(inner.maker)


def _saves(eqn) -> bool:
  """Whether two products cost less than one with the product of matrices."""
  contracting, batch = jaxprs.param(eqn, "dimension_numbers")
  a, b = (v.aval for v in eqn.invars)
  if (a.ndim, b.ndim) != (2, 2) or any(batch) or len(contracting[0]) != 1:
    return False
  rank = a.shape[contracting[0][0]]
  size_a, size_b = a.size // max(rank, 1), b.size // max(rank, 1)
  return rank * (size_a + size_b) < size_a * size_b


def _low_rank(eqn, at, made) -> Move | None:
  """X (A B) = (x A) B."""
  contracting, batch = jaxprs.param(eqn, "dimension_numbers")
  order = made.permutation()
  if any(batch) or len(contracting[at]) != 1 or order is None:
    return None
  if not _saves(made.maker):
    return None
  (inner, _), _ = jaxprs.param(made.maker, "dimension_numbers"), None
  first = order[contracting[at][0]]  # 0 if x meets A, 1 if it meets B.
  near, far = made.maker.invars[first], made.maker.invars[1 - first]
  inner_near, inner_far = inner[first][0], inner[1 - first][0]
  x_axis, dtype = contracting[1 - at][0], eqn.outvars[0].aval.dtype

  def move(env):
    x = tracing.read(env, eqn.invars[1 - at])
    near_value, far_value = (
        tracing.read(env, v).astype(eqn.invars[at].aval.dtype)
        for v in (near, far)
    )
    options = {"precision": jaxprs.param(eqn, "precision")}
    options["preferred_element_type"] = dtype
    numbers = (((x_axis,), (1 - inner_near,)), ((), ()))
    x = jax.lax.dot_general(x, near_value, numbers, **options)
    numbers = (((x.ndim - 1,), (inner_far,)), ((), ()))
    out = jax.lax.dot_general(x, far_value, numbers, **options)
    return jnp.moveaxis(out, -1, 0) if at == 0 else out

  return move


def _scaled(eqn, at, made) -> Move | None:
  """X (s A) = s (x A), and x (A s) = (x A) s, or (x s) A."""
  a, b = made.maker.invars
  swaps = made.name == "mul" and math.prod(a.aval.shape) < math.prod(
      b.aval.shape
  )
  full, scale = (b, a) if swaps else (a, b)
  varied = [i for i, n in enumerate(scale.aval.shape) if n != 1]
  order = made.permutation()
  if (
      full.aval.shape != made.shape
      or len(varied) > 1
      or made.shares(full, scale)
      or (varied and order is None)
      or (varied and scale.aval.shape[varied[0]] != made.shape[varied[0]])
  ):
    return None
  place = None
  if varied:
    place = _place(eqn, at, order.index(varied[0]))

  def scaled(x, axis, env):
    factor = tracing.read(env, scale)
    shape = [1] * x.ndim
    if varied:
      shape[axis] = scale.aval.shape[varied[0]]
    factor = jnp.asarray(factor).reshape(shape).astype(x.dtype)
    return x * factor if made.name == "mul" else x / factor

  def move(env):
    weight = made.through(tracing.read(env, full))
    if place is not None and place[0] == "x":
      inner = dict(env)
      x = eqn.invars[1 - at]
      inner[x] = scaled(env[x], place[1], env)
      return _with(eqn, at, inner, weight)
    axis = place[1] if place else 0
    return scaled(_with(eqn, at, env, weight), axis, env)

  return move


def _place(eqn, at, axis) -> tuple[str, int]:
  """Where a weight's axis is: in the other operand, or in the output."""
  contracting, batch = jaxprs.param(eqn, "dimension_numbers")
  if axis in contracting[at]:
    return "x", contracting[1 - at][list(contracting[at]).index(axis)]
  if axis in batch[at]:
    return "output", list(batch[at]).index(axis)
  ndims = [v.aval.ndim for v in eqn.invars]
  free = [axes.others(n, contracting[i], batch[i]) for i, n in enumerate(ndims)]
  before = len(batch[at]) + (len(free[0]) if at == 1 else 0)
  return "output", before + free[at].index(axis)


# Primitive -> how a product with what it makes is moved to the front.
STEPS: dict[str, Callable[[Any, int, Made], Move | None]] = {
    "add": _sum,
    "div": _scaled,
    "dot_general": _low_rank,
    "mul": _scaled,
    "sub": _sum,
}
