"""Weights that are a parameter times a constant, number by number.

A mask, or a scale that no push could move (`pushes.py`), keeps no norm, but it
is the same for all examples: the norm of an example's gradient, times the
constants, has a closed form at one position, and the sum of gradients may be
multiplied by them once.

The invariant: through a path of these, the parameter's gradient is the weight's
times `scale`, number by number, up to moves.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, paths
  >>> mask = jnp.tril(jnp.ones((3, 3)))
  >>> loss = lambda leaves, rows: (jnp.sum(rows[0] @ (leaves[0] * mask)), [])
  >>> split = graph.split(loss, [jnp.ones((3, 3))], [jnp.ones((4, 3))])
  >>> paths.find(split, split.components[0]).mask
  'array'
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import components, flow, graph, rules, tracing

_SHIFTS = ("add", "sub")
_MASKS = ("mul", "div", "select_n")


def own_variables(
    split: graph.Split, component: components.Component
) -> set[Any]:
  """Returns the variables through which a component's gradient passes.

  Args:
    split: The loss.
    component: One of its components.
  """
  own = {split.pieces[i].var for i in component.piece_indices}
  return own.union(*(eqn.outvars for eqn in component.eqns))


def is_mask(eqn: Any, own: Collection[Any]) -> bool:
  """Returns whether an equation joins a parameter with constants in place.

  Args:
    eqn: Equation between a parameter and a weight.
    own: Variables that depend on the parameter.
  """
  name = eqn.primitive.name
  ours = [i for i, v in enumerate(eqn.invars) if tracing.is_var(v) and v in own]
  if name not in (*_SHIFTS, *_MASKS) or len(ours) != 1:
    return False
  (at,) = ours
  if (name == "div" and at != 0) or (name == "select_n" and at == 0):
    return False
  same = eqn.invars[at].aval.shape == eqn.outvars[0].aval.shape
  return same and flow.is_inexact(eqn.outvars[0])


def kind(eqns: Sequence[Any]) -> str | None:
  """Returns "number" or "array", for what equations multiply by; or None.

  Args:
    eqns: Equations of which `is_mask` is true.
  """
  eqns = [eqn for eqn in eqns if eqn.primitive.name not in _SHIFTS]
  if not eqns:
    return None
  is_number = all(
      eqn.primitive.name != "select_n"
      and any(v.aval.shape == () for v in eqn.invars)
      for eqn in eqns
  )
  return "number" if is_number else "array"


def path_fn(
    split: graph.Split,
    component: components.Component,
    shared: tracing.Env,
) -> Callable[[jax.Array], list[jax.Array]]:
  """Returns the function from a component's one piece to its weights.

  Casts on the way are left out: what is in float32 stays in it.

  Args:
    split: The loss.
    component: The component; its path is isometric or through masks.
    shared: Values of all shared variables.
  """
  own = own_variables(split, component)

  def run(value):
    env = dict(shared)
    env[split.pieces[component.piece_indices[0]].var] = value
    for eqn in component.eqns:
      if eqn.primitive.name == "convert_element_type":
        env[eqn.outvars[0]] = env[eqn.invars[0]]
      elif len(eqn.invars) == 1:
        tracing.evaluate([eqn], env)
      else:
        env[eqn.outvars[0]] = _masked(eqn, env, own, value.dtype)
    return [env[weight] for weight in component.weights]

  return run


def _masked(eqn, env, own, dtype):
  """What a mask gives, computed in a dtype."""
  values = []
  for atom in eqn.invars:
    value = tracing.read(env, atom)
    is_own = tracing.is_var(atom) and atom in own
    if not is_own and jnp.issubdtype(jnp.result_type(value), jnp.floating):
      value = jnp.asarray(value, dtype)
    values.append(value)
  return jaxprs.bind(eqn, values)[0]


def scale(
    split: graph.Split,
    component: components.Component,
    shared: tracing.Env,
    dtype: Any,
) -> jax.Array:
  """Returns what the gradient of the one weight is multiplied by.

  Args:
    split: The loss.
    component: The component; its path is through masks.
    shared: Values of all shared variables.
    dtype: Dtype of the result, which has the weight's shape.
  """
  own = split.pieces[component.piece_indices[0]].var
  one = jnp.ones(own.aval.shape, dtype)
  run = path_fn(split, component, shared)
  return jax.jvp(run, [jnp.zeros_like(one)], [one])[1][0]


def has_closed_norm(form: rules.Form | None) -> bool:
  """Returns whether a masked gradient's norm has a closed form.

  Args:
    form: Form of the one site.
  """
  return form is not None and form.num_positions == 1 and bool(form.rows)


def squared_norm(
    form: rules.Form, x: jax.Array, z: jax.Array, factor: jax.Array
) -> jax.Array:
  """Returns the squared norm of one example's gradient times constants.

  The sum over i, j of x_i^2 m_ij^2 z_j^2.

  Args:
    form: The site's form, of one position.
    x: Its operand.
    z: Cotangents, [S, 1, P].
    factor: Constants, in the weight's shape; see `scale`.
  """
  assert form.rows is not None  # `has_closed_norm` has seen to it.
  rows = form.rows(x)[:, 0]
  like = jax.ShapeDtypeStruct(
      (form.num_groups, form.num_inputs, form.num_outputs), factor.dtype
  )
  (factor,) = jax.linear_transpose(form.restore, like)(factor)
  squares = jnp.einsum(
      "sd,sdp->sp",
      jnp.square(rows),
      jnp.square(factor),
      precision=jax.lax.Precision.HIGHEST,
  )
  return jnp.sum(squares * jnp.square(z[:, 0]))
