"""Lifts sites out of loops: what happens in a scan's body is seen outside.

A scan that reads parameters would be one site without a rule. Here it becomes a
scan whose body takes, as further scanned inputs, a zero for the output of each
of its own sites, and gives, as further scanned outputs, what these sites read
of the example. Outside there is then, for each, one equation over all
iterations (`stacked.py`): it is never run for the loss, but it is a site. What
the body makes of parameters alone is made outside too.

A weight that is scanned over makes the loop's axis a batch axis of the site;
one that is the same in every iteration makes it positions. Loops in loops are
lifted from the inside out.

The invariant: a lifted jaxpr gives what the jaxpr gives, and the gradient that
passes through its loops is the sum over their lifted sites.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import loops
  >>> def loss(w, x):
  ...   step = lambda h, layer: (jnp.tanh(h @ layer), None)
  ...   return jnp.sum(jax.lax.scan(step, x, w)[0])
  >>> closed = jax.make_jaxpr(loss)(jnp.ones((4, 3, 3)), jnp.ones((5, 3)))
  >>> lifted = loops.lift(closed, [True, False], [False, True])
  >>> [[v.aval.shape for v in site.eqn.invars] for site in lifted.sites]
  [[(4, 5, 3), (4, 3, 3)]]
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import counters, flow, hoisting, pushes, stacked, tracing
from jax_privacy.ghost.bodies import Body, LiftedSite


class Lifted(NamedTuple):
  """A jaxpr whose loops are lifted.

  Attributes:
    closed: The jaxpr. After its `num_outs` outputs come, for each lifted site,
      its outputs and as many zeros.
    num_outs: Number of outputs before that.
    sites: The lifted sites.
  """

  closed: Any
  num_outs: int
  sites: tuple[LiftedSite, ...]


def lift(
    closed: Any, is_weight: Sequence[bool], is_data: Sequence[bool]
) -> Lifted:
  """Returns a flat jaxpr with its loops lifted.

  Args:
    closed: A closed jaxpr, as `tracing.opened` gives it.
    is_weight: Booleans, whether an input depends on parameters.
    is_data: Booleans, whether it depends on the example.
  """
  closed = counters.unindexed(closed, is_weight, is_data)
  closed = pushes.push(closed, is_weight, is_data)
  jaxpr = closed.jaxpr
  reached = flow.reach(jaxpr, is_weight, is_data)
  joining = [eqn for eqn in jaxpr.eqns if _joins(eqn, reached)]
  bodies = {id(eqn): _body(eqn, reached) for eqn in joining}
  bodies = {
      key: body
      for key, body in bodies.items()
      if not body.sums_before_own_transpose
  }
  if not bodies:
    return Lifted(closed, len(jaxpr.outvars), ())

  def run(*args):
    env = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    marks = []
    for eqn in jaxpr.eqns:
      values = [tracing.read(env, atom) for atom in eqn.invars]
      if id(eqn) in bodies:
        outs, made = _run(bodies[id(eqn)], values)
        marks += made
      else:
        outs = jaxprs.bind(eqn, values)
      env.update(zip(eqn.outvars, outs, strict=True))
    return [tracing.read(env, atom) for atom in jaxpr.outvars], marks

  avals = [var.aval for var in jaxpr.invars]
  made, (outs, marks) = jax.make_jaxpr(run, return_shape=True)(*avals)
  names = [name for body in bodies.values() for name in body.names]
  counts = [len(outputs) for outputs, _ in marks]
  return Lifted(made, len(outs), _marked(made.jaxpr, len(outs), names, counts))


def _joins(eqn, reached) -> bool:
  """Whether an equation is a loop in which parameters meet data."""
  read = flow.variables(eqn)
  return (
      eqn.primitive.name == "scan"
      and any(v in reached.data for v in read)
      and any(v in reached.weights for v in read)
  )


def _marked(jaxpr, num_outs, names, counts) -> tuple[LiftedSite, ...]:
  """The lifted sites, from the outputs that mark them."""
  makers = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
  marks = iter(jaxpr.outvars[num_outs:])
  sites = []
  for name, count in zip(names, counts, strict=True):
    outputs = list(itertools.islice(marks, count))
    zeros = tuple(itertools.islice(marks, count))
    sites.append(LiftedSite(makers[outputs[0]], zeros, name))
  return tuple(sites)


def _body(eqn, reached) -> Body:
  """A loop's body, flat, its own loops lifted, and what depends on what."""
  loop = jaxprs.scan(eqn)
  is_data = [tracing.is_var(v) and v in reached.data for v in eqn.invars]
  is_weight = [tracing.is_var(v) and v in reached.weights for v in eqn.invars]
  flags = _settled(loop, loop.body, is_weight, is_data, ())
  enters = [w or d for w, d in zip(*flags, strict=True)]
  closed = tracing.opened(loop.closed, enters)
  # With its calls opened, less of it may depend on the example.
  flags = _settled(loop, closed.jaxpr, is_weight, is_data, ())
  lifted = lift(closed, *flags)
  flags = _settled(loop, lifted.closed.jaxpr, is_weight, is_data, lifted.sites)
  reached = flow.reach(
      lifted.closed.jaxpr, *flags, {v for s in lifted.sites for v in s.zeros}
  )
  first = loop.num_consts
  learned = tuple(
      i
      for i in range(loop.num_carry)
      if is_weight[first + i] and flags[1][first + i]
  )
  return Body(
      loop, lifted.closed, lifted.num_outs, lifted.sites, reached, learned
  )


def _settled(loop, jaxpr, is_weight, is_data, sites):
  """Flags of a body's inputs, with what iterations hand on."""
  zeros = {var for site in sites for var in site.zeros}
  start, num = loop.num_consts, loop.num_carry
  is_weight, is_data = list(is_weight), list(is_data)
  while True:
    reached = flow.reach(jaxpr, is_weight, is_data, zeros)
    before = list(is_weight), list(is_data)
    for i, out in enumerate(jaxpr.outvars[:num], start):
      if tracing.is_var(out):
        is_weight[i] |= out in reached.weights
        is_data[i] |= out in reached.data
    if (is_weight, is_data) == before:
      return is_weight, is_data


def _run(body: Body, values) -> tuple[list[Any], list[Any]]:
  """Runs a loop: its outputs, and (outputs, zeros) of each lifted site."""
  if not body.length:
    return _unrun(body, values), []
  made = hoisting.hoist(body, values)
  over = [
      stacked.Stacked.of(site.eqn, body.axes(site), body.length)
      for site in body.sites
  ]
  zeros = [each.zeros() for each in over]
  starts, marks_of_starts = _starts(body, values)
  added = body.added([stacks for _, stacks in zeros])
  carry, rows, stacks = _scan(body, values, made, starts, added)
  outs = [
      _out(body, i, values, made, carry, rows) for i in range(body.num_outs)
  ]
  marks = []
  for site, each, (cores, _) in zip(body.sites, over, zeros, strict=True):
    read = flow.variables(site.eqn)
    operands = [_operand(body, v, values, made, stacks) for v in read]
    marks.append((each.outputs(operands), cores))
  return outs, marks + marks_of_starts


def _unrun(body, values):
  """The outputs of a loop without iterations."""
  first, last = body.loop.num_consts, len(body.carries)
  empty = [
      jnp.zeros((0, *v.aval.shape), v.aval.dtype) for v in body.outs[last:]
  ]
  return [*values[first : first + last], *empty]


def _starts(body, values):
  """Where carries start; a weight that goes on as data is a site there."""
  first = body.loop.num_consts
  starts = {v: values[i] for i, v in enumerate(body.carries, first)}
  marks = []
  for i in body.learned:
    value = starts[body.carries[i]]
    zero = jax.lax.full(value.shape, 0, value.dtype)
    starts[body.carries[i]] = jax.lax.stop_gradient(value) + zero
    marks.append(([jnp.copy(value)], [zero]))
  return starts, marks


def _scan(body, values, made, starts, added):
  """Runs what depends on the example: last carries, rows, and records."""
  first = body.loop.num_consts + body.loop.num_carry
  weights, tiers = body.reached.weights, body.tiers
  # All that a weight does in the loop is in its lifted sites.
  base = {v: jax.lax.stop_gradient(made.values[v]) for v in body.given}
  base.update(zip(body.jaxpr.constvars, body.closed.consts, strict=True))
  operands = zip(body.jaxpr.invars, values, strict=True)
  operands = [(v, value) for v, value in operands if v not in weights]
  stacks = {v: base[v] for v in body.given if tiers[v] != flow.CONSTANT}
  rows = set(body.jaxpr.invars[first:])
  for var, value in operands:
    (stacks if var in rows else base)[var] = value
  handed_on = {v: start for v, start in starts.items() if v not in weights}
  ends = dict(zip(body.carries, body.outs, strict=False))
  ys = [v for v in body.outs[len(ends) :] if _is_own(body, v)]

  def step(carry, row):
    given, zeros = row
    own = dict(zip(added, zeros, strict=True))
    env = dict(base)
    env.update(zip(stacks, given, strict=True))
    env.update(zip(handed_on, carry, strict=True))
    body.run(env, own)
    return [tracing.read(env, ends[v]) for v in handed_on], (
        [tracing.read(env, v) for v in ys],
        [env[v] for v in body.recorded],
    )

  inits, given = [*handed_on.values()], [*stacks.values()]
  carry, (rows, recorded) = jax.lax.scan(
      step, inits, (given, list(added.values())), **body.loop.options
  )
  carry = dict(zip(handed_on, carry, strict=True))
  return carry, iter(rows), dict(zip(body.recorded, recorded, strict=True))


def _is_own(body, atom):
  return not tracing.is_var(atom) or atom in body.own


def _out(body, i, values, made, carry, rows):
  """One output of a loop."""
  if i < len(body.carries):
    var = body.carries[i]
    if var in carry:
      return carry[var]
    return made.finals.get(var, values[body.loop.num_consts + i])
  var = body.outs[i]
  if _is_own(body, var):
    return next(rows)
  value = made.values[var]
  if body.tiers[var] != flow.CONSTANT:
    return value
  return jnp.broadcast_to(value, (body.length, *value.shape))


def _operand(body, var, values, made, stacks):
  """What a site reads, stacked or the same for all iterations."""
  if var in stacks:
    return stacks[var]
  if var in body.reached.data:
    return values[body.jaxpr.invars.index(var)]
  return made.values[var]
