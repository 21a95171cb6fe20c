"""How much of a gradient is kept, as a function of its norm alone.

Standard clipping multiplies a gradient g by min(1, C / |g|), for the clip norm
C. Automatic clipping and PSAC multiply it by another weight w(|g|), so that
there is less to tune. Any weight costs the same: `clipped_grad` knows the norms
before it makes the sum, and nothing else changes.

The invariant: whatever a function of this file, or of one's own, says, its
weight is cut at C / |g|, rounded down. So an example's part has norm at most C,
the same as with standard clipping, and so have sensitivity and noise.

>>> import jax.numpy as jnp
>>> from jax_privacy import clipping
>>> loss = lambda param, x: jnp.mean(x * param)  # Of gradient x.
>>> x = jnp.array([0.001, 1.0, 1000.0])
>>> for name in names():
...   grad_fn = clipping.clipped_grad(loss, l2_clip_norm=2.0, clipping=name)
...   kept = [float(grad_fn(0.0, x[i:i + 1])) for i in range(3)]
...   print(name, [round(k, 4) for k in kept], grad_fn.sensitivity())
standard [0.001, 1.0, 2.0] 2.0
automatic [0.1818, 1.9802, 2.0] 2.0
psac [0.0022, 1.9804, 2.0] 2.0
"""

import abc
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import _validate

# A stability that is far off these loses digits, or does nothing.
_MIN_STABILITY, _MAX_STABILITY = 1e-6, 1e6
# More than norm, weight and the two products after it round.
_SLACK = 8


class ClippingFunction(abc.ABC):
  """A weight w(norm), by which an example's gradient is multiplied."""

  @abc.abstractmethod
  def weight(self, norm: jax.Array, clip_norm: Any) -> jax.Array:
    """Returns the weight of a gradient.

    What is above `clip_norm` / `norm` or `largest(clip_norm)` is cut to it;
    what is negative or NaN counts zero.

    Args:
      norm: Norms of gradients before clipping, any shape; they may be infinite.
      clip_norm: Clip norm, a number or a traced scalar.
    """

  @abc.abstractmethod
  def largest(self, clip_norm: Any) -> Any:
    """Returns the largest weight, of any norm.

    Args:
      clip_norm: Clip norm, a number or a traced scalar.
    """


@dataclasses.dataclass(frozen=True)
class Automatic(ClippingFunction):
  """AUTO-S: w(n) = C / (n + stability).

  Every gradient is scaled to nearly the norm C, so that C only multiplies the
  sum and needs no tuning: with `rescale_to_unit_norm` it changes nothing. The
  stability keeps small gradients small, without which the method need not
  converge.

  Attributes:
    stability: Norm of a gradient that is scaled to C / 2, between 1e-6 and 1e6;
      0.01 in the paper.

  Guarantee: An example's part has norm w(n) n = C n / (n + stability) < C, for
    every n >= 0. So adding or removing an example moves the sum by at most C,
    and replacing one by 2 C.

  Source: Bu et al. 2022 (arXiv 2206.07136).
  """

  stability: float = 0.01

  def __post_init__(self):
    object.__setattr__(self, "stability", _stability(self.stability))

  def weight(self, norm: jax.Array, clip_norm: Any) -> jax.Array:
    """See `ClippingFunction`."""
    return clip_norm / (norm + self.stability)

  def largest(self, clip_norm: Any) -> Any:
    """See `ClippingFunction`: of the norm 0."""
    return clip_norm / self.stability


@dataclasses.dataclass(frozen=True)
class Psac(ClippingFunction):
  """PSAC: w(n) = C / (n + stability / (n + stability)).

  As automatic clipping for large gradients. It does not lift small ones as
  much: a gradient near zero has the weight C, not C / stability.

  Attributes:
    stability: Constant r of the paper, between 1e-6 and 1e6; 0.01 here.

  Guarantee: With r / (n + r) > 0, an example's part has norm
    w(n) n = C n / (n + r / (n + r)) < C, for every n >= 0. So adding or
    removing an example moves the sum by at most C, and replacing one by 2 C.

  Source: Xia et al. 2022 (arXiv 2212.00328).
  """

  stability: float = 0.01

  def __post_init__(self):
    object.__setattr__(self, "stability", _stability(self.stability))

  def weight(self, norm: jax.Array, clip_norm: Any) -> jax.Array:
    """See `ClippingFunction`."""
    r = self.stability
    return clip_norm / (norm + r / (norm + r))

  def largest(self, clip_norm: Any) -> Any:
    """See `ClippingFunction`.

    The divisor n + r / (n + r) is least at n = sqrt(r) - r, or at 0 if that is
    negative: 2 sqrt(r) - r, or 1.
    """
    r = self.stability
    return clip_norm / (2 * math.sqrt(r) - r if r < 1 else 1.0)


@dataclasses.dataclass(frozen=True)
class InUnits(ClippingFunction):
  """A function for norms that were divided by a unit, as clip norms were.

  Attributes:
    function: Function of norms in their own units.
    unit: A number or a traced scalar.
  """

  function: ClippingFunction
  unit: Any

  def weight(self, norm: jax.Array, clip_norm: Any) -> jax.Array:
    """See `ClippingFunction`."""
    return self.function.weight(norm * self.unit, clip_norm * self.unit)

  def largest(self, clip_norm: Any) -> Any:
    """See `ClippingFunction`."""
    return self.function.largest(clip_norm * self.unit)


_FUNCTIONS = {"standard": None, "automatic": Automatic, "psac": Psac}


def names() -> tuple[str, ...]:
  """Returns the names of all functions."""
  return tuple(_FUNCTIONS)


def get(clipping: Any, **options: Any) -> ClippingFunction | None:
  """Returns a clipping function; None for standard clipping.

  Args:
    clipping: Name of a function, or a `ClippingFunction`.
    **options: Options of a function that is named, such as stability.

  Raises:
    ValueError: If there is none of that name, or it has no such option.
  """
  if isinstance(clipping, ClippingFunction):
    if options:
      _validate.fail("clipping_options", "left out with an object", options)
    return clipping
  if not isinstance(clipping, str) or clipping not in _FUNCTIONS:
    rule = f"one of {', '.join(names())}, or a ClippingFunction"
    _validate.fail("clipping", rule, clipping)
  make = _FUNCTIONS[clipping]
  fields = () if make is None else dataclasses.fields(make)
  known = tuple(field.name for field in fields)
  for name in options:
    if name not in known:
      listed = f"names among {', '.join(known)}" if known else "no names"
      rule = f"a mapping of {listed} for {clipping!r}"
      _validate.fail("clipping_options", rule, name)
  return None if make is None else make(**options)


def row_factor(
    function: ClippingFunction, relative: jax.Array, clip_norm: Any
) -> jax.Array:
  """Returns weights over the largest weight, in [0, 1].

  Rows are scaled by these before they are summed, and the sum by `largest`: a
  row that is scaled up could overflow, though its part of the sum would not.

  Args:
    function: Clipping function.
    relative: Norms over clip norms, any shape.
    clip_norm: Clip norm, a number or a traced scalar.

  Returns:
    Factors, of the dtype of `relative`. Times `largest`, a factor is at most
    1 / relative, with room for what is rounded.
  """
  dtype = relative.dtype
  clip_norm = jnp.asarray(clip_norm, dtype)
  largest = jnp.asarray(function.largest(clip_norm), dtype)
  weight = function.weight(relative * clip_norm, clip_norm).astype(dtype)
  slack = 1.0 - _SLACK * float(jnp.finfo(dtype).eps)
  most = jnp.minimum(1.0, slack / (relative * largest))
  factor = jnp.minimum(weight / largest, most)
  return jnp.where(factor >= 0, factor, 0)  # NaN is not.


def _stability(value: Any) -> float:
  value = _validate.positive("stability", value)
  if not _MIN_STABILITY <= value <= _MAX_STABILITY:
    rule = f"between {_MIN_STABILITY:g} and {_MAX_STABILITY:g}"
    _validate.fail("stability", rule, value)
  return value
