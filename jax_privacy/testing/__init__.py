"""Proof by replay: checks of a privacy claim, run on a user's own code.

`check_private` takes what `dp_sgd.make_private` returns; `check_sensitivity`
any clipped gradient function; `check_noise` any optax transformation that adds
noise; `check_loss` a loss, which must not mix examples. Each raises an error
that names what it saw, or returns a small report.
"""

from jax_privacy.testing.errors import LossError as LossError
from jax_privacy.testing.errors import NoiseError as NoiseError
from jax_privacy.testing.errors import SensitivityError as SensitivityError
from jax_privacy.testing.losses import LossReport as LossReport
from jax_privacy.testing.losses import check_loss as check_loss
from jax_privacy.testing.movement import SensitivityReport as SensitivityReport
from jax_privacy.testing.movement import check_sensitivity as check_sensitivity
from jax_privacy.testing.noise import NoiseReport as NoiseReport
from jax_privacy.testing.noise import check_noise as check_noise
from jax_privacy.testing.private import PrivateReport as PrivateReport
from jax_privacy.testing.private import check_private as check_private

__all__ = (
    "LossError",
    "LossReport",
    "NoiseError",
    "NoiseReport",
    "PrivateReport",
    "SensitivityError",
    "SensitivityReport",
    "check_loss",
    "check_noise",
    "check_private",
    "check_sensitivity",
)


def __dir__() -> list[str]:
  return list(__all__)
