"""Checks of arguments, one sentence each, shared by the whole package.

Every message reads "<name> must be <rule>, got <value>.": the name a caller
typed, the rule it broke and what was there instead. NaN fails every rule, and
a boolean is not a number, although Python would let it pass for one.

>>> real("delta", 0.5, low=0, high=1)
0.5
>>> integer("num_steps", True)
Traceback (most recent call last):
ValueError: num_steps must be an integer of at least 1, got True.
"""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

# JSON numbers are read as Python integers of any length; beyond 2**53 a float
# no longer tells neighbours apart, so no count is let through up there.
_MAX_INTEGER = 2**53
_MAX_SHOWN = 200
_MAX_UNIT = 60


def fail(name: str, rule: str, value: Any) -> NoReturn:
  """Raises the ValueError that every check here raises."""
  raise ValueError(f"{name} must be {rule}, got {shown(value)}.")


def shown(value: Any) -> str:
  """Returns repr(value) on one line, cut where it is long."""
  try:
    text = " ".join(repr(value).split())
  except (RecursionError, ValueError):  # Too deep; too many digits.
    return f"a {type(value).__name__} too long to show"
  return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _is_real(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)


def real(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_ok: bool = False,
    high_ok: bool = False,
) -> float:
  """Returns `value` as a float, if it is finite and inside the interval.

  Args:
    name: The argument's name, for the message.
    value: What the caller gave; any real number but a boolean.
    low: Lower end of the interval.
    high: Upper end of the interval.
    low_ok: Whether the lower end itself is allowed.
    high_ok: Whether the upper end itself is allowed.

  Returns:
    The value as a Python float.

  Raises:
    ValueError: If it is no real number, not finite, or outside.
  """
  rule = _rule(low, high, low_ok=low_ok, high_ok=high_ok)
  if not _is_real(value):
    fail(name, rule, value)
  try:
    number = float(value)
  except OverflowError:
    fail(name, rule, value)
  above = number >= low if low_ok else number > low
  below = number <= high if high_ok else number < high
  if not (math.isfinite(number) and above and below):
    fail(name, rule, value)
  return number


def _rule(low: float, high: float, *, low_ok: bool, high_ok: bool) -> str:
  if math.isfinite(high):
    ends = f"{'[' if low_ok else '('}{low:g}, {high:g}{']' if high_ok else ')'}"
    return f"a number in {ends}"
  if math.isfinite(low):
    return f"a finite number {'of at least' if low_ok else 'above'} {low:g}"
  return "a finite number"


def integer(name: str, value: Any, *, low: int = 1) -> int:
  """Returns `value` as an int, if it is an integer of at least `low`.

  Args:
    name: The argument's name, for the message.
    value: What the caller gave. 3.0 is not an integer, nor is True.
    low: The least value allowed.

  Returns:
    The value as a Python int.

  Raises:
    ValueError: If it is no integer, too small, or beyond 2**53.
  """
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    fail(name, f"an integer of at least {low}", value)
  number = int(value)
  if number < low:
    fail(name, f"an integer of at least {low}", value)
  if number > _MAX_INTEGER:
    fail(name, "an integer of at most 2**53", value)
  return number


def choice(name: str, value: Any, *, options: Sequence[str]) -> str:
  """Returns `value`, if it is one of `options`."""
  if not isinstance(value, str) or value not in options:
    fail(name, "one of " + ", ".join(options), value)
  return value


def unit(name: str, value: Any) -> str:
  """Returns `value`, if it can be written as the unit of privacy."""
  ok = isinstance(value, str) and value.strip() and value.isprintable()
  if not ok or len(value) > _MAX_UNIT:
    fail(name, "a word or two, such as example or patient", value)
  return value


def text(name: str, value: Any, *, rule: str, most: int = 200) -> str:
  """Returns `value`, if it is one printable line of at most `most` letters."""
  ok = isinstance(value, str) and value.strip() and value.isprintable()
  if not ok or len(value) > most:
    fail(name, f"{rule}, in one line of at most {most} characters", value)
  return value


def keys(name: str, fields: Any, known: Sequence[str]) -> None:
  """Checks that `fields` is a mapping with these keys and no others."""
  rule = "a mapping of " + ", ".join(known)
  if not isinstance(fields, Mapping):
    fail(name, rule, type(fields).__name__)
  for key in known:
    if key not in fields:
      fail(key, f"given in {name}", None)
  if unknown := [key for key in fields if key not in known]:
    fail(name, rule, unknown[0])
