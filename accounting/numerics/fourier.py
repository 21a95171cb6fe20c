"""The Fourier transform of a step's probabilities, for high powers of it.

Invariant: a coefficient near 1 is kept by what differs from 1, so that its
power of 1e8 is right.

Of many kinds of steps a product is needed. No factor is above 1: once a product
is as good as 0 from some frequency on, the other factors need not be known
there. A few frequencies of a short step cost much less than all of them.

>>> found = transform(np.array([0.5, 0.5]), 8)
>>> f"{found.log_size[-1]:.1f}"  # At the highest frequency they cancel.
'-inf'
>>> few = transform(np.array([0.5, 0.5]), 8, count=2)
>>> bool(np.allclose(few.log_size, found.log_size[:2])), len(few.angle)
(True, 2)
"""

import functools
import math
from typing import NamedTuple

import numpy as np

# Smaller coefficients are 0: exp(-60) is far below the rounding of any other.
_SILENT = 60.0


class Transform(NamedTuple):
  """Fourier coefficients of a step's probabilities, about the likeliest.

  Attributes:
    log_size: Logarithms of their absolute values.
    angle: Their angles.
    centre: Index of the likeliest.
    rest: Probability of all others.
  """

  log_size: np.ndarray
  angle: np.ndarray
  centre: int
  rest: float


def transform(
    probs: np.ndarray, size: int, *, count: int | None = None
) -> Transform:
  """Returns the transform of probabilities on a circle.

  Args:
    probs: Probabilities, one bin apart.
    size: Number of points of the circle.
    count: Number of frequencies from 0 on; None for all, size // 2 + 1.
  """
  # About its likeliest loss a step turns low frequencies but little, and
  # without that loss the transform rounds less.
  centre = int(np.argmax(probs))
  others = probs.copy()
  others[centre] = 0.0
  rest = float(np.sum(others))
  whole = size // 2 + 1
  if count is None or _costs(len(probs), count) > whole:
    from scipy import fft

    moved = fft.rfft(_folded(others, -centre, size)) - rest
    real, imag = moved.real[:count], moved.imag[:count]
  else:
    real, imag = _low(others, centre, size, count)
  # Near 1 by what differs from it; elsewhere that would lose a small one. By
  # squares, which take a third of the time of absolute values.
  squares = real * real + imag * imag
  near = 2 * real + squares
  with np.errstate(divide="ignore"):
    log_size = 0.5 * np.where(
        squares < 0.25,
        np.log1p(np.maximum(near, -0.99)),
        np.log(np.square(1 + real) + imag * imag),
    )
  return Transform(log_size, np.arctan2(imag, 1 + real), centre, rest)


class Product:
  """The product of powers of transforms, as far as it is not 0.

  Attributes:
    log_size: Logarithms of the absolute values, shape [count].
    angle: Their angles, shape [count].
    lost: Upper bound of what any one probability misses.
  """

  def __init__(self, size: int):
    """Makes a product of no factors.

    Args:
      size: Number of points of the circle.
    """
    self.log_size = np.zeros(size // 2 + 1)
    self.angle = np.zeros(size // 2 + 1)
    self.lost = 0.0

  @property
  def count(self) -> int:
    """Number of frequencies, from 0 on, at which factors are still needed."""
    return len(self.log_size)

  def multiply(self, factor: Transform, times: int) -> None:
    """Multiplies by a power of a transform.

    Args:
      factor: Transform at the first `count` frequencies at least.
      times: Exponent.
    """
    count = self.count
    self.log_size += times * factor.log_size[:count]
    self.angle += times * factor.angle[:count]
    # At frequency 0 it is 1 but for rounding, and never silent.
    heard = int(np.flatnonzero(self.log_size > -_SILENT)[-1]) + 1
    if heard < count:
      self.log_size, self.angle = self.log_size[:heard], self.angle[:heard]
      # All frequencies, each of this size at most, over their number.
      self.lost = math.exp(-_SILENT)


def _costs(length: int, count: int) -> float:
  """About the time of `_low`; a point of a circle takes 1."""
  return count * (length / 16 + 4 * math.sqrt(length))


def _low(
    others: np.ndarray, centre: int, size: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """Sums probs x (exp(-i angle) - 1) at low frequencies, by blocks of losses.

  An angle is a block's and a place's in it, so that few of them are needed:
  exp(-i (a + b)) - 1 is exp(-i a) (exp(-i b) - 1) + exp(-i a) - 1.

  Returns:
    Real and imaginary parts, shape [count] each.
  """
  width = 1 << math.ceil(math.log2(math.sqrt(len(others))))
  before = -(-centre // width)  # Blocks, so that the centre begins one.
  pad = before * width - centre
  blocks = -(-(pad + len(others)) // width)
  padded = np.zeros(blocks * width)
  padded[pad : pad + len(others)] = others
  held = padded.reshape(blocks, width)
  turns = _turns(size, 1, 0, width, 1 << (count - 1).bit_length())[:, :count]
  # By no matrix product: threads of BLAS cost more than they save here.
  inner = np.einsum("bw,wc->bc", held, turns)
  outer = _turned(size, width, -before, blocks, count)
  sums = np.sum(held, axis=1)
  found = np.sum(inner, axis=0) + np.sum(outer * inner, axis=0)
  found += np.einsum("b,bc->c", sums, outer)
  return found.real, found.imag


@functools.lru_cache(maxsize=8)
def _turns(size: int, width: int, first: int, number: int, count: int):
  return _turned(size, width, first, number, count)


def _turned(
    size: int, width: int, first: int, number: int, count: int
) -> np.ndarray:
  """Returns exp(-i angle) - 1 of losses `width` apart, at low frequencies."""
  places = width * (first + np.arange(number))
  # Whole turns are taken off before anything is rounded.
  angle = np.multiply.outer(places, np.arange(count)) % size
  half = (np.pi / size) * angle
  sine = np.sin(half)
  return (-2 * sine) * (sine + 1j * np.cos(half))


def _folded(probs: np.ndarray, first: int, size: int) -> np.ndarray:
  """Puts probabilities on a circle of `size` points, from `first` on."""
  before = first % size
  padded = np.zeros(-(-(before + len(probs)) // size) * size)
  padded[before : before + len(probs)] = probs
  return np.sum(padded.reshape(-1, size), axis=0)
