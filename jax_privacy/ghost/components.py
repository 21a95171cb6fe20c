"""Components: sites that are added before they are squared.

Sites whose weights come from the same parameters form a component.

The invariant: parameters of different components share nothing.

Example:
  >>> import dataclasses
  >>> from jax_privacy.ghost import components
  >>> [field.name for field in dataclasses.fields(components.Component)]
  ['piece_indices', 'weights', 'site_indices', 'eqns']
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from jax_privacy.ghost import flow
from jax_privacy.ghost import pieces as pieces_lib


@dataclasses.dataclass(frozen=True)
class Component:
  """Parameters that meet, the weights made of them, and the weights' sites.

  Attributes:
    piece_indices: Numbers of the parameters' pieces, in `Split.pieces`.
    weights: Variables of the weights.
    site_indices: Numbers of the sites, in `Split.sites`.
    eqns: The shared equations between parameters and weights, in order.
  """

  piece_indices: tuple[int, ...]
  weights: tuple[Any, ...]
  site_indices: tuple[int, ...]
  eqns: tuple[Any, ...]


def origins(eqns: Sequence[Any], starts: Sequence[Any]) -> dict[Any, set[int]]:
  """Maps shared variables to the parameters a gradient reaches through them.

  Args:
    eqns: Shared equations, in order.
    starts: Variables of parameters, or of pieces of them.

  Returns:
    Numbers of `starts`, by variable.
  """
  found = {var: {i} for i, var in enumerate(starts)}
  for eqn in eqns:
    if eqn.primitive.name == "stop_gradient":
      continue
    own = set().union(*(found.get(v, ()) for v in flow.variables(eqn)))
    if own:
      found.update((v, own) for v in eqn.outvars if flow.is_inexact(v))
  return found


def join(
    shared_eqns: Sequence[Any],
    sites: Sequence[Any],
    pieces: Sequence[pieces_lib.Piece],
) -> Iterator[Component]:
  """Joins sites whose weights come from the same pieces of parameters.

  All weights of one site are joined too: one vjp of its equation serves them.

  Args:
    shared_eqns: Equations that depend on no data, in order.
    sites: Sites of a `graph.Split`.
    pieces: Pieces of its parameters.

  Yields:
    The components.
  """
  own = [piece.var for piece in pieces]
  reached = origins(shared_eqns, own)
  groups = []
  for index, site in enumerate(sites):
    owners = set().union(*(reached[var] for var in site.weights))
    members = [index]
    for group in [g for g in groups if g[0] & owners]:
      groups.remove(group)
      owners |= group[0]
      members += group[1]
    groups.append((owners, members))
  for owners, members in groups:
    members = sorted(members)
    weights = dict.fromkeys(v for i in members for v in sites[i].weights)
    yield Component(
        piece_indices=tuple(sorted(owners)),
        weights=tuple(weights),
        site_indices=tuple(members),
        eqns=tuple(between(shared_eqns, weights, reached, start=own)),
    )


def between(
    shared_eqns: Sequence[Any],
    weights: Collection[Any],
    reached: Mapping[Any, Any],
    start: Collection[Any] = (),
) -> Iterator[Any]:
  """Returns the equations on the paths to weights, in order.

  Args:
    shared_eqns: Equations that depend on no data, in order.
    weights: Variables.
    reached: Variables through which a gradient reaches a parameter.
    start: Variables at which paths start; none for the parameters.
  """
  start = set(start)
  needed, found = set(weights) - start, []
  for eqn in reversed(shared_eqns):
    if any(v in needed and reached.get(v) for v in eqn.outvars):
      found.append(eqn)
      needed.update(set(flow.variables(eqn)) - start)
  return reversed(found)
