"""Finds a noise by its name.

Invariant: what is accounted for is in this table. To add a noise, write its
file and add its line here; `jax_privacy/noises.py` draws it.

>>> get("banded").name
'banded'
>>> get("pink")
Traceback (most recent call last):
ValueError: noise must be one of independent, banded, banded_inverse, blt, got \
'pink'.
"""

from typing import Any

from accounting import _validate
from accounting.noises import banded, independent, toeplitz
from accounting.noises.noise import Noise

_NOISES: tuple[Noise, ...] = (
    independent.Independent(),
    banded.Banded(),
    toeplitz.BandedInverse(),
    toeplitz.Buffered(),
)


def names() -> tuple[str, ...]:
  """Returns the names of all noises."""
  return tuple(noise.name for noise in _NOISES)


def get(name: Any) -> Noise:
  """Returns the noise of that name.

  Args:
    name: Name of a noise.

  Raises:
    ValueError: If there is none.
  """
  _validate.choice("noise", name, options=names())
  return next(each for each in _NOISES if each.name == name)
