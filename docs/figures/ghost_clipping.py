"""Draws docs/ghost_clipping.svg: `python docs/figures/ghost_clipping.py`.

The invariant: the file that is checked in is what `draw` returns (tested). It
has its own background, so it is legible on any page, and follows the reader's
choice of light or dark.

Example:
  $ python docs/figures/ghost_clipping.py
"""

import html
import pathlib

_SIZE = (860, 436)
_STYLE = """
  text { font: 13px sans-serif; fill: #1f2328; text-anchor: middle; }
  .title { font-weight: bold; text-anchor: start; }
  .note { font-size: 12px; fill: #57606a; }
  .page { fill: #ffffff; }
  .side { fill: #f3f5f8; stroke: #d0d7de; }
  .box { fill: #ffffff; stroke: #57606a; }
  .site { fill: #dbeafe; stroke: #1d4ed8; }
  .kept { fill: #fdecc8; stroke: #9a6700; }
  .line { fill: none; stroke: #57606a; stroke-width: 1.4; }
  .back { fill: none; stroke: #b45309; stroke-width: 1.4;
          stroke-dasharray: 5 3; }
  .head { fill: #57606a; }
  .back-head { fill: #b45309; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .note { fill: #9da7b3; }
    .page { fill: #0d1117; }
    .side { fill: #161b22; stroke: #30363d; }
    .box { fill: #0d1117; stroke: #9da7b3; }
    .site { fill: #12294d; stroke: #79b0ff; }
    .kept { fill: #3a2a08; stroke: #e3b341; }
    .line { stroke: #9da7b3; }
    .back { stroke: #f0a35e; }
    .head { fill: #9da7b3; }
    .back-head { fill: #f0a35e; }
  }
"""
_ALT = (
    "The shared side turns parameters into weights once. The data side runs one"
    " example under vmap through sites, where it meets the weights and where a"
    " zero is added, to the loss. Cotangents flow back to the zeros. Inputs x"
    " and cotangents z give norms, norms give factors, and the factors with the"
    " same x and z give the clipped sum, which is pulled back once."
)


def draw() -> str:
  """Returns the figure as SVG."""
  width, height = _SIZE
  parts = [
      '<svg xmlns="http://www.w3.org/2000/svg" role="img"'
      f' viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
      f"<title>{_ALT}</title>",
      f"<style>{_STYLE}</style>",
      _marker("head"),
      _marker("back-head"),
      f'<rect class="page" width="{width}" height="{height}"/>',
      *_sides(),
      *_forward(),
      *_backward(),
      *_clip(),
      "</svg>",
  ]
  return "\n".join(parts) + "\n"


def _sides():
  yield '<rect class="side" x="12" y="12" width="228" height="412" rx="6"/>'
  yield '<rect class="side" x="252" y="12" width="596" height="412" rx="6"/>'
  yield _text(28, 36, "shared side: once", "title")
  yield _text(268, 36, "data side: one example, under vmap", "title")


def _forward():
  yield from _box(36, 56, 180, 36, "parameters \u03b8")
  yield _line("M126 92 V112")
  yield from _box(36, 114, 180, 36, "h: standardise, cast, \u2026")
  yield _line("M126 150 V170")
  yield from _box(36, 172, 180, 36, "weights w = h(\u03b8)")
  yield _line("M216 190 H232 V84 H416 V130")
  yield _line("M416 84 H640 V130")
  yield _text(530, 76, "weights, the same for every example", "note")
  yield from _box(268, 132, 68, 40, "example")
  yield _line("M336 152 H366")
  yield from _box(368, 132, 96, 40, "site 1", kind="site")
  yield _line("M464 152 H476")
  yield _plus(488)
  yield _line("M498 152 H516")
  yield from _box(518, 132, 48, 40, "relu")
  yield _line("M566 152 H590")
  yield from _box(592, 132, 96, 40, "site 2", kind="site")
  yield _line("M688 152 H700")
  yield _plus(712)
  yield _line("M722 152 H756")
  yield from _box(758, 132, 72, 40, "loss")


def _backward():
  yield _line("M794 172 C794 214 726 206 716 166", "back")
  yield _line("M706 164 C690 212 510 212 493 166", "back")
  yield _text(564, 216, "cotangents flow back", "note")
  for left, name in ((402, "\u2081"), (626, "\u2082")):
    yield _line(f"M{left + 14} 172 V240")
    yield _line(f"M{left + 86} 164 V240", "back")
    yield from _box(left - 10, 242, 120, 36, f"x{name}", kind="kept", at=24)
    yield _text(left + 86, 264.5, f"z{name}")
  yield _text(788, 258, "kept for", "note")
  yield _text(788, 274, "every example", "note")


def _clip():
  yield _line("M452 278 V304 H362 V336")
  yield _line("M452 304 H734 V336")
  yield '<path class="line" d="M676 278 V304"/>'
  yield from _box(
      640, 338, 188, 48, "squared norms", "of gradients, from x and z"
  )
  yield _line("M640 362 H622")
  yield from _box(476, 338, 144, 48, "factors f", "min(1, C / norm)")
  yield _line("M476 362 H458")
  yield from _box(
      268, 338, 188, 48, "sum over the batch", "f x\u1d40z, of each weight"
  )
  yield _line("M268 362 H218")
  yield from _box(
      36, 338, 180, 48, "pull back through h", "once, not per example"
  )
  yield _line("M126 338 V280")
  yield from _box(36, 242, 180, 36, "clipped sum, as \u03b8", kind="site")
  yield _text(550, 408, "no second backward pass", "note")


def _box(x, y, width, height, label, second="", *, kind="box", at=None):
  yield (
      f'<rect class="{kind}" x="{x}" y="{y}" width="{width}"'
      f' height="{height}" rx="4"/>'
  )
  centre, middle = x + (at or width / 2), y + height / 2
  yield _text(centre, middle + (-4 if second else 4.5), label)
  if second:
    yield _text(centre, middle + 14, second, "note")


def _plus(x):
  circle = f'<circle class="box" cx="{x}" cy="152" r="11"/>'
  return circle + _text(x, 156, "+0", "note")


def _line(path, kind="line"):
  head = "back-head" if kind == "back" else "head"
  return f'<path class="{kind}" d="{path}" marker-end="url(#{head})"/>'


def _marker(name):
  return (
      f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4"'
      ' markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse"'
      f' orient="auto"><path class="{name}" d="M0 0.5 L8 4 L0 7.5 Z"/></marker>'
  )


def _text(x, y, label, kind=""):
  kind = f' class="{kind}"' if kind else ""
  return f'<text{kind} x="{x:g}" y="{y:g}">{html.escape(label)}</text>'


if __name__ == "__main__":
  target = pathlib.Path(__file__).parents[1] / "ghost_clipping.svg"
  target.write_text(draw(), encoding="utf-8")
