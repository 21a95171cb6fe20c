"""Parts of a page: tables, sections, plots. Every text that comes in is text.

Invariant: what a caller gives is escaped here and nowhere else, so that no name
or value of a run is ever markup; `Markup` is what was made here.

>>> print(table("A <b>", ["x"], [["<i>"]]))
<div class="wide" tabindex="0"><table><caption>A &lt;b&gt;</caption>\
<thead><tr><th scope="col">x</th></tr></thead>\
<tbody><tr><th scope="row">&lt;i&gt;</th></tr></tbody></table></div>
"""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Markup(str):
  """Text that is HTML, with all that it holds escaped."""


class Number(NamedTuple):
  """A cell that is a number.

  Attributes:
    text: Text that is shown.
    value: Value that a table is sorted by; None comes last.
    share: Share of the row, in [0, 1], that shades the cell; None for none.
  """

  text: str
  value: float | None
  share: float | None = None


Cell = str | Number


def escape(text: Any) -> Markup:
  """Returns any value as text of a page; markup stays as it is.

  Args:
    text: Value to show.
  """
  if isinstance(text, Markup):
    return text
  # Half a surrogate pair, which JSON can hold, is no text of a file.
  whole = str(text).encode("utf-8", "replace").decode("utf-8")
  return Markup(html.escape(whole))


def join(parts: Iterable[Any]) -> Markup:
  """Returns parts one after the other.

  Args:
    parts: Texts and markup.
  """
  return Markup("".join(map(escape, parts)))


def paragraph(text: Any, *, kind: str = "") -> Markup:
  """Returns a paragraph.

  Args:
    text: Text or markup.
    kind: Class of the style sheet.
  """
  attribute = f' class="{escape(kind)}"' if kind else ""
  return Markup(f"<p{attribute}>{escape(text)}</p>")


def items(texts: Sequence[Any], *, kind: str) -> Markup:
  """Returns a list; nothing where it is empty.

  Args:
    texts: Texts or markup.
    kind: Class of the style sheet.
  """
  if not texts:
    return Markup("")
  each = "".join(f"<li>{escape(text)}</li>" for text in texts)
  return Markup(f'<ul class="{escape(kind)}">{each}</ul>')


def table(
    caption: Any,
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    sortable: bool = False,
) -> Markup:
  """Returns a table, whose first column names the rows.

  Args:
    caption: Title of the table.
    header: Titles of the columns.
    rows: Cells of each row.
    sortable: Whether a reader can sort it by a column.
  """
  kind = ' class="sortable"' if sortable else ""
  first = rows[0] if rows else [""] * len(header)
  head = "".join(
      f'<th scope="col"{_number(cell)}>{_title(name, sortable)}</th>'
      for name, cell in zip(header, first, strict=True)
  )
  body = "".join(f"<tr>{_row(cells)}</tr>" for cells in rows)
  return Markup(
      f'<div class="wide" tabindex="0"><table{kind}>'
      f"<caption>{escape(caption)}</caption>"
      f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
  )


def facts(caption: Any, rows: Sequence[tuple[str, Any]]) -> Markup:
  """Returns a table of names and values, without a header.

  Args:
    caption: Title of the table.
    rows: Pairs of a name and a value.
  """
  body = "".join(
      f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
      for name, value in rows
  )
  return Markup(
      f'<div class="wide" tabindex="0"><table class="facts"><caption>'
      f"{escape(caption)}</caption><tbody>{body}</tbody></table></div>"
  )


def folded(title: Any, content: Any, *, is_open: bool = False) -> Markup:
  """Returns what is shown once it is asked for.

  Args:
    title: Title that is seen.
    content: Text or markup below it.
    is_open: Whether it is open at first.
  """
  state = " open" if is_open else ""
  return Markup(
      f"<details{state}><summary>{escape(title)}</summary>"
      f"{escape(content)}</details>"
  )


def section(name: str, title: Any, content: Sequence[Any]) -> Markup:
  """Returns a section of the page, with its heading.

  Args:
    name: Identifier, of letters, digits and "-".
    title: Heading.
    content: Parts below it.
  """
  key = escape(name)
  return Markup(
      f'<section class="card" id="{key}" aria-labelledby="{key}-title">'
      f'<h2 id="{key}-title">{escape(title)}</h2>{join(content)}</section>'
  )


def plot(name: str, label: str) -> Markup:
  """Returns the place of a plot.

  Args:
    name: Identifier of the plot.
    label: Text that says what it shows, for who does not see it.
  """
  return Markup(
      f'<div class="plot" id="{escape(name)}" role="img"'
      f' aria-label="{escape(label)}"></div>'
  )


def picture(png: str, label: str) -> Markup:
  """Returns a picture.

  Args:
    png: Bytes of the file, in base64.
    label: Text that says what it shows.
  """
  return Markup(
      f'<img class="samples" src="data:image/png;base64,{escape(png)}"'
      f' alt="{escape(label)}">'
  )


def script_json(value: Mapping[str, Any]) -> str:
  """Returns JSON that can be put between <script> and its end.

  Args:
    value: Values that JSON can hold.
  """
  text = json.dumps(value, allow_nan=False, separators=(",", ":"))
  for sign in "<>&\u2028\u2029":
    text = text.replace(sign, f"\\u{ord(sign):04x}")
  return text


def _title(name: str, sortable: bool) -> Markup:
  if not sortable:
    return escape(name)
  return Markup(f'<button type="button">{escape(name)}</button>')


def _row(cells: Sequence[Cell]) -> str:
  first, *others = cells
  return f'<th scope="row"{_number(first)}>{_text(first)}</th>' + "".join(
      f"<td{_number(cell)}>{_text(cell)}</td>" for cell in others
  )


def _text(cell: Cell) -> Markup:
  return escape(cell.text if isinstance(cell, Number) else cell)


def _number(cell: Cell) -> str:
  if not isinstance(cell, Number):
    return ""
  value = "" if cell.value is None else f' data-value="{float(cell.value)!r}"'
  shade = "" if cell.share is None else f' style="--share:{cell.share:.3f}"'
  return f' class="number"{value}{shade}'
