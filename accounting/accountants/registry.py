"""Finds an accountant by its name.

Invariant: this table is the only list of accountants. To add one, write its
file and add its line here.

>>> get("pld").title
'privacy loss distributions (PLD)'
>>> get("moments")
Traceback (most recent call last):
ValueError: accountant must be one of pld, rdp, got 'moments'.
"""

from typing import Any

from accounting import _validate
from accounting.accountants import pld, rdp
from accounting.accountants.accountant import Accountant

_ACCOUNTANTS: tuple[Accountant, ...] = (
    pld.LossDistributions(),
    rdp.RenyiDivergences(),
)

# Has an analysis of most samplers, and its bound is the least.
TIGHTEST = pld.LossDistributions.name
# Of the best of several runs there is no other analysis.
TUNING = rdp.RenyiDivergences.name


def names() -> tuple[str, ...]:
  """Returns the names of all accountants, in the order they are shown."""
  return tuple(accountant.name for accountant in _ACCOUNTANTS)


def get(name: Any) -> Accountant:
  """Returns the accountant of that name.

  Args:
    name: Name of an accountant.

  Raises:
    ValueError: If there is none.
  """
  _validate.choice("accountant", name, options=names())
  return next(each for each in _ACCOUNTANTS if each.name == name)
