"""Differentially private training for JAX.

Clip (`clipped_grad`), add noise (`noise_addition`), select batches
(`batch_selection`), or have all three made to fit (`dp_sgd.make_private`).
`dir(jax_privacy)` is the table of contents. A submodule is imported when it is
first asked for: `jax_privacy.testing.check_private` needs no import of its own.
"""

import importlib as _importlib
import typing as _typing

from jax_privacy.clipping import clip_pytree as clip_pytree
from jax_privacy.clipping import clipped_fun as clipped_fun
from jax_privacy.clipping import clipped_grad as clipped_grad
from jax_privacy.views import augmult as augmult
from jax_privacy.views import example_keys as example_keys

__version__ = "0.1.0"

# Imported when they are first asked for. Some need an extra.
if _typing.TYPE_CHECKING:
  from jax_privacy import agc as agc
  from jax_privacy import auditing as auditing
  from jax_privacy import averaging as averaging
  from jax_privacy import batch_schedule as batch_schedule
  from jax_privacy import batch_selection as batch_selection
  from jax_privacy import checkpoint as checkpoint
  from jax_privacy import clipping_functions as clipping_functions
  from jax_privacy import data as data
  from jax_privacy import dp_sgd as dp_sgd
  from jax_privacy import losses as losses
  from jax_privacy import matrix_factorization as matrix_factorization
  from jax_privacy import mixing as mixing
  from jax_privacy import models as models
  from jax_privacy import noise_addition as noise_addition
  from jax_privacy import padded_batch as padded_batch
  from jax_privacy import post_processing as post_processing
  from jax_privacy import privacy_unit as privacy_unit
  from jax_privacy import root_key as root_key
  from jax_privacy import secure_noise as secure_noise
  from jax_privacy import secure_random as secure_random
  from jax_privacy import sharding as sharding
  from jax_privacy import testing as testing
  from jax_privacy import views as views

__all__ = (
    "agc",
    "auditing",
    "augmult",
    "averaging",
    "batch_schedule",
    "batch_selection",
    "checkpoint",
    "clip_pytree",
    "clipped_fun",
    "clipped_grad",
    "clipping_functions",
    "data",
    "dp_sgd",
    "example_keys",
    "losses",
    "matrix_factorization",
    "mixing",
    "models",
    "noise_addition",
    "padded_batch",
    "post_processing",
    "privacy_unit",
    "root_key",
    "secure_noise",
    "secure_random",
    "sharding",
    "testing",
    "views",
)


def __getattr__(name: str) -> _typing.Any:
  if name in __all__:
    return _importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*__all__, "__version__"])
