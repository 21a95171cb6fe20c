"""Draws curves as SVG, for the figures of docs/clipping.md and docs/noise.md.

The invariant: the same numbers give the same bytes.

>>> text = plot([("one", [1.0, 10.0], [0.0, 2.0])], x="x", y="y", alt="a line")
>>> text.startswith("<svg") and "polyline" in text
True
"""

import math
from collections.abc import Sequence

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 16, 48
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee")
_DASHES = ("", "6 3", "2 2", "8 2 2 2", "1 3")
_STYLE = (
    "text{font:13px sans-serif;fill:#333}line{stroke:#ccc}"
    "polyline{fill:none;stroke-width:2}rect{fill:#fff}"
)


def plot(
    curves: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    alt: str,
) -> str:
  """Returns a figure with a logarithmic axis of x.

  Args:
    curves: Names, and numbers of x (positive) and y (from 0 on).
    x: Name of the axis of x.
    y: Name of the axis of y.
    alt: Text for those who do not see it.
  """
  low = math.log10(min(min(xs) for _, xs, _ in curves))
  high = math.log10(max(max(xs) for _, xs, _ in curves))
  top = max(max(ys) for _, _, ys in curves)
  step = 10 ** math.floor(math.log10(top / 2))
  step *= next(k for k in (1, 2, 5, 10) if top / (k * step) <= 5)
  top = math.ceil(top / step - 1e-9) * step

  def at(value_x, value_y):
    across = (math.log10(value_x) - low) / (high - low)
    return (
        _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
        _HEIGHT - _BOTTOM - value_y / top * (_HEIGHT - _TOP - _BOTTOM),
    )

  parts = [
      '<svg xmlns="http://www.w3.org/2000/svg" role="img"'
      f' viewBox="0 0 {_WIDTH} {_HEIGHT}">',
      f"<title>{alt}</title>",
      f"<style>{_STYLE}</style>",
      f'<rect width="{_WIDTH}" height="{_HEIGHT}"/>',
  ]
  for k in range(round(top / step) + 1):
    (left, height), (right, _) = at(10**low, k * step), at(10**high, k * step)
    parts.append(_line(left, height, right, height))
    parts.append(_text(left - 8, height + 4, f"{k * step:g}", "end"))
  for power in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1):
    place, height = at(10.0**power, 0)
    parts.append(_text(place, height + 18, f"{10.0**power:g}", "middle"))
  parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, x, "middle"))
  parts.append(
      f'<text transform="translate(16 {_HEIGHT / 2 - 16:g}) rotate(-90)"'
      f' text-anchor="middle">{y}</text>'
  )
  for k, (name, xs, ys) in enumerate(curves):
    colour, dash = _COLOURS[k % 5], _DASHES[k % 5]
    points = " ".join(
        "{:.1f},{:.1f}".format(*at(a, b)) for a, b in zip(xs, ys, strict=True)
    )
    parts.append(
        f'<polyline points="{points}" stroke="{colour}"'
        f' stroke-dasharray="{dash}"/>'
    )
    place = _WIDTH - _RIGHT + 12, _TOP + 20 + 22 * k
    parts.append(
        f'<polyline points="{place[0]},{place[1] - 4} {place[0] + 26},'
        f'{place[1] - 4}" stroke="{colour}" stroke-dasharray="{dash}"/>'
    )
    parts.append(_text(place[0] + 32, place[1], name, "start"))
  return "\n".join([*parts, "</svg>"]) + "\n"


def _line(x1, y1, x2, y2):
  return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x, y, text, anchor):
  return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
