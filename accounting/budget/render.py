r"""A statement as plain text, Markdown or one HTML file.

Invariant: whatever a statement holds is escaped for the format it goes into,
since some of it may come from a file that anyone can have written.

>>> from accounting.statement import Section, Statement
>>> small = Statement(facts={}, profile=None, sections=(
...     Section(title="Claim", paragraphs=("<b>",), rows=(("a|b", "1"),)),))
>>> print(text(small))
Claim
-----
<b>
<BLANKLINE>
  a|b  1
<BLANKLINE>
>>> "&lt;b&gt;" in html(small, plots=[]), "a\\|b" in markdown(small)
(True, True)
"""

import html as html_lib
import re
import textwrap

from accounting.statement import Section, Statement

_WIDTH = 78
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;"
    "padding:0 1rem;color:#222}h1{font-size:1.6rem}h2{font-size:1.15rem;"
    "margin-top:2rem}table{border-collapse:collapse}td{padding:.2rem .8rem "
    ".2rem 0;border-bottom:1px solid #ddd}svg{max-width:100%;height:auto}"
    ".warnings{border-left:4px solid #c60;padding-left:1rem}"
)
_TITLE = "Privacy statement"


def text(statement: Statement) -> str:
  """Returns the statement as plain text, 78 columns wide.

  Args:
    statement: Statement of the run.
  """
  return "\n".join(_text_section(s) for s in statement.sections)


def _text_section(section: Section) -> str:
  lines = [section.title, "-" * len(section.title)]
  for paragraph in section.paragraphs:
    wrapped = textwrap.wrap(paragraph, _WIDTH, break_on_hyphens=False)
    lines += [*wrapped, ""]
  if section.rows:
    width = max(len(name) for name, _ in section.rows)
    lines += [f"  {name:<{width}}  {value}" for name, value in section.rows]
    lines.append("")
  return "\n".join(lines)


def markdown(statement: Statement) -> str:
  """Returns the statement as Markdown.

  Args:
    statement: Statement of the run.
  """
  parts = [f"# {_TITLE}\n"]
  for section in statement.sections:
    parts.append(f"## {section.title}\n")
    parts += [f"{_markdown(p)}\n" for p in section.paragraphs]
    if section.rows:
      rows = [f"| {_markdown(a)} | {_markdown(b)} |" for a, b in section.rows]
      parts.append("\n".join(["| | |", "|---|---|", *rows]) + "\n")
  return "\n".join(parts)


def _markdown(value: str) -> str:
  return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", value)


def html(statement: Statement, *, plots: list[str]) -> str:
  """Returns the statement as one HTML file.

  Args:
    statement: The statement.
    plots: SVG images, put as they are after the sections.

  Returns:
    A document that refers to nothing outside itself.
  """
  body = [f"<h1>{_TITLE}</h1>", *map(_html_section, statement.sections)]
  body += [f"<figure>{plot}</figure>" for plot in plots]
  return (
      '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
      f"<title>{_TITLE}</title><style>{_STYLE}</style></head>\n<body>\n"
      + "\n".join(body)
      + "\n</body></html>\n"
  )


def _html_section(section: Section) -> str:
  escape = html_lib.escape
  name = escape(section.title.lower().replace(" ", "-").replace(",", ""))
  parts = [f'<section class="{name}"><h2>{escape(section.title)}</h2>']
  parts += [f"<p>{escape(p)}</p>" for p in section.paragraphs]
  if section.rows:
    cells = [
        f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>"
        for a, b in section.rows
    ]
    parts.append(f"<table>{''.join(cells)}</table>")
  return "".join([*parts, "</section>"])
