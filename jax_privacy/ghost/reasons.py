"""What comes between a parameter and its weight, in plain words.

For `clipped_grad(...).explain(...)`. The invariant: words change no plan.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph, paths
  >>> loss = lambda leaves, rows: (jnp.sum(rows[0] @ leaves[0].cumsum(0)), [])
  >>> split = graph.split(loss, [jnp.ones((3, 3))], [jnp.ones((4, 3))])
  >>> print(paths.find(split, split.components[0]).reason)
  the parameter is summed before use
"""

from typing import Any

from jax_privacy.ghost import components, graph, tracing

# Primitive -> what it does to its first operand; {} is its second.
_DONE = {
    "add": "added to {}",
    "add_any": "added to {}",
    "broadcast_in_dim": "repeated",
    "concatenate": "joined with {}",
    "convert_element_type": "cast to another kind of number",
    "cumsum": "summed",
    "custom_jvp_call": "changed by a function with a derivative of its own",
    "custom_vjp_call": "changed by a function with a derivative of its own",
    "div": "divided by {}",
    "dot_general": "multiplied, as a matrix, by {}",
    "dynamic_slice": "cut at an index that is computed",
    "dynamic_update_slice": "written into {}",
    "gather": "indexed",
    "mul": "multiplied by {}",
    "pad": "padded",
    "reduce_sum": "summed",
    "scan": "changed in a loop",
    "scatter": "written into {}",
    "select_n": "chosen from by a mask",
    "slice": "cut into pieces that overlap, or used in other ways too,",
    "split": "cut into pieces, and used in other ways too,",
    "sub": "subtracted from {}, or the reverse",
    "tile": "repeated",
    "while": "changed in a loop",
}


def of_change(
    split: graph.Split, component: components.Component, eqn: Any
) -> str:
  """Returns what an equation does to a parameter before it is used.

  Args:
    split: The loss.
    component: The component of the parameter.
    eqn: One of its equations.
  """
  name = eqn.primitive.name
  done = _DONE.get(name, f"changed by `{name}`")
  if "{}" in done:
    done = done.format(_other(split, component, eqn))
  return f"the parameter is {done} before use"


def _other(split, component, eqn):
  """What an equation of several operands joins a parameter with."""
  ours = {split.pieces[i].var for i in component.piece_indices}
  ours.update(*(e.outvars for e in component.eqns))
  others = [v for v in eqn.invars if not (tracing.is_var(v) and v in ours)]
  if not others:
    is_one = len(set(map(id, eqn.invars))) == 1
    return "itself" if is_one else "another parameter, or another use of it"
  if all(v.aval.shape == () for v in others):
    return "a number"
  if eqn.primitive.name in ("mul", "div"):
    return "a constant array, such as a mask,"
  return "a constant array"
