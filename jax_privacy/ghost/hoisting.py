"""Runs outside a loop what its body makes of no example.

The invariant: the values are those that the loop would make, in the order of
its iterations: stacks have iteration i at i, reversed or not.

Example:
  >>> import inspect
  >>> from jax_privacy.ghost import hoisting
  >>> list(inspect.signature(hoisting.hoist).parameters)
  ['body', 'values']
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jax_privacy.ghost import flow, tracing
from jax_privacy.ghost.bodies import Body


class Hoisted(NamedTuple):
  """Values that are made outside a loop.

  Attributes:
    values: Stacks by variable of the body; where no iteration differs, the
      value.
    finals: Values that the last iteration hands on, by the variable that the
      body reads them by.
  """

  values: tracing.Env
  finals: tracing.Env


def hoist(body: Body, values: Sequence[Any]) -> Hoisted:
  """Returns the values of static variables that are needed outside or given.

  Args:
    body: The loop's body.
    values: Operands of the loop.
  """
  data, tiers = body.reached.data, body.tiers
  needed = set(body.given)
  for site in body.sites:
    needed.update(v for v in flow.variables(site.eqn) if v not in data)
  handed_on = [v for v in body.carries if tiers.get(v) == flow.CARRIED]
  if any(v in body.reached.weights for v in handed_on):
    needed.update(handed_on)
  eqns = [
      eqn for eqn in body.jaxpr.eqns if all(v in tiers for v in eqn.outvars)
  ]
  wanted = _closed(body, eqns, needed)
  eqns = [eqn for eqn in eqns if any(v in wanted for v in eqn.outvars)]
  env = dict(zip(body.jaxpr.constvars, body.closed.consts, strict=True))
  static = zip(body.jaxpr.invars, values, strict=True)
  env.update((v, value) for v, value in static if v in tiers)
  tracing.evaluate(_of(eqns, tiers, flow.CONSTANT), env)
  varying = _of(eqns, tiers, flow.STACKED)
  _run_stacked(body, varying, env, needed)
  if not any(tiers[v] == flow.CARRIED for v in wanted):
    return Hoisted(env, {})
  varying += _of(eqns, tiers, flow.CARRIED)
  return _run_carried(body, varying, env, needed, handed_on)


def _of(eqns, tiers, tier):
  """The equations that give variables of a tier."""
  return [e for e in eqns if e.outvars and tiers[e.outvars[0]] == tier]


def _closed(body, eqns, needed):
  """What is needed, and what it is made of, through iterations too."""
  while True:
    wanted = flow.ancestors(eqns, needed)
    pairs = zip(body.carries, body.outs[: len(body.carries)], strict=True)
    more = {
        out
        for var, out in pairs
        if var in wanted and var in body.tiers and tracing.is_var(out)
    }
    if more <= wanted:
      return wanted
    needed = wanted | more


def _run_stacked(body, eqns, env, needed):
  """Makes what follows from one iteration's rows, for all iterations."""
  tiers = body.tiers
  names = [v for v in env if tiers.get(v) == flow.STACKED]
  outs = [v for e in eqns for v in e.outvars if v in needed]
  if not outs:
    return

  def one(rows):
    inner = {**env, **dict(zip(names, rows, strict=True))}
    tracing.evaluate(eqns, inner)
    return [inner[v] for v in outs]

  made = jax.vmap(one)([env[v] for v in names])
  env.update(zip(outs, made, strict=True))


def _run_carried(body, eqns, env, needed, handed_on):
  """Makes what one iteration hands on to the next, in a loop without data."""
  tiers = body.tiers
  names = [v for v in env if tiers.get(v) == flow.STACKED]
  names = [v for v in names if v in body.jaxpr.invars]
  outs = [v for v in needed if tiers[v] == flow.CARRIED]
  ends = dict(zip(body.carries, body.outs, strict=False))

  def step(carry, rows):
    inner = {**env, **dict(zip(names, rows, strict=True))}
    inner.update(zip(handed_on, carry, strict=True))
    tracing.evaluate(eqns, inner)
    carry = [tracing.read(inner, ends[v]) for v in handed_on]
    return carry, [inner[v] for v in outs]

  rows = [env[v] for v in names]
  inits = [env[v] for v in handed_on]
  carry, stacks = jax.lax.scan(step, inits, rows, **body.loop.options)
  made = {**env, **dict(zip(outs, stacks, strict=True))}
  return Hoisted(made, dict(zip(handed_on, carry, strict=True)))
