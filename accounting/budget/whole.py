"""Whole numbers as people write them: 1000, 1_000, 1e3.

Invariant: the result is the number that was written, to the last digit, or an
error; nothing is rounded on the way, as `int(float(text))` would.

>>> parse("1e6"), parse("1_000_000"), parse("2.5e3")
(1000000, 1000000, 2500)
"""

import decimal
import re

from accounting import _validate

_NUMBER = re.compile(
    r"[+-]?(\d+(_\d+)*(\.\d*)?|\.\d+)([eE][+-]?\d{1,9})?", re.ASCII
)
# No count here goes beyond 2**53, which has 16 digits.
_MAX_DIGITS = 16


def parse(text: str) -> int:
  """Returns the whole number that a text says.

  Args:
    text: Digits, with underscores between them, a point or an exponent.

  Returns:
    The number. Its range is for the caller to check.

  Raises:
    ValueError: If it is no number, not whole, or has more than 16 digits.
  """
  text = text.strip()
  if not _NUMBER.fullmatch(text):
    _fail(text)
  number = decimal.Decimal(text.replace("_", ""))
  if not number:
    return 0
  if number.adjusted() >= _MAX_DIGITS:
    rule = "a whole number of at most 2**53"
    raise ValueError(f"must be {rule}, got {_validate.shown(text)}.")
  if number != number.to_integral_value():
    _fail(text)
  return int(number)


def _fail(text: str):
  rule = "a whole number, such as 1000, 1_000 or 1e3"
  raise ValueError(f"must be {rule}, got {_validate.shown(text)}.")


def argument(text: str) -> int:
  """Returns `parse(text)`, for argparse, which adds the flag's name.

  Args:
    text: Text of the flag.

  Raises:
    ArgumentTypeError: If it is no such number.
  """
  import argparse

  try:
    return parse(text)
  except ValueError as error:
    raise argparse.ArgumentTypeError(str(error)) from None


def list_of(text: str | None, *, name: str) -> list[int]:
  """Returns the whole numbers of a text such as "1,2,4"; none for None.

  Args:
    text: Numbers with commas between them.
    name: Name of the flag, for the error text.

  Raises:
    ValueError: If one is none.
  """
  try:
    return [parse(each) for each in text.split(",")] if text is not None else []
  except ValueError as error:
    raise ValueError(f"{name} {error}") from None
