"""The warnings of this package, one class for each thing that can be wrong.

A warning never changes a number. Each class can be silenced or turned into an
error by itself:

>>> import warnings
>>> with warnings.catch_warnings():
...   warnings.simplefilter("error", LargeDeltaWarning)
"""


class AccountingWarning(UserWarning):
  """A number that is right, and needs a word of explanation."""


class LargeDeltaWarning(AccountingWarning):
  """Delta is 1 / num_examples or more.

  A mechanism that publishes one example picked at random already has
  delta = 1 / num_examples, so such a guarantee promises an individual little.
  """


class TinyDeltaWarning(AccountingWarning):
  """Delta is so small that the PLD accountant has no answer."""


class WideBoundWarning(AccountingWarning):
  """An epsilon that may be more than 1% above the truth, by estimate."""


class OrderGridWarning(AccountingWarning):
  """The best Renyi order is an end of the grid: a wider one may be tighter."""


class VacuousGuaranteeWarning(AccountingWarning):
  """Epsilon is so large that the guarantee promises nothing of use."""
