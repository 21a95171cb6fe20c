"""Which of several alternatives reveal no more than another, by their fields.

Of disjoint data a unit pays for one part, and the worst one is the answer.
Parts with the same kind of release and more noise need not be accounted for.
Invariant: what is left out is dominated by what stays, at every epsilon: the
same release with less noise, more steps or a higher sampling probability tells
whatever it does. What cannot be compared stays.

>>> from accounting import Composition, Laplace
>>> parts = [Composition([Laplace(scale=float(s))]) for s in (3, 2, 4)]
>>> [part.releases[0].mechanism.scale for part in worst(parts)]
[2.0]
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from accounting.mechanism import Mechanism

if TYPE_CHECKING:
  from accounting.composition import Composition, Release

# Fields of which more tells less, and those of which more tells more. Of the
# discrete kinds noise is not comparable by its field alone.
_LESS = {"laplace": ("scale",), "gaussian": ("stddev",)}
_MORE = {
    "laplace": ("sensitivity",),
    "gaussian": ("sensitivity",),
    "approximate_dp": ("epsilon", "delta"),
    "zcdp": ("rho",),
    "randomized_response": ("epsilon",),
    "exponential": ("epsilon",),
}
_RUN_LESS, _RUN_MORE = ("noise_multiplier",), ("num_steps", "sampling_prob")
_SIZE = "num_examples"


def worst(parts: Sequence["Composition"]) -> tuple["Composition", ...]:
  """Returns the alternatives that no other one dominates, in their order.

  Args:
    parts: Alternatives that a unit may pay for.
  """
  kept: list[Composition] = []
  for part in dict.fromkeys(parts):
    if any(_dominates(other, part) for other in kept):
      continue
    kept = [other for other in kept if not _dominates(part, other)]
    kept.append(part)
  return tuple(kept)


def _dominates(more: "Composition", less: "Composition") -> bool:
  """Whether each release of one is in the other, revealing no less there."""
  left = list(more.releases)
  for each in less.releases:
    found = next((held for held in left if _tells(held, each)), None)
    if found is None:
      return False
    left.remove(found)
  return True


def _tells(more: "Release", less: "Release") -> bool:
  """Whether a release tells whatever another one does."""
  a, b = more.mechanism, less.mechanism
  if more.count < less.count or type(a) is not type(b):
    return False
  if a == b:
    return True
  if isinstance(a, Mechanism):
    poisson = a.sampling == "poisson" and not a.batch_size_schedule
    # A stated size is no part of how Poisson batches are drawn.
    rising = _RUN_MORE if poisson else ()
    return _compared(a, b, _RUN_LESS, rising, (_SIZE,) if poisson else ())
  kind = getattr(a, "kind", "")
  if kind not in _MORE:
    return False
  return _compared(a, b, _LESS.get(kind, ()), _MORE[kind], ())


def _compared(a: Any, b: Any, falling, rising, free) -> bool:
  for field in dataclasses.fields(a):
    x, y = getattr(a, field.name), getattr(b, field.name)
    if field.name in free:
      continue
    if field.name in falling:
      within = x <= y
    elif field.name in rising:
      within = x >= y
    else:
      within = x == y
    if not within:
      return False
  return True
