"""Renyi differential privacy, through dp-accounting and around its faults.

Invariant: the values used here are upper bounds on the Renyi divergence that
never decrease with the order, as the divergence itself never does.
dp-accounting 0.6.0 leaves out fractional orders whose series does not
converge, and rounding can make its values fall with the order or go below
zero, which it then reads as an epsilon of 0.

>>> from accounting import mechanism
>>> run = mechanism.Mechanism(
...     noise_multiplier=4.0, sampling_prob=0.01, num_steps=10_000)
>>> epsilon, order = epsilons(run, steps=[10_000], delta=1e-5)
>>> round(float(epsilon[0]), 4)
1.0355
"""

import contextlib
import functools
import logging
import math
from collections.abc import Sequence

import numpy as np

from accounting.numerics import log_sums
from accounting.numerics.mechanism_like import (
    MechanismLike,
    PartLike,
    RunLike,
)

# Rounding in the logarithm of a sum near 1, over as many terms as the order.
RESOLUTION = 1e-13
# From this order on the grid's orders are whole.
_WHOLE = 11
# Of more parts only whole orders are tried at first: they cost less. Epsilon
# falls with the order and then rises (its product with order - 1 is convex), so
# that the best order is near the best whole one.
_MANY_PARTS, _MANY_ORDERS, _EVERY = 32, 64, 5
# Of a run that has no step: a composition of public ones.
_USUAL_ENDS = (2**14, 70)
_NEARLY_ONE = math.nextafter(1.0, 0.0)
# Steps in one block of the curve, so that a million of them need 10 MB.
_BLOCK = 8192


def epsilons(
    run: RunLike, *, steps: Sequence[int] | None = None, delta: float
) -> tuple[np.ndarray, np.ndarray]:
  """Converts Renyi divergences to epsilon after each number of steps.

  Args:
    run: The run; with `steps` it is one mechanism, whose own `num_steps` is not
      used.
    steps: Numbers of steps; None for all of the run, hence one epsilon.
    delta: The delta of the guarantee.

  Returns:
    Epsilon and the order that gave it, one of each for each number of steps:
    the best of a grid and, above 11, of the orders between its neighbours.

  A release that may reveal all counts with its divergence if it does not, and
  with the probability that it does: that is taken off delta.

  Source: Canonne, Kamath and Steinke 2020 (2004.00010), Proposition 12; and
    where the divergence is below delta**2, Bretagnolle and Huber's bound of
    the total variation distance, both as dp-accounting does it.
  """
  counts = None if steps is None else np.asarray(steps)
  if steps is None and (delta := _left_of(delta, run)) <= 0:
    return np.full(1, np.inf), np.full(1, 2.0)
  first = _first_orders(run)
  values, best = _on_grid(run, counts, delta, orders=first)
  for order in np.unique(best):
    if (between := _between(first, order)) is None:
      continue
    here = best == order
    some = None if counts is None else counts[here]
    finer, orders = _on_grid(run, some, delta, orders=between)
    better = finer < values[here]
    values[here] = np.where(better, finer, values[here])
    best[here] = np.where(better, orders, best[here])
  return values, best


def _on_grid(run, steps, delta, *, orders: tuple[float, ...]):
  """Returns epsilons, and the best of some orders for each."""
  tried = np.array(orders)
  if steps is None:
    return to_epsilon(tried, _total(run, orders), delta=delta)
  blocks = []
  for i in range(0, len(steps), _BLOCK):
    total = _totals(run, steps[i : i + _BLOCK], orders)
    blocks.append(to_epsilon(tried, total, delta=delta))
  values, best = zip(*blocks, strict=True)
  return np.concatenate(values), np.concatenate(best)


def to_epsilon(
    orders: np.ndarray, rdp: np.ndarray, *, delta: float
) -> tuple[np.ndarray, np.ndarray]:
  """Converts rows of Renyi divergences to epsilon.

  Args:
    orders: Orders, all above 1, shape [num_orders].
    rdp: Divergences, shape [num_rows, num_orders].
    delta: The delta of the guarantee.

  Returns:
    Epsilon and the order that gave it, each of shape [num_rows].
  """
  offset = np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
  eps = np.where(delta**2 + np.expm1(-rdp) > 0, 0.0, rdp + offset)
  index = np.argmin(eps, axis=1)
  return np.maximum(np.min(eps, axis=1), 0.0), orders[index]


def divergences(run: RunLike) -> tuple[np.ndarray, np.ndarray]:
  """Returns the grid of orders and the whole run's divergence at each.

  Args:
    run: Mechanism of the run, or a composition.
  """
  orders = _grid(run)
  return orders, _total(run, tuple(orders.tolist()))[0]


def delta(run: RunLike, *, epsilon: float) -> float:
  """Returns the least delta that RDP can show for `epsilon`.

  Args:
    run: Mechanism of the run, or a composition.
    epsilon: Epsilon of the guarantee.
  """
  found = _delta_without_failure(run, epsilon)
  if not (held := _log_survival(run)):
    return found
  return min(1.0, -math.expm1(held + math.log1p(-min(found, _NEARLY_ONE))))


def _log_survival(run: RunLike) -> float:
  """Logarithm of the probability that no release reveals all."""
  return math.fsum(k * math.log1p(-part.failure) for part, k in run.parts)


def _left_of(delta_: float, run: RunLike) -> float:
  """The delta that is left for what is no failure, rounded down."""
  if not (held := _log_survival(run)):
    return delta_
  return -math.expm1(math.log1p(-delta_) - held) * (1 - 1e-9)


def _delta_without_failure(run: RunLike, epsilon: float) -> float:
  first = _first_orders(run)
  value, order = _delta(run, epsilon, first)
  if order is None or (between := _between(first, order)) is None:
    return value
  finer, _ = _delta(run, epsilon, between)
  return min(value, finer)


def _delta(run, epsilon: float, tried: tuple[float, ...]):
  from dp_accounting.rdp import rdp_privacy_accountant

  orders, totals = np.array(tried), _total(run, tried)
  # An infinite divergence says nothing, and the library's formula chokes on it.
  finite = np.isfinite(totals[0])
  if not finite.any():
    return 1.0, None
  value, order = rdp_privacy_accountant.compute_delta(
      orders[finite], totals[0][finite], epsilon
  )
  return float(value), float(order)


def at_grid_edge(run: RunLike, order: float) -> bool:
  """Returns whether the order is the grid's first or last.

  Args:
    run: Mechanism of the run, or a composition.
    order: Renyi order.
  """
  grid = _grid(run)
  return order in (grid[0], grid[-1])


def _grid_ends(run: RunLike) -> tuple[int, int]:
  """The `order_grid` of the sampler whose orders end first."""
  return min((part.order_grid for part, _ in run.parts), default=_USUAL_ENDS)


def _grid(run: RunLike) -> np.ndarray:
  """Orders that are tried first, ascending: those from 11 on are whole."""
  return _grid_from(_grid_ends(run))


def _grid_from(grid_ends: tuple[int, int]) -> np.ndarray:
  last, count = grid_ends
  ends = np.geomspace(64, last, count)
  return np.concatenate(
      [
          1 + np.arange(1, 100) / 10,
          np.arange(11, 64),
          np.unique(np.rint(ends)),
      ]
  )


def _first_orders(run: RunLike) -> tuple[float, ...]:
  """Returns the orders that are tried first, ascending."""
  grid = _grid(run)
  if len(run.parts) > _MANY_PARTS:
    whole = grid[grid == np.rint(grid)]
    many = whole[whole >= _MANY_ORDERS]
    few = np.unique(np.append(many[::_EVERY], many[-1]))
    grid = np.concatenate([whole[whole < _MANY_ORDERS], few])
  return tuple(grid.tolist())


def _between(
    orders: tuple[float, ...], best: float
) -> tuple[float, ...] | None:
  """Returns orders between the neighbours of one, or None without a gap."""
  index = orders.index(best)
  # The least order is a tenth above 1.
  low = orders[index - 1] if index else 1.1
  high = orders[min(index + 1, len(orders) - 1)]
  if high <= _WHOLE:
    if high - low < 1:  # A tenth apart, which leaves no holes.
      return None
    tenths = np.arange(round(10 * low), round(10 * high) + 1)
    return tuple((tenths / 10).tolist())
  count = round(min(high - low, 40)) + 1
  return tuple(np.unique(np.rint(np.linspace(low, high, count))).tolist())


@functools.lru_cache(maxsize=4096)  # A few kilobytes each.
def step_divergences(
    step: PartLike, tried: tuple[float, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns orders and the divergence of one step at each.

  Args:
    step: A mechanism of one step.
    tried: Orders, ascending; None for the grid of the step's own sampler.

  Returns:
    Orders, ascending, and Renyi divergences, non-decreasing; both read-only.
  """
  orders = _grid_from(step.order_grid) if tried is None else np.array(tried)
  if step.is_hopeless:
    return orders, np.full(len(orders), np.inf)
  rdp = step.divergences(orders)
  rdp = _repair(orders, rdp, floor=step.divergence_floor)
  for array in (orders, rdp):
    array.setflags(write=False)
  return orders, rdp


def by_dp_accounting(step: MechanismLike, orders: np.ndarray) -> np.ndarray:
  """Returns dp-accounting's divergence of one step at each order.

  Args:
    step: A mechanism of one step.
    orders: Orders, ascending, shape [num_orders].

  Returns:
    Divergences, shape [num_orders]; not finite where a series is given up.
  """
  import dp_accounting as dp

  if not orders.size:
    return orders
  relation = dp.NeighboringRelation[step.neighboring_relation.upper()]
  accountant = dp.rdp.RdpAccountant(
      orders=orders.tolist(), neighboring_relation=relation
  )
  with _quiet():
    accountant.compose(step.event(accountant="rdp"))
  return accountant.rdp


def poisson_sampled(step: MechanismLike, orders: np.ndarray) -> np.ndarray:
  """Returns a Poisson step's divergence at whole orders, to its last digits.

  With A the moment, A - 1 is a sum of positive terms: the sum of the binomial
  weights is 1, and is taken off before anything is rounded.

  Args:
    step: Phase of one step.
    orders: Renyi orders, whole numbers, shape [n].

  Source: Mironov, Talwar and Zhang 2019 (1908.10530), equation 9.
  """
  q, noise = step.sampling_prob, step.noise_multiplier
  k = np.arange(2, int(np.max(orders, initial=2)) + 1)
  x = (k * k - k) / (2 * noise**2)
  own = k * math.log(q) + x + np.log(-np.expm1(-x))
  found = np.empty(len(orders))
  for i, order in enumerate(orders.astype(int).tolist()):
    here = slice(order - 1)
    logs = _log_binomials(order) + (order - k[here]) * math.log1p(-q)
    total = log_sums.log_sum_exp(logs + own[here])
    found[i] = float(np.logaddexp(0.0, total)) / (order - 1)
  return found


@functools.lru_cache(maxsize=512)
def _log_binomials(order: int) -> np.ndarray:
  """Returns the logarithms of order over k, for k from 2 on."""
  from scipy import special

  k = np.arange(2, order + 1)
  found = special.gammaln(order + 1) - special.gammaln(k + 1)
  return found - special.gammaln(order - k + 1)


def _repair(orders: np.ndarray, rdp: np.ndarray, *, floor: float) -> np.ndarray:
  """Replaces what cannot be right by a bound that is.

  Args:
    orders: The grid of orders, ascending.
    rdp: Computed divergences, some lost to rounding or not a number.
    floor: A lower bound of the divergence at order 2, hence above it.

  Returns:
    Upper bounds that never fall with the order.
  """
  lost = ~np.isfinite(rdp) | ((orders < 2) & (rdp < RESOLUTION))
  raised = np.where(orders >= 2, np.maximum(rdp, floor), rdp)
  raised = np.where(lost, np.inf, raised)
  return np.minimum.accumulate(raised[::-1])[::-1]


def _total(run: RunLike, orders: tuple[float, ...]) -> np.ndarray:
  """Adds up the divergences of the whole run, shape [1, num_orders]."""
  total = np.zeros(len(orders))
  for part, repeats in run.parts:
    _, rdp = step_divergences(part.one_step(), orders)
    total = total + repeats * part.num_compositions * rdp
  return total[None]


def _totals(
    mechanism: MechanismLike, steps: Sequence[int], orders: tuple[float, ...]
) -> np.ndarray:
  """Adds up divergences after each number of steps, [len(steps), orders]."""
  total, begun = np.zeros((len(steps), len(orders))), 0
  phases = mechanism.phases
  for phase in phases:
    _, rdp = step_divergences(phase.one_step(), orders)
    counts = np.array([[_compositions(phase, t - begun)] for t in steps], float)
    if phase is not phases[-1]:  # The last one goes on.
      counts = np.minimum(counts, phase.num_steps)
    # An infinite divergence of steps not taken would add NaN.
    total = total + np.multiply(
        counts, rdp, out=np.zeros((len(steps), len(rdp))), where=counts > 0
    )
    begun += phase.num_steps
  return total


def _compositions(mechanism: MechanismLike, num_steps: int) -> int:
  """How often the divergence of one step adds up in `num_steps` steps."""
  if num_steps <= 0:  # The phase has not begun.
    return 0
  return mechanism.sampler.compositions(mechanism, num_steps)


@contextlib.contextmanager
def _quiet():
  """Silences dp-accounting's notes on orders that it leaves out."""
  logger = logging.getLogger("absl")
  before = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(before)
