"""Draws docs/noise.svg: `python docs/figures/noise.py`.

The invariant: the file that is checked in is what `draw` returns (tested).

Example:
  $ python docs/figures/noise.py
"""

import pathlib
import runpy

import numpy as np

_HERE = pathlib.Path(__file__)
_CURVES = runpy.run_path(str(_HERE.with_name("curves.py")))
_STEPS = 1024
# Two buffers for 1024 steps, as docs/noise.md makes them.
_BLT = ((0.99624, 0.87318), (0.0903, 0.3307))


def noising(name: str) -> np.ndarray:
  """Returns the coefficients of C^-1, of 1024 steps.

  Args:
    name: Name of the strategy.
  """
  first = np.zeros(_STEPS)
  first[0] = 1.0
  if name == "independent":
    return first
  if name == "lambda-CGD":
    first[1] = -0.95
    return first
  root = np.cumprod([1.0, *(1 - 1.5 / np.arange(1, _STEPS))])
  if name == "square root":
    return root
  if name == "BISR, 16":
    return np.where(np.arange(_STEPS) < 16, root, 0)
  decay, scale = map(np.array, _BLT)
  return _inverse(np.array([1.0, *(scale @ decay[:, None] ** _POWERS)]))


_POWERS = np.arange(_STEPS - 1)


def _inverse(coef):
  inverse = np.zeros(len(coef))
  inverse[0] = 1 / coef[0]
  for t in range(1, len(coef)):
    inverse[t] = -(coef[1 : t + 1] @ inverse[t - 1 :: -1][:t]) / coef[0]
  return inverse


def error(name: str) -> np.ndarray:
  """Returns the noise's standard deviation in the sums of the first steps.

  Args:
    name: Name of the strategy.
  """
  coef = noising(name)
  sensitivity = np.linalg.norm(_inverse(coef))  # Of one step.
  return sensitivity * np.sqrt(np.cumsum(np.cumsum(coef) ** 2))


def draw() -> str:
  """Returns the figure as SVG."""
  steps = np.unique(np.logspace(0, np.log10(_STEPS), 80).astype(int))
  names = "independent", "lambda-CGD", "BISR, 16", "BLT, 2", "square root"
  return _CURVES["plot"](
      [(name, steps, error(name)[steps - 1]) for name in names],
      x="steps summed",
      y="noise in the sum, in sigma C",
      alt=(
          "The standard deviation of the noise in the sum of the first steps,"
          " of one epoch of 1024 steps. Independent noise grows with the root"
          " of the number of steps; correlated noise stays below 5."
      ),
  )


if __name__ == "__main__":
  (_HERE.parents[1] / "noise.svg").write_text(draw(), encoding="utf-8")
