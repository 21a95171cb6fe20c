"""The noises of a run, by name: how the noise of its steps is correlated.

>>> from accounting import noises
>>> noises.names()
('independent', 'banded', 'banded_inverse', 'blt')
"""

from accounting.noises.noise import Noise as Noise
from accounting.noises.registry import get as get
from accounting.noises.registry import names as names

__all__ = (
    "Noise",
    "get",
    "names",
)


def __dir__() -> list[str]:
  return list(__all__)
