"""The noise of a mechanism whose steps' noise is correlated.

A mechanism names its noise and holds its strategy as plain numbers. An object
of this file says which steps the noise couples, and makes it. A sampler says
how far apart an example's steps are. What does not fit is refused, whatever
made the mechanism.

The invariant: C has columns of norm 1 at most, so one step of an example moves
C G by one clip norm; and its steps are so far apart that their columns share no
row. So independent noise of the same multiplier has the same guarantee.

Example:
  >>> import types
  >>> from jax_privacy import strategies
  >>> mechanism = types.SimpleNamespace(
  ...     num_steps=4, noise="banded_inverse",
  ...     noise_options={"noising_coef": (1.0, -0.5)})
  >>> strategies.strategy_coef(mechanism, 4).round(3).tolist()
  [0.868, 0.434, 0.217, 0.108]
"""

import abc
import math
import types
from typing import Any

import numpy as np
import optax
from scipy import signal

from jax_privacy import (
    _validate,
    contracts,
    correlated_noise,
    root_key,
    samplers,
)
from jax_privacy.matrix_factorization import noising

# So that a norm that is rounded down is not below the true one.
_ROUND_UP = 1 + 1e-9


class Strategy(abc.ABC):
  """The noise of one name in `Mechanism.noise`; see `contracts.Noise`.

  Attributes:
    is_secure: Whether a cipher draws it.
    options: Names of its `noise_options`; the first is named by errors.
  """

  is_secure = False
  options: tuple[str, ...]

  @abc.abstractmethod
  def coef(self, options: Any, num_steps: int, n: int) -> np.ndarray:
    """Returns the first coefficients of C, of which a run has norm 1.

    Args:
      options: Options of the noise, by name.
      num_steps: Number of steps of the run.
      n: Number of coefficients to return.

    Raises:
      ValueError: If an option breaks its rule.
    """

  @abc.abstractmethod
  def bands(self, options: Any, num_steps: int) -> int:
    """Returns the number of steps from which on columns of C share no row.

    Args:
      options: Options of the noise, by name.
      num_steps: Number of steps of the run.
    """

  @abc.abstractmethod
  def noising(
      self, options: Any, num_steps: int
  ) -> tuple[noising.Noising, float]:
    """Returns what makes the noise, and a factor of its standard deviation.

    Args:
      options: Options of the noise, by name.
      num_steps: Number of steps of the run.
    """

  def privatizer(
      self,
      mechanism: contracts.MechanismLike,
      *,
      stddev: float,
      root: root_key.RootKey,
      grid_step: float | None,
  ) -> optax.GradientTransformation:
    """Returns the noise C^-1 Z, with the key that the root gives noise.

    Args:
      mechanism: Mechanism of the run, of which the strategy is read.
      stddev: Standard deviation of Z, in the units of the incoming sum.
      root: Private randomness of the run.
      grid_step: Size of a grid's steps, which must be None.

    Raises:
      ValueError: If an argument breaks its rule, there is a grid, or the
        sampler lets an example take part in steps that are too near.
    """
    if grid_step is not None:
      rule = "None with correlated noise (no cipher draws it)"
      _validate.fail("grid_scale", rule, grid_step)
    options, num_steps = _options(mechanism, self), mechanism.num_steps
    bands = self.bands(options, num_steps)
    apart = samplers.of(mechanism).steps_apart(mechanism) if bands > 1 else 1
    if bands > apart:
      number = "one number" if apart == 1 else f"at most {apart} numbers"
      rule = f"{number} for sampling {mechanism.sampling!r}"
      _validate.fail(self.options[0], rule, options[self.options[0]])
    made, factor = self.noising(options, num_steps)
    return correlated_noise.matrix_factorization_privatizer(
        made,
        stddev=stddev * factor,
        prng_key=root.prng_key("noise"),
        num_steps=num_steps,
    )


class Banded(Strategy):
  """C of few bands, "strategy_coef", of norm 1 (BandMF, BSR).

  Its state is as many arrays as the strategy has bands, less one.
  """

  options = ("strategy_coef",)

  def coef(self, options: Any, num_steps: int, n: int) -> np.ndarray:
    """See `Strategy`."""
    del num_steps
    coef = noising.checked_coef("strategy_coef", options["strategy_coef"])
    if not math.fsum(c * c for c in coef) <= 1 + 1e-6:
      # An example's part in one step would move C G by more than is claimed.
      _validate.fail("strategy_coef", "of norm 1", coef)
    return np.array([*coef, *[0.0] * n])[:n]

  def bands(self, options: Any, num_steps: int) -> int:
    """See `Strategy`."""
    del num_steps
    return len(options["strategy_coef"])

  def noising(
      self, options: Any, num_steps: int
  ) -> tuple[noising.Noising, float]:
    """See `Strategy`."""
    bands = len(options["strategy_coef"])
    coef = self.coef(options, num_steps, bands)
    return noising.BandedStrategy(tuple(coef)), 1.0


class BandedInverse(Strategy):
  """C^-1 of few bands, "noising_coef" (BISR, lambda-CGD).

  It has no state: the noise of earlier steps is drawn again from its key.
  """

  options = ("noising_coef",)

  def coef(self, options: Any, num_steps: int, n: int) -> np.ndarray:
    """See `Strategy`."""
    given = noising.checked_coef("noising_coef", options["noising_coef"])
    if given[0] != 1:
      _validate.fail("noising_coef", "numbers, the first of them 1", given)
    impulse = np.zeros(max(num_steps, n))
    impulse[0] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
      coef = np.asarray(signal.lfilter([1.0], given, impulse))
    return _scaled(coef, num_steps, n)

  def bands(self, options: Any, num_steps: int) -> int:
    """See `Strategy`."""
    return num_steps if len(options["noising_coef"]) > 1 else 1

  def noising(
      self, options: Any, num_steps: int
  ) -> tuple[noising.Noising, float]:
    """See `Strategy`."""
    first = float(self.coef(options, num_steps, 1)[0])
    coef = tuple(map(float, options["noising_coef"]))
    if len(coef) == 1:
      return noising.BandedNoising(coef), 1.0
    return noising.BandedNoising(coef), 1 / first


class Buffered(Strategy):
  """A buffered linear Toeplitz C, "buf_decay" and "output_scale" (BLT).

  Its state is one array a buffer.
  """

  options = ("buf_decay", "output_scale")

  def coef(self, options: Any, num_steps: int, n: int) -> np.ndarray:
    """See `Strategy`."""
    made = self._made(options)
    powers = np.arange(max(num_steps, n) - 1)
    pairs = zip(made.buf_decay, made.output_scale, strict=True)
    rest = sum((w * t**powers for t, w in pairs), np.zeros(len(powers)))
    return _scaled(np.concatenate([[1.0], rest]), num_steps, n)

  def bands(self, options: Any, num_steps: int) -> int:
    """See `Strategy`."""
    return num_steps if options["buf_decay"] else 1

  def noising(
      self, options: Any, num_steps: int
  ) -> tuple[noising.Noising, float]:
    """See `Strategy`."""
    return self._made(options), 1 / float(self.coef(options, num_steps, 1)[0])

  def _made(self, options):
    return noising.BufferedStrategy(
        tuple(options["buf_decay"]), tuple(options["output_scale"])
    )


NOISES: types.MappingProxyType[str, Strategy] = types.MappingProxyType(
    {
        "banded": Banded(),
        "banded_inverse": BandedInverse(),
        "blt": Buffered(),
    }
)


def strategy_coef(mechanism: Any, n: int) -> np.ndarray:
  """Returns the first coefficients of C; of independent noise, the one.

  Args:
    mechanism: Mechanism of the run; without `noise`, it is independent.
    n: Number of coefficients to return.

  Raises:
    ValueError: If there is no noise of that name, or its options break a rule.
  """
  name = getattr(mechanism, "noise", "independent")
  if name == "independent":
    return np.array([1.0])
  if name not in NOISES:
    rule = f"one of independent, {', '.join(NOISES)}"
    _validate.fail("noise", rule, name)
  strategy = NOISES[name]
  options = _options(mechanism, strategy)
  return strategy.coef(options, mechanism.num_steps, n)


def _options(mechanism, strategy: Strategy) -> dict[str, Any]:
  options = dict(getattr(mechanism, "noise_options", ()))
  for name in strategy.options:
    if options.get(name) is None:
      _validate.fail(name, f'given for noise "{mechanism.noise}"', None)
  return options


def _scaled(coef, num_steps, n):
  """The first coefficients, with those of a run of norm 1 at most."""
  norm = float(np.linalg.norm(coef[:num_steps])) * _ROUND_UP
  if not norm <= 1e6:
    rule = "those of a C whose columns have a norm of at most 1e6"
    _validate.fail("noise_options", rule, norm)
  return coef[:n] / norm
