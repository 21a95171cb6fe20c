"""The samplers, by name: how batches are drawn, and what is known of it.

>>> from accounting import samplers
>>> samplers.names()[:3]
('poisson', 'truncated_poisson', 'fixed_without_replacement')
>>> samplers.names()[3:6]
('random_allocation', 'balls_in_bins', 'shuffle')
>>> samplers.names()[6:]
('deterministic', 'cyclic_poisson')
"""

from accounting.samplers.registry import get as get
from accounting.samplers.registry import names as names
from accounting.samplers.sampler import Option as Option
from accounting.samplers.sampler import Sampler as Sampler

__all__ = (
    "Option",
    "Sampler",
    "get",
    "names",
)


def __dir__() -> list[str]:
  return list(__all__)
