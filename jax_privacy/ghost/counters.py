"""Loops that cut layers out by their number, as loops over the layers.

`jax.lax.fori_loop` with `w[i]` in it reads all layers in every iteration, and
one of them counts. If the numbers are known when the loss is traced, and are
those of consecutive layers, the loop may as well be given the layers one by
one. Each is then a parameter of its own iteration.

The invariant: what is computed is the same, bit for bit. Numbers that are not
known, or that repeat, leave a loop as it is.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import counters
  >>> layer = lambda w: lambda i, h: jnp.tanh(h @ w[i])
  >>> loss = lambda w, x: jax.lax.fori_loop(0, 4, layer(w), x)
  >>> closed = jax.make_jaxpr(loss)(jnp.ones((4, 3, 3)), jnp.ones((5, 3)))
  >>> made = counters.unindexed(closed, [True, False], [False, True])
  >>> [v.aval.shape for v in made.jaxpr.eqns[-1].invars if v.aval.ndim]
  [(5, 3), (4, 3, 3)]
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np

from jax_privacy import jaxprs
from jax_privacy.ghost import flow, tracing

# What is done to numbers, before they number anything.
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "sub": np.subtract,
}
# Constants that are looked into have at most so few.
_MOST_NUMBERS = 4096


class _Cuts(NamedTuple):
  """A loop, and which of its equations cut out consecutive layers.

  Attributes:
    loop: Contents of the equation of the loop.
    closed: Its body, with calls opened.
    found: Numbers of constant operands and (first layer, whether layers come
      last first), by the identity of the equations that cut.
  """

  loop: jaxprs.Scan
  closed: Any
  found: dict[int, tuple[int, int, bool]]


def unindexed(
    closed: Any,
    is_weight: Sequence[bool],
    is_data: Sequence[bool],
    *,
    keeps_remat: bool = False,
) -> Any:
  """Returns a flat jaxpr whose loops are given the layers that they cut out.

  Args:
    closed: A closed jaxpr.
    is_weight: Booleans, whether an input depends on parameters.
    is_data: Booleans, whether it depends on the example.
    keeps_remat: Whether what is in a checkpointed region is left alone.
  """
  jaxpr = closed.jaxpr
  scans = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
  if not scans:
    return closed
  weights = flow.reach(jaxpr, is_weight, is_data).weights
  known = _known_outside(closed)
  made = {id(eqn): _cuts(eqn, weights, known, keeps_remat) for eqn in scans}
  made = {key: cuts for key, cuts in made.items() if cuts and cuts.found}
  if not made:
    return closed

  def run(*args):
    env = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
      values = [tracing.read(env, atom) for atom in eqn.invars]
      if id(eqn) in made:
        outs = _run(made[id(eqn)], values)
      else:
        outs = jaxprs.bind(eqn, values)
      env.update(zip(eqn.outvars, outs, strict=True))
    return [tracing.read(env, atom) for atom in jaxpr.outvars]

  return jax.make_jaxpr(run)(*(var.aval for var in jaxpr.invars))


def _cuts(eqn, weights, known, keeps_remat) -> _Cuts | None:
  """What a loop cuts out of its constant operands; None if it is not known."""
  loop = jaxprs.scan(eqn)
  num = loop.num_consts
  if not loop.options["length"] or not any(
      tracing.is_var(v) and v in weights for v in eqn.invars[:num]
  ):
    return None
  enters = [True] * len(loop.body.invars)
  closed = tracing.opened(loop.closed, enters, keeps_remat=keeps_remat)
  body = closed.jaxpr
  rows = _known_inside(eqn, loop, body, known)
  operands = dict(zip(body.invars[:num], eqn.invars[:num], strict=True))
  found = {}
  for inner in body.eqns:
    if inner.primitive.name == "dynamic_slice":
      operand = operands.get(inner.invars[0])
      if operand is not None and operand in weights:
        place = _place(inner, rows, loop.options["length"])
        if place is not None:
          found[id(inner)] = (body.invars.index(inner.invars[0]), *place)
  return _Cuts(loop, closed, found)


def _place(eqn, rows, length) -> tuple[int, bool] | None:
  """The first of the layers that are cut out, and whether it comes last."""
  operand, first = eqn.invars[:2]
  shape, sizes = operand.aval.shape, jaxprs.param(eqn, "slice_sizes")
  if sizes != (1, *shape[1:]) or not jnp.issubdtype(
      operand.aval.dtype, jnp.floating
  ):
    return None  # A whole layer starts at 0 along all other axes.
  numbers = _value(first, rows)
  if numbers is None:
    return None
  numbers = np.broadcast_to(np.clip(numbers, 0, shape[0] - 1), length)
  start = int(numbers.min())
  ascending = np.arange(start, start + length)
  if np.array_equal(numbers, ascending):
    return start, False
  if np.array_equal(numbers, ascending[::-1]):
    return start, True
  return None


def _known_outside(closed) -> dict[Any, np.ndarray]:
  """Integers that depend on nothing: constants, and counts of them."""
  found = {
      var: np.asarray(value)
      for var, value in zip(closed.jaxpr.constvars, closed.consts, strict=True)
      if _is_whole(var)
      and var.aval.size <= _MOST_NUMBERS
      and not isinstance(value, jax.core.Tracer)
  }
  for eqn in closed.jaxpr.eqns:
    if eqn.primitive.name == "iota" and not eqn.invars:
      (out,) = eqn.outvars
      if (
          out.aval.ndim == 1
          and _is_whole(out)
          and out.aval.size <= _MOST_NUMBERS
      ):
        found[out] = np.arange(out.aval.shape[0]).astype(out.aval.dtype)
    else:
      _compute(eqn, found)
  return found


def _known_inside(eqn, loop, body, known) -> dict[Any, np.ndarray]:
  """Integers of each iteration, in the order of what the loop runs over."""
  length = loop.options["length"]
  first, last = loop.num_consts, loop.num_consts + loop.num_carry
  steps = np.arange(length)[:: -1 if loop.options["reverse"] else 1]
  adders = {e.outvars[0]: e for e in body.eqns if e.primitive.name == "add"}
  found = {}
  for i, (var, atom) in enumerate(zip(body.invars, eqn.invars, strict=True)):
    start = _value(atom, known) if _is_whole(atom) else None
    if start is None or var.aval.shape:
      continue
    if i < first or i >= last:
      found[var] = start
      continue
    out = body.outvars[i - first]
    adder = adders.get(out) if tracing.is_var(out) else None
    if adder is None or not any(v is var for v in adder.invars):
      continue
    literals = [v for v in adder.invars if not tracing.is_var(v)]
    if len(literals) == 1:
      found[var] = (start + int(literals[0].val) * steps).astype(var.aval.dtype)
  for inner in body.eqns:
    _compute(inner, found)
  return found


def _compute(eqn, found) -> None:
  """Adds what an equation makes of known integers to them."""
  name = eqn.primitive.name
  is_known = name in (*_ARITHMETIC, "select_n", "convert_element_type")
  if not is_known or not all(map(_is_whole, (*eqn.invars, *eqn.outvars))):
    return
  values: list[Any] = [_value(atom, found) for atom in eqn.invars]
  if not values or any(value is None for value in values):
    return
  (out,) = eqn.outvars
  if name == "select_n":
    if len(values) != 3 or values[0].dtype != bool:
      return
    made = np.where(values[0], values[2], values[1])
  elif name == "convert_element_type":
    (made,) = values
  else:
    with np.errstate(over="ignore"):  # They wrap around, as XLA's do.
      made = _ARITHMETIC[name](*values)
  found[out] = made.astype(out.aval.dtype)


def _value(atom, found) -> np.ndarray | None:
  if isinstance(atom, jex_core.Literal):
    return np.asarray(atom.val)
  return found.get(atom)


def _is_whole(atom) -> bool:
  dtype = getattr(atom.aval, "dtype", None)
  return dtype is not None and (
      jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)
  )


def _run(cuts, values):
  """Runs a loop that is given what it would have cut out."""
  loop, closed, body = cuts.loop, cuts.closed, cuts.closed.jaxpr
  first, last = loop.num_consts, loop.num_consts + loop.num_carry
  layers = {
      key: _layers(values[operand], start, is_reversed, loop)
      for key, (operand, start, is_reversed) in cuts.found.items()
  }
  base = dict(zip(body.constvars, closed.consts, strict=True))
  base.update(zip(body.invars[:first], values[:first], strict=True))

  def step(carry, rows):
    rows, own = rows
    env = dict(base)
    env.update(zip(body.invars[first:], [*carry, *rows], strict=True))
    for eqn in body.eqns:
      if id(eqn) in own:
        env[eqn.outvars[0]] = jax.lax.expand_dims(own[id(eqn)], (0,))
      else:
        tracing.evaluate([eqn], env)
    outs = [tracing.read(env, atom) for atom in body.outvars]
    return outs[: loop.num_carry], outs[loop.num_carry :]

  xs = (values[last:], layers)
  carry, ys = jax.lax.scan(step, values[first:last], xs, **loop.options)
  return [*carry, *ys]


def _layers(value, start, is_reversed, loop):
  """The layers, in the order of what the loop runs over."""
  length = loop.options["length"]
  if start or length != value.shape[0]:
    value = jax.lax.slice_in_dim(value, start, start + length)
  return jax.lax.rev(value, (0,)) if is_reversed else value
