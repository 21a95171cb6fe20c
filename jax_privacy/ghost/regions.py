"""Parts of a loss that are run as they are written: loops and checkpoints.

For `passes=2`. A *region* is a jaxpr whose calls to other regions (`scan` and
`jax.checkpoint`, if parameters enter) stay whole, so that what they save in
memory is saved. The norms of a region's sites leave it as a cotangent
(`probes.py`), which adds up squares over sites and iterations. That is right
only where each site's parameter, in each iteration, is its own.

The invariant: a `Region` is given only where that is so. For anything else
there is a `Shared`, which says why.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import regions
  >>> def loss(w, x):
  ...   layer = jax.checkpoint(lambda h, w: (jnp.tanh(h @ w), None))
  ...   return jnp.sum(jax.lax.scan(layer, x, w)[0])
  >>> w, x = jnp.ones((4, 3, 3)), jnp.ones((5, 3))
  >>> closed = jax.make_jaxpr(loss)(w, x)
  >>> found = regions.find(closed, [True, False], [False, True])
  >>> [call.eqn.primitive.name for call in found.calls.values()]
  ['scan']
  >>> tied = lambda w, x: loss(w, x @ w[0])
  >>> closed = jax.make_jaxpr(tied)(w, x)
  >>> print(regions.find(closed, [True, False], [False, True]).reason)
  a parameter of a loop or of jax.checkpoint is used elsewhere too
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.extend.core as jex_core
import jax.numpy as jnp

from jax_privacy import jaxprs
from jax_privacy.ghost import counters, flow, graph, pushes, tracing, transforms


class Shared(NamedTuple):
  """Norms cannot leave a region by a cotangent.

  Attributes:
    reason: Why, in plain words.
  """

  reason: str


@dataclasses.dataclass(frozen=True)
class Call:
  """A loop or a checkpoint that parameters enter.

  Attributes:
    eqn: The equation.
    region: Region that it calls: of a loop, one iteration.
    sources: Numbers of the pieces that enter, by the number of the operand.
  """

  eqn: Any
  region: "Region"
  sources: dict[int, int]


@dataclasses.dataclass(frozen=True)
class Region:
  """A jaxpr with calls.

  Attributes:
    split: The jaxpr, split; its sites are those outside of the calls.
    calls: Calls, by the identity of their equations.
  """

  split: graph.Split
  calls: dict[int, Call]


def has_checkpoint(closed: Any, is_leaf: Sequence[bool]) -> bool:
  """Returns whether a parameter enters a checkpointed region.

  Args:
    closed: A closed jaxpr.
    is_leaf: Booleans, whether an input depends on a parameter.
  """
  jaxpr = closed.jaxpr
  reached = {v for v, is_ in zip(jaxpr.invars, is_leaf, strict=True) if is_}
  for eqn in jaxpr.eqns:
    if not any(v in reached for v in flow.variables(eqn)):
      continue
    if eqn.primitive.name in jaxprs.REMAT or any(
        _holds_checkpoint(inner) for inner in jaxprs.held(eqn)
    ):
      return True
    reached.update(eqn.outvars)
  return False


def _holds_checkpoint(jaxpr) -> bool:
  return any(
      eqn.primitive.name in jaxprs.REMAT
      or any(map(_holds_checkpoint, jaxprs.held(eqn)))
      for eqn in jaxpr.eqns
  )


def find(
    closed: Any,
    is_leaf: Sequence[bool],
    is_row: Sequence[bool],
    *,
    is_used: Sequence[bool] | None = None,
) -> Region | Shared:
  """Returns a jaxpr as a region, or why it cannot be one.

  Args:
    closed: A closed jaxpr.
    is_leaf: Booleans, whether an input is a parameter.
    is_row: Booleans, whether an input depends on the example.
    is_used: Booleans, whether a gradient may come from an output; None for the
      whole loss, which is the first output. Its own sites may share parameters
      with each other.
  """
  enters = [a or b for a, b in zip(is_leaf, is_row, strict=True)]
  closed = tracing.opened(closed, enters, keeps_remat=True)
  closed = counters.unindexed(closed, is_leaf, is_row, keeps_remat=True)
  closed = pushes.push(closed, is_leaf, is_row)
  jaxpr = closed.jaxpr
  reached = flow.reach(jaxpr, is_leaf, is_row)
  calls = [eqn for eqn in jaxpr.eqns if _is_call(eqn, reached)]
  is_outer = is_used is None
  used = (
      jaxpr.outvars[:1]
      if is_outer
      else list(itertools.compress(jaxpr.outvars, is_used))
  )
  ends = [v for v in used if tracing.is_var(v) and flow.is_inexact(v)]
  split = graph.of_jaxpr(
      closed,
      is_leaf,
      is_row,
      outputs=jaxpr.outvars,
      ends=ends,
      calls=calls,
  )
  found, live = {}, flow.live(jaxpr.eqns, ends)
  for eqn in calls:
    call = _call(split, reached, eqn, live)
    if isinstance(call, Shared):
      return call
    found[id(eqn)] = call
  if not is_outer and any(v in reached.weights for v in ends):
    return Shared("a loop or jax.checkpoint gives a parameter back")
  reason = _why_shared(split, found.values(), is_outer)
  return Region(split, found) if reason is None else Shared(reason)


def _is_call(eqn, reached) -> bool:
  """Whether an equation is a loop or a checkpoint that parameters enter."""
  read = flow.variables(eqn)
  return (
      eqn.primitive.name in ("scan", *jaxprs.REMAT)
      and any(v in reached.data for v in read)
      and any(v in reached.weights for v in read)
  )


def _call(split, reached, eqn, live) -> Call | Shared:
  """A call and its region, if each operand is a piece of a parameter."""
  weights = [
      tracing.is_var(v) and v in reached.weights and v not in reached.data
      for v in eqn.invars
  ]
  rows = [tracing.is_var(v) and v in reached.data for v in eqn.invars]
  is_used = [v in live for v in eqn.outvars]
  if eqn.primitive.name == "scan":
    loop = jaxprs.scan(eqn)
    first = loop.num_consts + loop.num_carry
    if any(weights[:first]):
      return Shared("a parameter is the same in every iteration of a loop")
    closed = loop.closed
    # What iterations hand on, they may hand on changed by the example.
    rows[loop.num_consts : first] = [True] * loop.num_carry
    is_used[: loop.num_carry] = [True] * loop.num_carry
  else:
    jaxpr, consts = jaxprs.called(eqn)
    closed = jex_core.ClosedJaxpr(jaxpr, consts)
  region = find(closed, weights, rows, is_used=is_used)
  if isinstance(region, Shared):
    return region
  sources = {}
  for i, is_weight in enumerate(weights):
    if is_weight:
      source = _source(split, eqn.invars[i])
      if source is None:
        return Shared("a parameter is changed before it enters a loop")
      sources[i] = source
  return Call(eqn, region, sources)


def _source(split, var) -> int | None:
  """The piece that a weight is, up to what keeps norms."""
  own = {piece.var: i for i, piece in enumerate(split.pieces)}
  makers = {v: eqn for eqn in split.shared_eqns for v in eqn.outvars}
  while var not in own:
    if var not in makers or not transforms.is_isometry(makers[var]):
      return None
    var = makers[var].invars[0]
  return own[var]


def _why_shared(split, calls, is_outer) -> str | None:
  """Why squares of a region's sites and calls may not be added, or None."""
  used = [i for call in calls for i in call.sources.values()]
  own = {i for c in split.components for i in c.piece_indices}
  if len(set(used)) < len(used) or own & set(used):
    return "a parameter of a loop or of jax.checkpoint is used elsewhere too"
  if is_outer:
    return None
  if any(len(c.site_indices) > 1 for c in split.components):
    return "a parameter is used in several places of a loop or checkpoint"
  short = _short(split)
  if short:
    return f"a loop or jax.checkpoint computes in {short}"
  return None


def _short(split) -> str:
  """The dtype of a weight or of a site's output, if it is below float32."""
  atoms = [v for site in split.sites for v in (*site.weights, *site.outputs)]
  atoms += [piece.var for piece in split.pieces]
  for var in atoms:
    dtype = var.aval.dtype
    if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
      return dtype.name
  return ""
