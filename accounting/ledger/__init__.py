"""The ledger of a data set: what was released of it, and what is left.

>>> from accounting import ledger
>>> ledger.RELEASE
'release'
"""

from accounting.ledger.chain import ChangedError as ChangedError
from accounting.ledger.entry import BOOKING as BOOKING
from accounting.ledger.entry import RELEASE as RELEASE
from accounting.ledger.entry import SETTLEMENT as SETTLEMENT
from accounting.ledger.entry import Entry as Entry
from accounting.ledger.ledger import BudgetError as BudgetError
from accounting.ledger.ledger import Ledger as Ledger
from accounting.ledger.text import seals as seals

__all__ = (
    "BOOKING",
    "BudgetError",
    "ChangedError",
    "Entry",
    "Ledger",
    "RELEASE",
    "SETTLEMENT",
    "seals",
)


def __dir__() -> list[str]:
  return list(__all__)
