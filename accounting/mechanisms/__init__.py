"""Releases that are no training runs, by their kind.

>>> from accounting import mechanisms
>>> mechanisms.get("zcdp").__name__
'ZeroConcentratedDp'
"""

from accounting.mechanisms.basic import Basic as Basic
from accounting.mechanisms.public import Public as Public
from accounting.mechanisms.registry import get as get
from accounting.mechanisms.registry import names as names

__all__ = (
    "Basic",
    "Public",
    "get",
    "names",
)


def __dir__() -> list[str]:
  return list(__all__)
