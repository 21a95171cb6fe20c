"""Models of images, tables and text fit for DP-SGD, built by name.

Invariant: every model is a pure function of its parameters and of each example
on its own. None holds BatchNorm, running statistics or a random state, so the
gradient of one example never depends on another example.

>>> from flax import nnx
>>> from jax_privacy import models
>>> models.names()
('cnn_small', 'cnn_tanh', 'linear', 'nf_resnet', 'nfnet', 'wide_resnet')
>>> model = models.build("cnn_tanh", rngs=nnx.Rngs(0), num_classes=10)
>>> apply_fn, params = models.functional(model)
>>> models.num_parameters(params)
26010
"""

from jax_privacy import _extras as _extras

with _extras.needed("models"):
  import flax as _flax  # noqa: F401

from jax_privacy.models.haiku import from_haiku as from_haiku
from jax_privacy.models.layers import GroupNorm as GroupNorm
from jax_privacy.models.layers import WSConv as WSConv
from jax_privacy.models.pure import functional as functional
from jax_privacy.models.pure import method as method
from jax_privacy.models.pure import num_parameters as num_parameters
from jax_privacy.models.pure import refuse_batch_norm as refuse_batch_norm
from jax_privacy.models.registry import build as build
from jax_privacy.models.registry import denoiser_names as denoiser_names
from jax_privacy.models.registry import names as names
from jax_privacy.models.registry import sequence_names as sequence_names
from jax_privacy.models.registry import table_names as table_names
from jax_privacy.models.safetensors import from_safetensors as from_safetensors

__all__ = (
    "GroupNorm",
    "WSConv",
    "build",
    "denoiser_names",
    "from_haiku",
    "from_safetensors",
    "functional",
    "method",
    "names",
    "num_parameters",
    "refuse_batch_norm",
    "sequence_names",
    "table_names",
)


def __dir__() -> list[str]:
  return list(__all__)
