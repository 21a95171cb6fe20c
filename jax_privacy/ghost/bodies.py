"""One iteration of a loop that is to be lifted: its sites, and what runs where.

The invariant: what depends on the example is run in the loop, and what depends
on parameters alone is run outside.

Example:
  >>> from jax_privacy.ghost import bodies
  >>> bodies.LiftedSite._fields
  ('eqn', 'zeros', 'name')
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jax_privacy import jaxprs
from jax_privacy.ghost import flow, tracing

_SUMS = ("add", "add_any")


class LiftedSite(NamedTuple):
  """A site that is run inside a loop, and seen outside.

  Attributes:
    eqn: The equation.
    zeros: Variables of zeros that are added to its outputs, in the loop.
    name: Name of the primitive in the loop.
  """

  eqn: Any
  zeros: tuple[Any, ...]
  name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
  """A loop's body, flat, with its own loops lifted.

  Attributes:
    loop: Contents of the equation of the loop.
    closed: The body.
    num_outs: Number of its outputs; marks of lifted sites come after.
    inner: Sites that were lifted out of loops in the body.
    reached: Variables that depend on parameters, and on the example.
    learned: Numbers of carries that start as weights and go on as data.
  """

  loop: jaxprs.Scan
  closed: Any
  num_outs: int
  inner: tuple[LiftedSite, ...]
  reached: flow.Reached
  learned: tuple[int, ...]

  @property
  def jaxpr(self) -> Any:
    """The body's jaxpr."""
    return self.closed.jaxpr

  @property
  def length(self) -> int:
    """Number of iterations."""
    return self.loop.options["length"]

  @property
  def outs(self) -> Sequence[Any]:
    """Variables of the carry, and then of what is stacked."""
    return self.jaxpr.outvars[: self.num_outs]

  @property
  def carries(self) -> Sequence[Any]:
    """The inputs that iterations hand on."""
    start = self.loop.num_consts
    return self.jaxpr.invars[start : start + self.loop.num_carry]

  @functools.cached_property
  def tiers(self) -> dict[Any, int]:
    """The tier of each static variable."""
    return flow.tiers(
        self.jaxpr,
        num_consts=self.loop.num_consts,
        num_carry=self.loop.num_carry,
        data=self.reached.data,
    )

  @functools.cached_property
  def sites(self) -> tuple[LiftedSite, ...]:
    """The body's sites, with those that were lifted out of inner loops."""
    if not self.length:
      return ()
    ends = {v for v in self.outs if tracing.is_var(v) and flow.is_inexact(v)}
    inner = {id(site.eqn): site for site in self.inner}
    eqns = [eqn for eqn in self.jaxpr.eqns if id(eqn) not in inner]
    live = flow.live(eqns, ends)
    found = []
    for eqn in self.jaxpr.eqns:
      outs = tuple(v for v in eqn.outvars if flow.is_inexact(v))
      own = LiftedSite(eqn, outs, eqn.primitive.name)
      site = inner.get(id(eqn), own)
      is_data = site is not own or any(v in self.reached.data for v in outs)
      if (
          is_data
          and any(v in live for v in site.zeros)
          and eqn.primitive.name != "stop_gradient"
          and any(v in self.reached.weights for v in flow.variables(eqn))
      ):
        found.append(site)
    return tuple(found)

  @functools.cached_property
  def sums_before_own_transpose(self) -> bool:
    """Whether a derivative of one's own would get all iterations' sum.

    It may not be linear, so it must get the cotangent of each by itself. Only
    a function that is itself a site is batched with its derivative.
    """
    return any(map(self._sums_before, self.jaxpr.eqns))

  def _sums_before(self, eqn):
    if not jaxprs.has_own_transpose(eqn):
      return False
    weights, tiers = self.reached.weights, self.tiers
    if not any(v in weights for v in flow.variables(eqn)):
      return False
    if all(v in tiers for v in eqn.outvars):
      return any(tiers[v] != flow.STACKED for v in eqn.outvars)
    return eqn.primitive.name != "custom_vjp_call"

  @property
  def names(self) -> list[str]:
    """Names of the primitives of all sites, and of what is learned."""
    learned = self.learned if self.length else ()
    return [site.name for site in self.sites] + ["copy"] * len(learned)

  @functools.cached_property
  def eqns(self) -> list[Any]:
    """What is run in the loop."""
    hidden = {id(site.eqn) for site in self.inner}
    weights = self.reached.weights
    return [
        eqn
        for eqn in self.jaxpr.eqns
        if id(eqn) not in hidden and not any(v in weights for v in eqn.outvars)
    ]

  @functools.cached_property
  def own(self) -> set[Any]:
    """Variables that the loop has by itself."""
    own = {v for v in self.jaxpr.invars if v not in self.reached.weights}
    own.update(self.jaxpr.constvars)
    return own.union(*(eqn.outvars for eqn in self.eqns))

  @functools.cached_property
  def given(self) -> list[Any]:
    """Variables that the loop is given, having been made outside."""
    read = [v for eqn in self.eqns for v in flow.variables(eqn)]
    read += filter(tracing.is_var, self.outs)
    return [v for v in dict.fromkeys(read) if v not in self.own]

  @functools.cached_property
  def recorded(self) -> list[Any]:
    """Variables that sites read, and that the loop gives out, stacked."""
    read = [v for site in self.sites for v in flow.variables(site.eqn)]
    read = [v for v in dict.fromkeys(read) if v in self.reached.data]
    return [v for v in read if not self._is_shared(v)]

  def axes(self, site: LiftedSite) -> list[int | None]:
    """Returns the axis of iterations in what a site reads.

    Args:
      site: One of the body's sites.

    Returns:
      Per variable 0, or None if it is the same in every iteration.
    """
    return [None if self._is_shared(v) else 0 for v in flow.variables(site.eqn)]

  def _is_shared(self, var) -> bool:
    """Whether a variable is the same in every iteration."""
    if var in self.reached.data:
      return var in self.jaxpr.invars[: self.loop.num_consts]
    return self.tiers[var] == flow.CONSTANT

  @functools.cached_property
  def _ends(self) -> dict[Any, Any]:
    """Per variable of a site's zeros, the variable that its zero is added to.

    Terms that are only added up have the cotangent of their sum: they share one
    zero, and one stack of cotangents.
    """
    readers = {}
    for eqn in self.eqns:
      for var in flow.variables(eqn):
        readers.setdefault(var, []).append(eqn)

    def end(var):
      aval = var.aval.shape, var.aval.dtype
      while var not in self.outs and len(readers.get(var, ())) == 1:
        (eqn,) = readers[var]
        out, *_ = eqn.outvars
        is_sum = eqn.primitive.name in _SUMS
        if not is_sum or (out.aval.shape, out.aval.dtype) != aval:
          break
        var = out
      return var

    found = {var: end(var) for site in self.sites for var in site.zeros}
    shared = list(found.values())
    return {v: to if shared.count(to) > 1 else v for v, to in found.items()}

  def added(self, zeros: Sequence[Sequence[Any]]) -> dict[Any, Any]:
    """Returns the arrays that an iteration adds, by what it adds them to.

    Args:
      zeros: Arrays to add to what sites give, per site.
    """
    found = {}
    for site, own in zip(self.sites, zeros, strict=True):
      for var, zero in zip(site.zeros, own, strict=True):
        to = self._ends[var]
        found[to] = found[to] + zero if to in found else zero
    return found

  def run(self, env: tracing.Env, added: Mapping[Any, Any]) -> None:
    """Runs one iteration, writing what it gives into `env`.

    Args:
      env: Values of what the body has and is given, which grow.
      added: Arrays to add to variables; see `added`.
    """
    for eqn in self.eqns:
      tracing.evaluate([eqn], env)
      for var in eqn.outvars:
        if var in added:
          env[var] = env[var] + added[var]
