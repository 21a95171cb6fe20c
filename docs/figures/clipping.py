"""Draws docs/clipping.svg: `python docs/figures/clipping.py`.

The invariant: the file that is checked in is what `draw` returns (tested).

Example:
  $ python docs/figures/clipping.py
"""

import pathlib
import runpy

import numpy as np

_HERE = pathlib.Path(__file__)
_CURVES = runpy.run_path(str(_HERE.with_name("curves.py")))


def draw() -> str:
  """Returns the figure as SVG: norms after clipping, for the clip norm 1."""
  n, r = np.logspace(-4, 1, 101), 0.01
  return _CURVES["plot"](
      [
          ("standard", n, np.minimum(n, 1)),
          ("automatic", n, n / (n + r)),
          ("psac", n, n / (n + r / (n + r))),
      ],
      x="norm of the gradient, in clip norms",
      y="norm after clipping",
      alt=(
          "The norm of a gradient after clipping, against its norm before, for"
          " three clipping functions. All stay below the clip norm."
      ),
  )


if __name__ == "__main__":
  (_HERE.parents[1] / "clipping.svg").write_text(draw(), encoding="utf-8")
