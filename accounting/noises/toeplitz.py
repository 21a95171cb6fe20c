"""Noises whose strategy C is Toeplitz and has no last band.

C is scaled so that its first column has norm 1 over the run's steps. No other
column is longer, as each is the beginning of the first. So an example that is
in one step moves C G by one clip norm at most; in two steps it could move it
further, since columns share rows. These noises fit runs in which an example is
in one step: one epoch of "shuffle" or "deterministic", or "cyclic_poisson" with
as many groups as steps.

Invariant: as of every noise. A run's first steps are as private as it is: for
fewer steps the scale would be less.

Sources: Kalinin et al. 2025 (2505.12128) for the banded inverse square root;
Denisov et al. 2022 (2202.08312) for one epoch; McMahan et al. 2024 (2404.16706)
for buffers.

>>> import numpy as np
>>> inverse_coef((1.0, -0.5), 4).tolist()
[1.0, 0.5, 0.25, 0.125]
>>> buffered_coef((0.5,), (0.25,), 4).tolist()
[1.0, 0.25, 0.125, 0.0625]
"""

import abc
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accounting import _validate
from accounting.noises.noise import Noise

if TYPE_CHECKING:
  from accounting.mechanism import Mechanism

# Above, float32 would have few digits of Z left in the noise.
_MAX_SUM = 100.0
_MAX_SCALE = 1e6
_MAX_OPTIONS = 1024
_NUM_INVERSE = 1024


def inverse_coef(coef: Any, n: int) -> np.ndarray:
  """Returns the first coefficients of a Toeplitz matrix's inverse.

  Args:
    coef: Coefficients of the matrix, an array or a sequence, the first of them
      not zero.
    n: Number of coefficients to return.
  """
  impulse = np.zeros(n)
  impulse[0] = 1.0
  with np.errstate(over="ignore", invalid="ignore"):
    from scipy import signal  # Which takes long to import.

    return np.asarray(signal.lfilter([1.0], coef, impulse))


def buffered_coef(
    buf_decay: Sequence[float], output_scale: Sequence[float], n: int
) -> np.ndarray:
  """Returns the first coefficients of a buffered linear Toeplitz matrix.

  Args:
    buf_decay: Decay of each buffer.
    output_scale: Scale of each buffer in the output.
    n: Number of coefficients to return.
  """
  powers = np.arange(n - 1)
  pairs = zip(buf_decay, output_scale, strict=True)
  rest = sum((w * t**powers for t, w in pairs), np.zeros(n - 1))
  return np.concatenate([[1.0], rest])


class Unbounded(Noise):
  """A noise whose strategy has as many bands as the run has steps.

  What fits has one step of an example, so `overlap` is 1.
  """

  @abc.abstractmethod
  def coef(self, options: dict[str, Any], n: int) -> np.ndarray:
    """Returns the first n coefficients of C, before it is scaled.

    Args:
      options: Options of the noise.
      n: Number of coefficients.
    """

  def bands(self, run: "Mechanism") -> int:
    """See `Noise`."""
    return run.num_steps

  def check(self, run: "Mechanism") -> None:
    """See `Noise`; the noise must have digits, too."""
    super().check(run)
    scale = float(np.linalg.norm(self._coef(run)))
    if not scale <= _MAX_SCALE:
      rule = f"those of a C whose columns have a norm of at most {_MAX_SCALE:g}"
      _validate.fail(self.options[0], rule, scale)
    first = self._coef(run)[:_NUM_INVERSE]
    total = float(np.abs(inverse_coef(first, len(first))).sum())
    if not total <= _MAX_SUM:
      rule = (
          "those of a C whose inverse has coefficients with absolute values of"
          f" at most {_MAX_SUM:g} in all"
      )
      _validate.fail(self.options[0], rule, total)

  def _coef(self, run):
    return self.coef(dict(run.noise_options), run.num_steps)


class BandedInverse(Unbounded):
  """See `Noise`: step t gets the sum of noising_coef[k] Z[t - k]."""

  name = "banded_inverse"
  options = ("noising_coef",)
  sentence = (
      "the noise of the steps is C^-1 Z, with independent Z of the stated "
      "noise multiplier and C^-1 the lower-triangular Toeplitz matrix of the "
      "stated coefficients, scaled so that the first column of C has norm 1"
  )

  def checked(self, name: str, value: Any) -> tuple[float, ...]:
    """See `Noise`."""
    coef = _numbers(name, value)
    if coef[0] != 1 or math.fsum(map(abs, coef)) > _MAX_SUM:
      rule = f"numbers, the first of them 1, of {_MAX_SUM:g} at most in all"
      _validate.fail(name, rule, value)
    return coef

  def bands(self, run: "Mechanism") -> int:
    """See `Noise`; one coefficient is independent noise."""
    is_one = len(dict(run.noise_options)["noising_coef"]) == 1
    return 1 if is_one else run.num_steps

  def coef(self, options: dict[str, Any], n: int) -> np.ndarray:
    """See `Unbounded`."""
    return inverse_coef(options["noising_coef"], n)


class Buffered(Unbounded):
  """See `Noise`: a buffered linear Toeplitz strategy (BLT)."""

  name = "blt"
  options = ("buf_decay", "output_scale")
  sentence = (
      "the noise of the steps is C^-1 Z, with independent Z of the stated "
      "noise multiplier and C the buffered linear Toeplitz matrix of the "
      "stated decays and scales, scaled so that its first column has norm 1"
  )

  def checked(self, name: str, value: Any) -> tuple[float, ...]:
    """See `Noise`."""
    values = _numbers(name, value)
    low, high = (0, 1) if name == "buf_decay" else (-_MAX_SUM, _MAX_SUM)
    if not all(low <= x < high for x in values):
      _validate.fail(name, f"numbers in [{low:g}, {high:g})", value)
    return values

  def check(self, run: "Mechanism") -> None:
    """See `Noise`."""
    decay, scale = dict(run.noise_options).values()
    if len(decay) != len(scale):
      _validate.fail("output_scale", "as long as buf_decay", scale)
    super().check(run)

  def coef(self, options: dict[str, Any], n: int) -> np.ndarray:
    """See `Unbounded`."""
    return buffered_coef(options["buf_decay"], options["output_scale"], n)


def _numbers(name, value) -> tuple[float, ...]:
  if isinstance(value, str) or not isinstance(value, Sequence) or not value:
    _validate.fail(name, "a list of numbers", value)
  if len(value) > _MAX_OPTIONS:
    _validate.fail(name, f"at most {_MAX_OPTIONS} numbers", len(value))
  return tuple(_validate.real(name, each) for each in value)
