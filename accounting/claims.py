"""Writes the numbers of a claim, rounded so that the claim holds as printed.

An upper bound is rounded up, a lower bound down, in exact decimal arithmetic:
rounding epsilon 2.9993 to the nearest 2.999 would claim what was not shown.
Every epsilon, delta and bound that this project prints is written here.

Invariant: the text of an upper bound, read as a number, is never below the
value, and no text of as many digits is closer; a lower bound mirrors this. A
value that is short in decimal, such as 3.0 or 0.1, is printed as it is.

>>> at_most(2.0930469), at_most(3.0), at_most(2.9999999999)
('2.094', '3.000', '3.000')
>>> at_least(1.2345), at_most(float("inf"))
('1.234', 'infinite')
>>> at_most_short(1e-05), at_most_scientific(8.9057e-2, digits=3)
('1e-05', '8.91e-02')
>>> at_most_percent(0.34581), exact_percent(0.99999)
('34.59%', '99.999%')
"""

import decimal
import math

# Beyond this, decimals say nothing, and would be printed by the hundred.
_MAX_FIXED = 1e9
_PERCENT_DECIMALS = 2
# Enough for any double, whose digits reach from 1e308 down to 5e-324.
_EXACT = decimal.Context(prec=2000, Emin=-9999, Emax=9999)


def at_most(value: float | None, *, decimals: int = 3) -> str:
  """Writes an upper bound with a fixed number of decimals, rounded up.

  Args:
    value: The bound. None, which JSON has in its place, is infinity.
    decimals: Digits after the point; from 1e9 on, digits after the first.

  Returns:
    Such as "3.883", or "infinite".

  Raises:
    ValueError: If the value is NaN, which is no claim.
  """
  return _fixed(value, decimals, decimal.ROUND_CEILING)


def at_least(value: float | None, *, decimals: int = 3) -> str:
  """Returns a lower bound with a fixed number of decimals, rounded down.

  Infinity, None and errors are as in `at_most`.

  Args:
    value: Lower bound; see `at_most`.
    decimals: Number of decimals.
  """
  return _fixed(value, decimals, decimal.ROUND_FLOOR)


def at_most_short(value: float | None, *, digits: int = 6) -> str:
  """Writes an upper bound in as few significant digits as it takes, up.

  Args:
    value: The bound; None for infinity.
    digits: The most significant digits, at most 15.

  Returns:
    As "%g" does: "1e-05", "0.08192", "3".
  """
  if (found := _decimal(value)) is None:
    return "infinite"
  return _general(_significant(found, digits, decimal.ROUND_CEILING), digits)


def at_most_scientific(value: float | None, *, digits: int = 4) -> str:
  """Returns an upper bound as 1.234e-05, rounded up; 0 is "0".

  Args:
    value: Upper bound; see `at_most`.
    digits: Number of digits.
  """
  if (found := _decimal(value)) is None:
    return "infinite"
  return _scientific(found, digits, decimal.ROUND_CEILING)


def at_most_percent(value: float) -> str:
  """Returns a probability that is an upper bound in percent, rounded up.

  Args:
    value: Probability, in [0, 1].
  """
  return _percent(value, decimal.ROUND_CEILING)


def exact(value: float) -> str:
  """Returns a number that was given, in all of its digits: "3", "0.08192".

  Args:
    value: Number to show.
  """
  found = _decimal(value)
  return "infinite" if found is None else _general(found, 17)


def exact_percent(value: float) -> str:
  """Returns a probability that was given, in percent and all of its digits.

  Args:
    value: Probability, in [0, 1].

  Raises:
    ValueError: If it is infinite, or no number.
  """
  found = _decimal(value)
  if found is None:
    raise ValueError(f"value must be a probability, got {value}.")
  return f"{_plain(found.scaleb(2, _EXACT))}%"


def _decimal(value: float | None) -> decimal.Decimal | None:
  """Returns the shortest decimal that reads back as the value.

  Not the value's own 50 digits: the double 0.1 is a little above a tenth, and
  would be rounded up to 0.101. Infinity, of which there are no digits, is None.
  """
  if isinstance(value, int):
    return decimal.Decimal(value)
  value = math.inf if value is None else float(value)
  if math.isnan(value):
    raise ValueError(f"claim must be a number, got {value}.")
  return None if math.isinf(value) else decimal.Decimal(repr(value))


def _fixed(value: float | None, decimals: int, rounding: str) -> str:
  if (found := _decimal(value)) is None:
    return "infinite"
  if abs(found) >= _MAX_FIXED:
    return _scientific(found, decimals + 1, rounding)
  return f"{_quantized(found, -decimals, rounding):f}"


def _quantized(
    found: decimal.Decimal, exponent: int, rounding: str
) -> decimal.Decimal:
  """Rounds to a multiple of 10**exponent, and -0 to 0."""
  unit = decimal.Decimal((0, (1,), exponent))
  return _EXACT.plus(found.quantize(unit, rounding, _EXACT))


def _significant(
    found: decimal.Decimal, digits: int, rounding: str
) -> decimal.Decimal:
  return _quantized(found, found.adjusted() - digits + 1, rounding)


def _scientific(found: decimal.Decimal, digits: int, rounding: str) -> str:
  rounded = _significant(found, digits, rounding)
  if not rounded:
    return "0"
  exponent = rounded.adjusted()
  mantissa = rounded.scaleb(-exponent, _EXACT)
  return f"{mantissa:.{digits - 1}f}e{exponent:+03d}"


def _general(found: decimal.Decimal, digits: int) -> str:
  """Returns "%g" of a number that has no more digits than it shows."""
  if not found:
    return "0"
  exponent = found.adjusted()
  if -5 < exponent < digits:
    return _plain(found)
  mantissa = _plain(found.scaleb(-exponent, _EXACT))
  return f"{mantissa}e{exponent:+03d}"


def _percent(value: float, rounding: str) -> str:
  found = _decimal(value)
  if found is None:
    raise ValueError(f"probability must be finite, got {value}.")
  percent = found.scaleb(2, _EXACT)
  # Two digits of what is less than a hundredth of a percent.
  exponent = min(-_PERCENT_DECIMALS, percent.adjusted() - 1 if percent else 0)
  return f"{_plain(_quantized(percent, exponent, rounding))}%"


def _plain(found: decimal.Decimal) -> str:
  """Writes all digits, without zeros at the end."""
  text = f"{found:f}"
  return text.rstrip("0").rstrip(".") if "." in text else text
