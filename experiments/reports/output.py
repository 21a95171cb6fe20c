"""Where a page is written to: whole, and for its owner alone.

Invariant: what was there before stays until the new page is on the disk.

>>> check("page.pdf")
Traceback (most recent call last):
ValueError: out must be a file's name ending in .html, got page.pdf.
"""

import os
import pathlib

from jax_privacy import _owner_only

_SUFFIXES = (".html", ".htm")


def check(name: str) -> pathlib.Path:
  """Returns a file that a page can be written to.

  Args:
    name: Name of the file.

  Raises:
    ValueError: If it has another suffix, or is in no folder.
  """
  path = pathlib.Path(name)
  if path.suffix.lower() not in _SUFFIXES or path.is_dir():
    raise ValueError(f"out must be a file's name ending in .html, got {name}.")
  if not path.absolute().parent.is_dir():
    raise ValueError(f"out must be in a folder that there is, got {name}.")
  return path


def write(path: pathlib.Path, text: str) -> None:
  """Writes a page whole, or not at all.

  Args:
    path: File of the page.
    text: The page.

  Raises:
    OSError: If the disk is full, or the folder cannot be written to.
  """
  partial = path.with_name(f"{path.name}.partial")
  try:
    with _owner_only.open_text(partial, "w") as file:
      file.write(text)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)
