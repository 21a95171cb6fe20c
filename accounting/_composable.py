"""What is released adds up: `a + b` and `3 * a`, for mechanisms of any kind.

Invariant: both make a `Composition`, which is checked as one.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=1.0, sampling_prob=0.1, num_steps=5)
>>> run + run == 2 * run == sum([run, run])
True
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from accounting.composition import Composition


class Composable:
  """A release of data, or several on the same data."""

  # NumPy's numbers leave `3 * a` to the methods below.
  __array_ufunc__ = None

  def __add__(self, other: Any) -> "Composition":
    if isinstance(other, Composable):
      return _composed([self, other])
    return NotImplemented

  def _repr_html_(self) -> str:
    """Returns what a notebook shows."""
    from accounting import _html

    return _html.release(self)

  def plot(self) -> Any:
    """Returns a figure of Matplotlib: delta and the best attack, by PLD.

    Raises:
      ValueError: If PLD has no analysis of a sampler.
      ImportError: If Matplotlib is missing: the extra is "plots".
    """
    from accounting import profile

    return profile.privacy_profile(self).plot()  # pyrefly: ignore

  def __radd__(self, other: Any) -> "Composition":
    # `sum` begins with 0, of which a release is no part.
    if type(other) is int and other == 0:
      return _composed([self])
    return NotImplemented

  def __mul__(self, count: Any) -> "Composition":
    return _composed([(self, count)])

  __rmul__ = __mul__


def _composed(releases: list) -> "Composition":
  from accounting import composition  # It imports the mechanisms.

  return composition.Composition(releases)


def unit_of(mechanism: Any) -> str | None:
  """Returns the unit that a mechanism states, or None.

  Args:
    mechanism: Mechanism or composition.
  """
  return getattr(mechanism, "unit", None)
