"""Lets the API pages show docstrings as they are written.

Lines of a doctest become a block of code, and `Guarantee:` and `Source:` are
set in bold. Loaded by mkdocs.yml; it changes pages alone.

>>> shown("Source: Peano 1889.")
'**Source:** Peano 1889.'
"""

import re

import griffe

_TITLES = re.compile(r"^( *)(Guarantee|Source|The invariant|Invariant): ", re.M)


def shown(text: str) -> str:
  """Returns a docstring with its examples in blocks of code."""
  made, indent = [], None
  for line in text.splitlines():
    starts = re.match(r"( *)>>> ", line)
    if indent is None and starts:
      indent = starts[1]
      made.append(f"{indent}```pycon")
    elif indent is not None and not line.strip():
      made.append(f"{indent}```")
      indent = None
    made.append(line)
  if indent is not None:
    made.append(f"{indent}```")
  return _TITLES.sub(r"\1**\2:** ", "\n".join(made))


class Docstrings(griffe.Extension):
  """The extension, for mkdocstrings."""

  def on_object(self, *, obj: griffe.Object, **_: object) -> None:
    """Changes the docstring of one object."""
    if obj.docstring is not None:
      obj.docstring.value = shown(obj.docstring.value)
