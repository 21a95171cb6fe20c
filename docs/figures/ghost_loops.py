"""Draws docs/ghost_loops.svg: `python docs/figures/ghost_loops.py`.

The invariant: the file that is checked in is what `draw` returns (tested). Its
style is as in `ghost_clipping.py`.

Example:
  $ python docs/figures/ghost_loops.py
"""

import pathlib
import runpy
import types

_HERE = pathlib.Path(__file__)
_SHARED = types.SimpleNamespace(
    **runpy.run_path(str(_HERE.with_name("ghost_clipping.py")))
)
_SIZE = (860, 452)
_ALT = (
    "Two ways through a loop of layers. In one pass, the loop is given a zero"
    " for each site and iteration, and gives every layer's x; cotangents z of"
    " the zeros come back. Outside, one product over all layers gives norms and"
    " the clipped sum. In two passes, a probe at each site adds the squared"
    " norm to a scalar on the way back, and keeps nothing; then an ordinary"
    " gradient of the sum of factor times loss gives the clipped sum."
)
_COUNT = 3


def draw() -> str:
  """Returns the figure as SVG."""
  width, height = _SIZE
  parts = [
      '<svg xmlns="http://www.w3.org/2000/svg" role="img"'
      f' viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
      f"<title>{_ALT}</title>",
      f"<style>{_SHARED._STYLE}</style>",
      _SHARED._marker("head"),
      _SHARED._marker("back-head"),
      f'<rect class="page" width="{width}" height="{height}"/>',
      *_one_pass(),
      *_two_passes(),
      "</svg>",
  ]
  return "\n".join(parts) + "\n"


def _one_pass():
  yield '<rect class="side" x="12" y="12" width="836" height="204" rx="6"/>'
  yield _SHARED._text(28, 36, "one pass: sites are lifted", "title")
  yield from _layers(72, "x", "z")
  yield from _SHARED._box(
      640, 60, 188, 48, "one product", "over all layers: x, z", kind="site"
  )
  yield _SHARED._line("M580 172 H610 V84 H638")
  yield _SHARED._line("M734 108 V146")
  yield from _SHARED._box(640, 148, 188, 48, "norms, then the sum", "as above")


def _two_passes():
  yield '<rect class="side" x="12" y="228" width="836" height="212" rx="6"/>'
  yield _SHARED._text(28, 252, "two passes: nothing is kept", "title")
  yield from _layers(288, "", "")
  yield _SHARED._line("M143 386 H610 V300 H638", "back")
  yield _SHARED._text(
      376, 408, "on the way back: squared norms, added to one scalar", "note"
  )
  yield from _SHARED._box(
      640, 276, 188, 48, "factors f", "of the scalars, per example"
  )
  yield _SHARED._line("M734 324 V362")
  yield from _SHARED._box(
      640, 364, 188, 48, "ordinary gradient", "of sum f x loss, once more"
  )


def _layers(top, first, second):
  """A row of layers; what is kept of each is below it."""
  yield _SHARED._line(f"M40 {top + 20} H66")
  for i in range(_COUNT):
    left = 68 + 180 * i
    yield from _SHARED._box(left, top, 150, 40, f"layer {i + 1}", kind="site")
    if i + 1 < _COUNT:
      yield _SHARED._line(f"M{left + 150} {top + 20} H{left + 178}")
    if first:
      label = f"{first}, {second} of layer {i + 1}"
      yield from _SHARED._box(left, top + 80, 150, 40, label, kind="kept")
      yield _SHARED._line(f"M{left + 40} {top + 40} V{top + 78}")
      yield _SHARED._line(f"M{left + 110} {top + 40} V{top + 78}", "back")
    else:
      yield _SHARED._line(f"M{left + 75} {top + 40} V{top + 96}", "back")
      yield _SHARED._text(left + 95, top + 72, "|g|\u00b2", "note")


if __name__ == "__main__":
  target = _HERE.parents[1] / "ghost_loops.svg"
  target.write_text(draw(), encoding="utf-8")
