"""The accountants, by name: each adds up what the steps of a run leak.

>>> from accounting import accountants
>>> accountants.names()
('pld', 'rdp')
"""

from accounting.accountants.accountant import Accountant as Accountant
from accounting.accountants.accountant import Evaluation as Evaluation
from accounting.accountants.registry import TIGHTEST as TIGHTEST
from accounting.accountants.registry import TUNING as TUNING
from accounting.accountants.registry import get as get
from accounting.accountants.registry import names as names

__all__ = (
    "Accountant",
    "Evaluation",
    "TIGHTEST",
    "TUNING",
    "get",
    "names",
)


def __dir__() -> list[str]:
  return list(__all__)
