"""The text of a ledger: TOML, a header and entries, each sealed.

Invariant: `parse` reads what `of_header` and `of_entry` wrote, and nothing
else.
"""

import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

from accounting import _relations, _validate
from accounting.ledger import chain, toml_text
from accounting.ledger.entry import Entry

VERSION = 1
_MAX_BYTES = 20_000_000
HEADER = (
    *("what", "unit", "num_examples", "epsilon", "delta"),
    *("neighboring_relation", "created"),
)
_NOTE = (
    "# A privacy ledger. Every line is sealed: add to it with `dp-budget"
    " ledger add`, never by hand."
)


def seals(path: pathlib.Path) -> list[str]:
  """Returns the seal after the header, and after each entry.

  Args:
    path: File of the ledger.

  Raises:
    ValueError: If a line is not as it was sealed.
    OSError: If it cannot be read.
  """
  return [block.seal for block in chain.verify(read(path), name=path.name)]


def of_header(fields: Mapping[str, Any]) -> str:
  """Returns the first lines of a ledger, sealed.

  Args:
    fields: Values of `HEADER`.
  """
  lines = toml_text.lines("header", {"version": VERSION, **fields})
  return chain.seal("", [_NOTE, *lines], table="seal")


def read(path: pathlib.Path) -> str:
  """Returns the text of a ledger's file.

  Args:
    path: The file.

  Raises:
    ValueError: If it is no such file, or holds other bytes than UTF-8.
    OSError: If it cannot be read.
  """
  if not path.is_file():  # Opening a named pipe would wait for ever.
    _validate.fail(
        "ledger", "a file made by `dp-budget ledger init`", str(path)
    )
  with path.open("rb") as opened:
    data = opened.read(_MAX_BYTES + 1)
  if len(data) > _MAX_BYTES:
    rule = f"must hold at most {_MAX_BYTES} bytes"
    raise ValueError(f"{path.name} {rule}, got more.")
  try:
    return data.decode("utf-8")
  except UnicodeDecodeError as error:
    line = data[: error.start].count(b"\n") + 1
    raise ValueError(
        f"line {line} of {path.name} must be UTF-8, got other bytes."
    ) from None


def of_entry(before: str, entry: Entry) -> str:
  """Returns the lines of one more entry, sealed.

  Args:
    before: Seal of what is there.
    entry: Entry to write.
  """
  fields = entry.fields()
  releases = fields.pop("release")
  found = ["", "[[entry]]", *toml_text.lines("entry", fields)]
  for each in releases:
    found += ["[[entry.release]]", *toml_text.lines("release", each)]
  return chain.seal(before, found, table="entry.seal")


def parse(
    name: str, text: str
) -> tuple[dict[str, Any], tuple[Entry, ...], str]:
  """Reads a ledger, each line checked against its seal.

  Args:
    name: Name of the file, for errors.
    text: All that it holds.

  Returns:
    Values of the header, the entries, and the last seal.

  Raises:
    ValueError: If a line is not as it was sealed, or a value breaks its rule.
  """
  header, *others = chain.verify(text, name=name)
  fields = _toml(header, name)
  fields.pop("seal", None)
  _validate.keys(f"the header of {name}", fields, ("version", *HEADER))
  if type(fields["version"]) is not int or fields["version"] != VERSION:
    _validate.fail("version", f"{VERSION}", fields["version"])
  made = {key: fields[key] for key in HEADER}
  entries = []
  for number, block in enumerate(others, 1):
    try:
      found = _toml(block, name)
      _validate.keys("a block", found, ("entry",))
      entries.append(_entry(found["entry"], number, fields))
    except ValueError as error:
      where = f"entry {number} of {name}, from line {block.first + 1}"
      raise ValueError(f"{where}: {error}") from None
  return made, tuple(entries), (others or [header])[-1].seal


def _entry(found: Any, number: int, header: dict[str, Any]) -> Entry:
  if not isinstance(found, list) or len(found) != 1:
    _validate.fail("entry", "one for each seal", found)
  relation = _relations.checked(header["neighboring_relation"])
  return Entry.read(found[0], number=number, relation=relation)


def _toml(block: chain.Block, name: str) -> dict[str, Any]:
  try:
    return tomllib.loads("\n".join(block.lines))
  except (ValueError, RecursionError) as error:
    reason = _validate.shown(str(error))[1:-1]
    where = f"line {block.first} of {name}"
    raise ValueError(f"{where} must begin valid TOML: {reason}.") from None
