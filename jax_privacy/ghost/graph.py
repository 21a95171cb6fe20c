"""Splits one example's loss into what all examples share and what meets data.

Every equation of the loss goes to one of two sides: *shared* if nothing it
reads depends on the example (weight standardisation, casts, broadcasts of a
bias), run once; *data* otherwise, run under vmap. A shared value that depends
on a parameter and is read by an equation of the data side is a *weight*, and
that equation is a *site*. All that a parameter does to a loss, it does at
sites.

A zero is added to the output of each site. The derivative with respect to these
zeros is, for every example, the cotangent z of each site's output; with the
site's other operands, x, it gives the parameters' gradient without making it.

Sites whose weights come from the same parameters form a *component*: its
gradients have to be added before they are squared.

The invariant: an example's gradient is the sum over sites of
transform^T(site^T(z)), and parameters of different components share nothing.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.ghost import graph
  >>> loss = lambda leaves, rows: (jnp.sum(jnp.sin(rows[0] @ leaves[0])), [])
  >>> split = graph.split(loss, [jnp.ones((3, 2))], [jnp.ones((4, 3))])
  >>> [site.name for site in split.sites]
  ['dot_general']
"""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy.ghost import components, flow, loops, tracing
from jax_privacy.ghost import pieces as pieces_lib


@dataclasses.dataclass(frozen=True)
class Site:
  """An equation of the data side that reads weights.

  Attributes:
    eqn: The equation.
    weight_operands: Numbers of the operands that are weights.
    data_operands: Numbers of the operands that depend on the example.
    lifted: The equation as part of a loop, of which it is never run but in the
      loop; None if it is run by itself.
  """

  eqn: Any
  weight_operands: tuple[int, ...]
  data_operands: tuple[int, ...]
  lifted: loops.LiftedSite | None = None

  @property
  def name(self) -> str:
    """The primitive's name."""
    return self.eqn.primitive.name

  @property
  def label(self) -> str:
    """The primitive's name, in the loop if it is in one."""
    return self.lifted.name if self.lifted else self.name

  @property
  def weights(self) -> tuple[Any, ...]:
    """The variables of the weights."""
    return tuple(self.eqn.invars[i] for i in self.weight_operands)

  @property
  def data(self) -> tuple[Any, ...]:
    """The variables that depend on the example."""
    return tuple(self.eqn.invars[i] for i in self.data_operands)

  @property
  def outputs(self) -> tuple[Any, ...]:
    """The output variables that can carry a gradient."""
    return tuple(var for var in self.eqn.outvars if flow.is_inexact(var))

  @property
  def zeros(self) -> tuple[Any, ...]:
    """The variables to which zeros are added, one per output."""
    return self.lifted.zeros if self.lifted else self.outputs

  def apply(
      self, shared: tracing.Env, weights: Sequence[Any], data: Sequence[Any]
  ) -> list[Any]:
    """Returns the values of `outputs`, for values of `weights` and `data`.

    Args:
      shared: Values of the other operands.
      weights: One per weight operand.
      data: One per data operand.
    """
    given = dict(zip(self.weight_operands, weights, strict=True))
    given |= dict(zip(self.data_operands, data, strict=True))
    values = [
        given[i] if i in given else tracing.read(shared, atom)
        for i, atom in enumerate(self.eqn.invars)
    ]
    outs = tracing.bind(self.eqn, values)
    pairs = zip(self.eqn.outvars, outs, strict=True)
    return [out for var, out in pairs if flow.is_inexact(var)]


@dataclasses.dataclass(frozen=True)
class Rescaled:
  """Another way to run a site of one output, that gives the same.

  Attributes:
    weight: Array that it reads in place of its one weight.
    factor: Factor of its output, of as many axes.
  """

  weight: Any
  factor: Any


@dataclasses.dataclass(frozen=True)
class Split:
  """A loss of one example, taken apart.

  Attributes:
    closed: The whole jaxpr: parameters, then rows of data, to loss and aux, and
      then what marks lifted sites.
    outputs: Variables of loss and aux.
    traced: Jaxprs of the whole loss; None for a part of one.
    leaf_vars: The parameters' variables.
    cuts: Trees of pieces, one per parameter.
    pieces: Pieces of parameters, of which components are made.
    row_vars: The data's variables.
    shared_eqns: Equations that depend on no data.
    data_eqns: The others.
    sites: Equations where data meet weights on the way to the loss.
    components: Every parameter that reaches the loss is in exactly one.
  """

  closed: Any
  outputs: tuple[Any, ...]
  traced: tracing.Traced | None
  leaf_vars: tuple[Any, ...]
  cuts: tuple[pieces_lib.Piece | pieces_lib.Cut, ...]
  pieces: tuple[pieces_lib.Piece, ...]
  row_vars: tuple[Any, ...]
  shared_eqns: tuple[Any, ...]
  data_eqns: tuple[Any, ...]
  sites: tuple[Site, ...]
  components: tuple[components.Component, ...]

  def zeros(self) -> list[list[jax.Array]]:
    """Returns zeros to add to the `outputs` of each site."""
    return [
        [jnp.zeros(var.aval.shape, var.aval.dtype) for var in site.outputs]
        for site in self.sites
    ]

  def run_shared(self, leaves: Sequence[Any]) -> tracing.Env:
    """Returns the values of all shared variables.

    Args:
      leaves: Values of the parameters.
    """
    constvars = self.closed.jaxpr.constvars
    env = dict(zip(constvars, self.closed.consts, strict=True))
    env.update(zip(self.leaf_vars, leaves, strict=True))
    tracing.evaluate(self.shared_eqns, env)
    return env

  def run_data(
      self,
      shared: tracing.Env,
      rows: Sequence[Any],
      zeros: Sequence[Sequence[Any]],
      rescaled: Mapping[int, Rescaled] = types.MappingProxyType({}),
  ) -> tuple[Any, tuple[list[Any], list[Any], dict[int, Any]]]:
    """Runs the data side for one example.

    Args:
      shared: Values of all shared variables; see `run_shared`.
      rows: The example.
      zeros: Arrays to add to each of a site's `outputs`, per site.
      rescaled: Other ways to run sites, by their numbers in `sites`.

    Returns:
      The loss, and (aux, data, unscaled): data per site, and what each site of
      `rescaled` gave before its factor.
    """
    env = {**shared, **dict(zip(self.row_vars, rows, strict=True))}
    zeros_of = {
        var: zero
        for site, site_zeros in zip(self.sites, zeros, strict=True)
        for var, zero in zip(site.zeros, site_zeros, strict=True)
    }
    ways = {id(self.sites[i].eqn): (i, way) for i, way in rescaled.items()}
    unscaled = {}
    for eqn in self.data_eqns:
      if id(eqn) in ways:
        i, way = ways[id(eqn)]
        read = {**env, self.sites[i].weights[0]: way.weight}
        tracing.evaluate([eqn], read)
        unscaled[i] = read[eqn.outvars[0]]
        env[eqn.outvars[0]] = unscaled[i] * way.factor
      else:
        tracing.evaluate([eqn], env)
      for var in eqn.outvars:
        if var in zeros_of:
          env[var] = env[var] + zeros_of[var]
    data = [[env[var] for var in site.data] for site in self.sites]
    loss, *aux = (tracing.read(env, v) for v in self.outputs)
    return loss, (aux, data, unscaled)

  def transform_fn(
      self, component: components.Component, shared: tracing.Env
  ) -> Callable[..., list[Any]]:
    """Returns the function from a component's pieces to its weights.

    Args:
      component: The component.
      shared: Values of all shared variables.
    """

    def run(*values):
      env = dict(shared)
      names = (self.pieces[i].var for i in component.piece_indices)
      env.update(zip(names, values, strict=True))
      tracing.evaluate(component.eqns, env)
      return [env[var] for var in component.weights]

    return run


def split(
    fun: Callable[..., tuple[Any, Any]],
    leaves: Sequence[Any],
    rows: Sequence[Any],
) -> Split:
  """Traces and splits the loss of one example.

  Args:
    fun: `fun(leaves, rows) -> (loss, aux)`.
    leaves: The parameters: arrays or shapes.
    rows: One example's data: arrays or shapes.

  Returns:
    The split.

  Raises:
    TypeError: If the loss is not a real scalar, or `fun` asks for the value of
      an array it is given.
  """
  traced = tracing.trace(fun, leaves, rows)
  _check_loss(traced.closed.jaxpr.outvars[0].aval)
  is_leaf = [i < len(leaves) for i in range(len(traced.closed.jaxpr.invars))]
  is_row = [not leaf for leaf in is_leaf]
  lifted = loops.lift(traced.closed, is_leaf, is_row)
  outputs = lifted.closed.jaxpr.outvars[: lifted.num_outs]
  made = of_jaxpr(
      lifted.closed,
      is_leaf,
      is_row,
      outputs=outputs,
      ends=outputs[:1],
      lifted=lifted.sites,
  )
  return dataclasses.replace(made, traced=traced)


def of_jaxpr(
    closed: Any,
    is_leaf: Sequence[bool],
    is_row: Sequence[bool],
    *,
    outputs: Sequence[Any],
    ends: Sequence[Any],
    lifted: Sequence[loops.LiftedSite] = (),
    calls: Sequence[Any] = (),
) -> Split:
  """Splits a flat jaxpr.

  Args:
    closed: A closed jaxpr.
    is_leaf: Booleans, whether an input is a parameter.
    is_row: Booleans, whether an input is data.
    outputs: Variables that it gives.
    ends: Variables among these that gradients come from.
    lifted: Sites that were lifted out of its loops.
    calls: Equations of the data side that are no sites, whatever they read.

  Returns:
    The split, without what the loss was traced to.
  """
  jaxpr = closed.jaxpr
  leaf_vars = [v for v, is_ in zip(jaxpr.invars, is_leaf, strict=True) if is_]
  row_vars = [v for v, is_ in zip(jaxpr.invars, is_row, strict=True) if is_]
  by_eqn = {id(site.eqn): site for site in lifted}
  eqns = [eqn for eqn in jaxpr.eqns if id(eqn) not in by_eqn]
  zeros = {var for site in lifted for var in site.zeros}
  meets_data = _reach_forward(eqns, [*row_vars, *zeros])
  is_data = [
      _reads(eqn, meets_data) or any(v in zeros for v in eqn.outvars)
      for eqn in eqns
  ]
  pairs = list(zip(eqns, is_data, strict=True))
  shared_eqns = tuple(eqn for eqn, data in pairs if not data)
  data_eqns = tuple(eqn for eqn, data in pairs if data)
  origins = components.origins(shared_eqns, leaf_vars)
  found = list(
      _sites(
          jaxpr.eqns, meets_data, origins, flow.live(data_eqns, ends), by_eqn
      )
  )
  weights = {var for site in found for var in site.weights}
  called = {id(eqn) for eqn in calls}
  sites = tuple(site for site in found if id(site.eqn) not in called)
  needed = list(components.between(shared_eqns, weights, origins))
  cuts = tuple(pieces_lib.find(leaf_vars, needed, weights))
  pieces = tuple(p for cut in cuts for p in pieces_lib.in_order(cut))
  return Split(
      closed=closed,
      outputs=tuple(outputs),
      traced=None,
      leaf_vars=tuple(leaf_vars),
      cuts=cuts,
      pieces=pieces,
      row_vars=tuple(row_vars),
      shared_eqns=shared_eqns,
      data_eqns=data_eqns,
      sites=sites,
      components=tuple(components.join(shared_eqns, sites, pieces)),
  )


def _check_loss(aval):
  if aval.shape != () or not jnp.issubdtype(aval.dtype, jnp.floating):
    raise TypeError(
        "fun must return a real floating-point scalar loss for one example,"
        f" got {aval.dtype} of shape {aval.shape}."
    )


def _reach_forward(eqns, start):
  """Returns the variables that depend on `start`."""
  reached = set(start)
  for eqn in eqns:
    if _reads(eqn, reached):
      reached.update(eqn.outvars)
  return reached


def _reads(eqn, variables):
  return any(tracing.is_var(v) and v in variables for v in eqn.invars)


def _sites(eqns, meets_data, origins, live, lifted):
  """The sites, in order: equations of the data side, and lifted ones."""
  for eqn in eqns:
    site = lifted.get(id(eqn))
    ends = site.zeros if site else eqn.outvars
    is_live = any(flow.is_inexact(v) and v in live for v in ends)
    if not is_live or eqn.primitive.name == "stop_gradient":
      continue
    atoms = [(i, v) for i, v in enumerate(eqn.invars) if tracing.is_var(v)]
    weight_operands = tuple(
        i for i, v in atoms if v not in meets_data and origins.get(v)
    )
    data_operands = tuple(i for i, v in atoms if v in meets_data)
    if weight_operands and (data_operands or site):
      yield Site(eqn, weight_operands, data_operands, site)
