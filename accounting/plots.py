"""Plots of epsilon over time and of the whole guarantee.

matplotlib is imported when a plot is made, and draws without a display.
Invariant: a plot shows numbers computed elsewhere, and computes none.

>>> check_path("curve.svg").suffix
'.svg'
"""

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from accounting import _validate, claims

if TYPE_CHECKING:
  from accounting.profile import PrivacyProfile

SUFFIXES = (".png", ".svg")
_SIZE = (6.4, 3.6)


def check_path(path: str) -> pathlib.Path:
  """Returns a file name that a plot can be written to, checked.

  Args:
    path: Name of the file.

  Raises:
    ValueError: If its suffix is no format of plots.
  """
  found = pathlib.Path(path)
  if found.suffix.lower() not in SUFFIXES:
    _validate.fail("plot", "a file name ending in .png or .svg", path)
  return found


def curve(steps: Sequence[int], epsilons: Sequence[float], *, label: str):
  """Returns a figure of epsilon against the number of steps.

  Args:
    steps: Numbers of steps.
    epsilons: Epsilon after each.
    label: Text of the legend.
  """
  figure, axes = _figure(1)
  axes[0].plot(steps, epsilons)
  axes[0].set(xlabel="steps", ylabel="epsilon", title=label)
  axes[0].set_ylim(bottom=0)
  return figure


def guarantee(profile: "PrivacyProfile"):
  """Returns a figure of delta against epsilon, and of the best attack.

  Args:
    profile: Profile of the run.
  """
  figure, axes = _figure(2)
  axes[0].semilogy(profile.epsilons, np.maximum(profile.deltas, 1e-13))
  axes[0].set(xlabel="epsilon", ylabel="delta", title="Privacy profile")
  from scipy import special

  rates = np.linspace(1e-4, 1 - 1e-4, 400)
  mu = profile.gdp_mu
  if np.isfinite(mu):
    label = f"mu = {claims.at_most_short(mu, digits=3)}"
    axes[1].plot(rates, special.ndtr(special.ndtri(rates) + mu), label=label)
  axes[1].plot([0, 1], [0, 1], ":", color="gray", label="guessing")
  points = profile.tpr_at_fpr
  axes[1].plot(list(points), list(points.values()), "o", label="this run")
  axes[1].set(
      xlabel="false positive rate",
      ylabel="true positive rate",
      title="Best membership attack",
  )
  axes[1].legend(frameon=False)
  return figure


def line(
    x_values: Sequence[float],
    y_values: Mapping[str, Sequence[float]],
    *,
    x: str,
    y: str,
    title: str,
):
  """Returns a figure of numbers against another.

  Args:
    x_values: Values of the other, shape [n].
    y_values: Mapping from a line's label, "" for none, to its values, [n].
    x: Name of the other.
    y: Name of the numbers.
    title: Text above.
  """
  figure, axes = _figure(1)
  for label, values in y_values.items():
    axes[0].plot(x_values, values, "o-", label=label)
  if any(y_values):
    axes[0].legend(frameon=False)
  axes[0].set(xlabel=x, ylabel=y, title=title)
  if y == "delta":
    axes[0].set_yscale("log")
  return figure


def save(figure, path: pathlib.Path) -> str:
  """Writes a figure to a file of the format that its name ends in.

  Args:
    figure: Figure of Matplotlib.
    path: File to write.

  Returns:
    A text that says where it is.
  """
  with _fixed_ids():
    figure.savefig(path, format=path.suffix[1:].lower(), **_plain(path.suffix))
  return f"wrote {path}"


def svg(figure) -> str:
  """Returns a figure as an <svg> element to put inside a page.

  Args:
    figure: Figure of Matplotlib.
  """
  buffer = io.StringIO()
  with _fixed_ids():
    figure.savefig(buffer, format="svg", **_plain(".svg"))
  document = buffer.getvalue()
  return document[document.index("<svg") :]


def _plain(suffix: str) -> dict:
  """No date in the file, so that the same run gives the same bytes."""
  return {"metadata": {"Date": None}} if suffix.lower() == ".svg" else {}


def _fixed_ids():
  return _matplotlib().rc_context({"svg.hashsalt": "dp-budget"})


def _matplotlib():
  try:
    import matplotlib.figure
  except ImportError as error:
    raise ImportError(
        f'{error}: pip install "jax-privacy-toolkit[plots]", or'
        ' "dp-budget[plots]" where JAX is not wanted.'
    ) from error
  return matplotlib


def _figure(count: int):
  """Makes a figure of its own, outside pyplot's global state."""
  made = _matplotlib().figure.Figure(
      figsize=(_SIZE[0] * (1 if count == 1 else 1.5), _SIZE[1]),
      layout="constrained",
  )
  axes = made.subplots(1, count, squeeze=False)[0]
  for ax in axes:
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
  return made, axes
