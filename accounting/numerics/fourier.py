"""The Fourier transform of a step's probabilities, for high powers of it.

Invariant: a coefficient near 1 is kept by what differs from 1, so that its
power of 1e8 is right.

>>> found = transform(np.array([0.5, 0.5]), 8)
>>> f"{found.log_size[-1]:.1f}"  # At the highest frequency they cancel.
'-inf'
"""

from typing import NamedTuple

import numpy as np


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


def transform(probs: np.ndarray, size: int) -> Transform:
  """Returns the transform of probabilities on a circle.

  Args:
    probs: Probabilities, one bin apart.
    size: Number of points of the circle.
  """
  # About its likeliest loss a step turns low frequencies but little, and
  # without that loss the transform rounds less.
  from scipy import fft

  centre = int(np.argmax(probs))
  others = probs.copy()
  others[centre] = 0.0
  rest = float(np.sum(others))
  moved = fft.rfft(_folded(others, -centre, size)) - rest
  real, imag = moved.real, moved.imag
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


def _folded(probs: np.ndarray, first: int, size: int) -> np.ndarray:
  """Puts probabilities on a circle of `size` points, from `first` on."""
  before = first % size
  padded = np.zeros(-(-(before + len(probs)) // size) * size)
  padded[before : before + len(probs)] = probs
  return np.sum(padded.reshape(-1, size), axis=0)
