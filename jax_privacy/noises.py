"""Which noise `make_private` adds to a clipped sum, by name.

The invariant: this table is the only list of noises. To add one, write its
file, with a class as `contracts.Noise` says, and add its line here.

Example:
  >>> from jax_privacy import noises
  >>> noises.names()
  ('gaussian', 'secure_gaussian', 'banded', 'banded_inverse', 'blt')
  >>> noises.chosen(None, secure_random=True).is_secure
  True
"""

import types
from typing import Any

from jax_privacy import (
    _validate,
    contracts,
    noise_addition,
    secure_noise,
    strategies,
)

_NOISES: types.MappingProxyType[str, contracts.Noise] = types.MappingProxyType(
    {
        "gaussian": noise_addition.Gaussian(),
        "secure_gaussian": secure_noise.SecureGaussian(),
        **strategies.NOISES,
    }
)


def names() -> tuple[str, ...]:
  """Returns the names that `make_private` takes."""
  return tuple(_NOISES)


def chosen(
    noise: str | contracts.Noise | None,
    *,
    secure_random: bool,
    mechanism: Any = None,
) -> contracts.Noise:
  """Returns the noise that `make_private`'s arguments name.

  Args:
    noise: A name, an object of one's own, or None for the mechanism's, which is
      Gaussian noise unless it says another.
    secure_random: Whether a cipher must draw it.
    mechanism: Mechanism of the run; its `noise` is "independent" where it has
      none.

  Raises:
    ValueError: If there is no noise of that name, no cipher draws it, or the
      mechanism's is correlated in another way.
  """
  stated = getattr(mechanism, "noise", "independent")
  # What a mechanism's `noise` may be but independent.
  correlated = tuple(strategies.NOISES)
  if stated not in ("independent", *correlated):
    rule = f"one of independent, {', '.join(correlated)} in a mechanism"
    _validate.fail("noise", rule, stated)
  if stated != "independent" and noise is None:
    noise = stated
  is_named = isinstance(noise, str) and noise in correlated
  if (noise if is_named else "independent") != stated:
    # Others, objects too, add noise that is independent from step to step.
    rule = f"None, or as the mechanism says ({stated})"
    _validate.fail("noise", rule, noise)
  if noise is None:
    noise = "secure_gaussian" if secure_random else "gaussian"
  if isinstance(noise, str) and noise in _NOISES:
    noise = _NOISES[noise]
  is_noise = hasattr(noise, "privatizer") and hasattr(noise, "is_secure")
  if isinstance(noise, str) or not is_noise:
    rule = f"one of {', '.join(names())}, or what contracts.Noise says"
    _validate.fail("noise", rule, noise)
  if secure_random and not noise.is_secure:
    rule = "False with a noise that no cipher draws"
    _validate.fail("secure_random", rule, secure_random)
  return noise
