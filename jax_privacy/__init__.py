"""Differentially private training for JAX.

Clip (`clipped_grad`), add noise (`noise_addition`), select batches
(`batch_selection`), or have all three made to fit (`dp_sgd.make_private`).
`dir(jax_privacy)` is the table of contents. A submodule is imported when it is
first asked for: `jax_privacy.testing.check_private` needs no import of its own.
"""

import importlib as _importlib
from typing import Any as _Any

from jax_privacy.clipping import clip_pytree as clip_pytree
from jax_privacy.clipping import clipped_grad as clipped_grad
from jax_privacy.views import augmult as augmult
from jax_privacy.views import example_keys as example_keys

__version__ = "0.1.0"

# Imported when they are first asked for. Some need an extra.
_SUBMODULES = (
    "agc",
    "auditing",
    "averaging",
    "batch_schedule",
    "batch_selection",
    "checkpoint",
    "data",
    "dp_sgd",
    "losses",
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
__all__ = (
    "augmult",
    "clip_pytree",
    "clipped_grad",
    "example_keys",
    *_SUBMODULES,
)


def __getattr__(name: str) -> _Any:
  if name in _SUBMODULES:
    return _importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*__all__, "__version__"])
