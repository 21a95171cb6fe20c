"""Writes the outputs of docs/budget.md again, and its plot and README's part.

  python -m benchmarks.budget_page

Each console block is a command of `dp-budget` and what it prints: the command
is kept, the rest replaced. The tests compare every block with a fresh output;
run this after a change of the accountant, and read what changed.
"""

import contextlib
import io
import pathlib
import re
import shlex

from accounting import budget

_ROOT = pathlib.Path(__file__).parents[1]
_PAGE = _ROOT / "docs" / "budget.md"
_README = _ROOT / "README.md"
_BLOCK = re.compile(
    r"(?P<head>```console\n\$ (?P<command>dp-budget (?:[^\n]*\\\n)*[^\n]*)\n)"
    r"(?P<output>[^`]*)(?=```)"
)
# README shows a command's output as a comment below it.
_README_BLOCK = re.compile(r"(dp-budget noise [^\n]*)\n# (?P<output>[^\n]*\n)")
_PLOT = _ROOT / "docs" / "images" / "budget_profile.svg"


def blocks(text: str) -> list[tuple[list[str], str]]:
  """Returns the commands of a page, without `dp-budget`, and their outputs."""
  return [(_words(m["command"]), m["output"]) for m in _BLOCK.finditer(text)]


def rewritten(text: str) -> str:
  """Returns the page with every output as the commands print it now."""
  return _BLOCK.sub(
      lambda match: match["head"] + printed(_words(match["command"])), text
  )


def printed(arguments: list[str]) -> str:
  """Returns all that a command prints, warnings first.

  Raises:
    ValueError: If the command ends with an error.
  """
  with contextlib.ExitStack() as stack:
    out, err = io.StringIO(), io.StringIO()
    stack.enter_context(contextlib.redirect_stdout(out))
    stack.enter_context(contextlib.redirect_stderr(err))
    code = budget.main(arguments)
  if code:
    raise ValueError(f"command must succeed, got {err.getvalue().strip()!r}.")
  return err.getvalue() + out.getvalue()


def _words(command: str) -> list[str]:
  return shlex.split(command.replace("\\\n", " "))[1:]


def readme_output(text: str) -> tuple[str, str]:
  """Returns what README shows of `dp-budget`, and what it should show."""
  match = _README_BLOCK.search(text)
  return match["output"], printed(_words(match[1]))


def main() -> None:
  """Writes the files."""
  page = _PAGE.read_text(encoding="utf-8")
  _PAGE.write_text(rewritten(page), encoding="utf-8")
  readme = _README.read_text(encoding="utf-8")
  _README.write_text(readme.replace(*readme_output(readme)), encoding="utf-8")
  for arguments, _ in blocks(page):
    if arguments[0] == "profile":
      printed([*arguments, f"--plot={_PLOT}"])


if __name__ == "__main__":
  main()
