"""Text of which every line is sealed, so that a change shows with its line.

The text is blocks. Each ends with a digest of every line in it, and a seal: the
SHA-256 of the block and of the seal before. Invariant: text that `verify`
accepts is, byte for byte, what `seal` wrote, block after block.

It protects from mistakes and from quiet changes, not from someone who computes
all later seals again: against them keep the last seal elsewhere.

>>> text = seal("", ["a = 1"], table="seal")
>>> [block] = verify(text, name="x.toml")
>>> block.lines
('a = 1',)
>>> verify(text.replace("a = 1", "a = 2"), name="x.toml")
Traceback (most recent call last):
accounting.ledger.chain.ChangedError: line 1 of x.toml must be as it was \
sealed, got 'a = 2'. It was changed by hand: restore the file from a copy, and \
write corrections as new entries.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from accounting import _validate

_SEAL = re.compile(r'sha256 = "([0-9a-f]{64})"')
_LINES = re.compile(r'lines = "([0-9a-f ]*)"')
_DIGITS = 8
# Header of the seal's table, the digests of lines, and the seal.
_TAIL = 3


class ChangedError(ValueError):
  """A line is not as it was sealed."""


class Block(NamedTuple):
  """A sealed part of the text.

  Attributes:
    first: Number of its first line, from 1.
    lines: Lines without the seal's.
    seal: SHA-256 of it and all before, in hexadecimal digits.
  """

  first: int
  lines: tuple[str, ...]
  seal: str


def seal(before: str, lines: Sequence[str], *, table: str) -> str:
  """Returns the text of one more block.

  Args:
    before: Seal of the block before; "" for the first.
    lines: Lines of the block, without line breaks.
    table: Name of the TOML table that holds the seal.
  """
  digests = " ".join(_digests(before, lines))
  tail = [f"[{table}]", f'lines = "{digests}"']
  whole = [*lines, *tail]
  sealed = [*whole, f'sha256 = "{_seal_of(before, whole)}"']
  return "".join(f"{line}\n" for line in sealed)


def verify(text: str, *, name: str) -> list[Block]:
  """Returns the blocks of a text, each checked.

  Args:
    text: Text, as read.
    name: Name of the file, for the message.

  Raises:
    ChangedError: If a line was changed, added or removed; it names the line.
  """
  lines = text.split("\n")
  if lines.pop() != "":
    _changed(name, len(lines) + 1, "its end is missing")
  found: list[Block] = []
  first, before = 0, ""
  for number, line in enumerate(lines):
    if (match := _SEAL.fullmatch(line)) is None:
      continue
    block = lines[first:number]
    _check(block, before, match[1], name=name, first=first)
    kept = tuple(block[: 1 - _TAIL])
    found.append(Block(first + 1, kept, match[1]))
    first, before = number + 1, match[1]
  if first < len(lines):
    _changed(name, first + 1, lines[first])
  if not found:
    raise ChangedError(f"{name} must hold a sealed header, got none.")
  return found


def _check(
    block: list[str], before: str, sealed: str, *, name: str, first: int
) -> None:
  """Refuses a block that is not as it was sealed, and names the line."""
  if len(block) >= _TAIL and _seal_of(before, block) == sealed:
    return
  match = _LINES.fullmatch(block[-1]) if block else None
  if match is None:
    where = first + max(len(block), 1)
    _changed(name, where, block[-1] if block else "a seal of nothing")
  kept = block[: 1 - _TAIL]
  digests = match[1].split()
  for i, (line, digest) in enumerate(
      zip(kept, _digests(before, kept), strict=True)
  ):
    if i >= len(digests) or digests[i] != digest:
      _changed(name, first + 1 + i, line)
  if len(digests) != len(kept):
    _changed(name, first + 1 + len(kept), "a line less")
  _changed(name, first + 1 + len(block), f"the seal {sealed[:8]}...")


def _digests(before: str, lines: Sequence[str]) -> list[str]:
  """Returns a digest of each line, its place and the seal before."""
  return [
      hashlib.sha256(f"{before}\n{i}\n{line}".encode()).hexdigest()[:_DIGITS]
      for i, line in enumerate(lines)
  ]


def _seal_of(before: str, lines: Sequence[str]) -> str:
  return hashlib.sha256("\n".join([before, *lines]).encode()).hexdigest()


def _changed(name: str, line: int, got: str) -> NoReturn:
  raise ChangedError(
      f"line {line} of {name} must be as it was sealed, got"
      f" {_validate.shown(got)}. It was changed by hand: restore the file from"
      " a copy, and write corrections as new entries."
  )
