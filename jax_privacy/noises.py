"""Which noise `make_private` adds to a clipped sum, by name.

The invariant: this table is the only list of noises. To add one, write its
file, with a class as `contracts.Noise` says, and add its line here.

Example:
  >>> from jax_privacy import noises
  >>> noises.names()
  ('gaussian', 'secure_gaussian')
  >>> noises.chosen(None, secure_random=True).is_secure
  True
"""

import types

from jax_privacy import _validate, contracts, noise_addition, secure_noise

_NOISES: types.MappingProxyType[str, contracts.Noise] = types.MappingProxyType(
    {
        "gaussian": noise_addition.Gaussian(),
        "secure_gaussian": secure_noise.SecureGaussian(),
    }
)


def names() -> tuple[str, ...]:
  """Returns the names that `make_private` takes."""
  return tuple(_NOISES)


def chosen(
    noise: str | contracts.Noise | None, *, secure_random: bool
) -> contracts.Noise:
  """Returns the noise that `make_private`'s arguments name.

  Args:
    noise: A name, an object of one's own, or None for Gaussian noise.
    secure_random: Whether a cipher must draw it.

  Raises:
    ValueError: If there is no noise of that name, or no cipher draws it.
  """
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
