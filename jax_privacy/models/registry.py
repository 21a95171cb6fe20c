"""Builds a model from its name and options, as a config holds them.

Invariant: this table is the only list of models. To add one, write its file
and add its line here.

>>> from flax import nnx
>>> type(build("cnn_small", rngs=nnx.Rngs(0), channels=(8, 8))).__name__
'SmallCNN'
>>> build("cnn_small", rngs=nnx.Rngs(0), color="red")
Traceback (most recent call last):
...
ValueError: an option of 'cnn_small' must be one of channels, image_shape, \
num_classes, num_groups, got 'color'.
"""

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from jax_privacy.models import (
    adm,
    cnn,
    denoiser,
    griffin,
    linear,
    lora,
    lru,
    nf_resnet,
    nfnet,
    sequences,
    tabular,
    transformer,
    unet,
    wide_resnet,
)

_MODELS: types.MappingProxyType[str, type[nnx.Module]] = types.MappingProxyType(
    {
        "cnn_small": cnn.SmallCNN,
        "cnn_tanh": cnn.TanhCNN,
        "linear": linear.Linear,
        "nf_resnet": nf_resnet.NFResNet,
        "nfnet": nfnet.NFNet,
        "wide_resnet": wide_resnet.WideResNet,
    }
)
# Of rows of a table, in place of images.
_TABLE_MODELS: types.MappingProxyType[str, type[nnx.Module]] = (
    types.MappingProxyType(
        {
            "table_linear": tabular.TableLinear,
            "table_mlp": tabular.TableMLP,
            "table_resnet": tabular.TableResNet,
        }
    )
)
# From noisy images to what is in them; see `denoiser.py`.
_DENOISERS: types.MappingProxyType[str, type[nnx.Module]] = (
    types.MappingProxyType(
        {
            "denoiser_adm": adm.ADM,
            "denoiser_mlp": denoiser.MLPDenoiser,
            "denoiser_unet": unet.UNet,
        }
    )
)
# Of sequences of tokens: each takes a config, whose fields are its options.
_SEQUENCE_MODELS: types.MappingProxyType[
    str, tuple[type[sequences.SequenceModel], type[sequences.SequenceConfig]]
] = types.MappingProxyType(
    {
        "griffin": (griffin.Griffin, griffin.GriffinConfig),
        "lru": (lru.LRU, lru.LRUConfig),
        "transformer": (transformer.Transformer, transformer.TransformerConfig),
    }
)


def names() -> tuple[str, ...]:
  """Returns the names of models of images that `build` takes, sorted."""
  return tuple(sorted(_MODELS))


def table_names() -> tuple[str, ...]:
  """Returns the names of models of tables that `build` takes, sorted."""
  return tuple(sorted(_TABLE_MODELS))


def denoiser_names() -> tuple[str, ...]:
  """Returns the names of denoisers of images that `build` takes, sorted."""
  return tuple(sorted(_DENOISERS))


def sequence_names() -> tuple[str, ...]:
  """Returns the names of models of sequences that `build` takes, sorted."""
  return tuple(sorted(_SEQUENCE_MODELS))


def build(
    name: str | Callable[..., nnx.Module], *, rngs: nnx.Rngs, **options: Any
) -> nnx.Module:
  """Builds the model of that name.

  Args:
    name: One of `names()`, `table_names()`, `denoiser_names()` or
      `sequence_names()`; or a class, or a function that returns a model, of the
      caller's own, which takes `rngs` and the options by name.
    rngs: Source of the parameters' random keys.
    **options: The model's own; every model of images, and every denoiser, takes
      `num_classes` and `image_shape`, (height, width, channels); every model of
      tables takes `num_outputs`, `num_numbers` and `category_sizes`; every
      model of sequences takes `vocabulary_size`, and the other fields of its
      config.
      Every model takes `lora`, a dict of `targets`, `rank` and `alpha`; see
      `lora.add`.

  Returns:
    The model: called with float images [n, height, width, channels] it gives
    logits [n, num_classes]; called with rows of a table, as a `TableSource`
    has them, outputs [n, num_outputs]; a denoiser called as `denoiser.py` says,
    floats [n, height, width, channels]; called with tokens, int [n, t], logits
    [n, t, vocabulary_size] of the token that follows each.

  Raises:
    ValueError: If the name or an option is unknown (the text lists the valid
      ones), an option has an invalid value, or what is built is no model.
  """
  if (adapters := options.pop("lora", None)) is not None:
    return _adapted(build(name, rngs=rngs, **options), adapters, rngs)
  model: Any = name
  if not callable(name):
    found = _MODELS | _TABLE_MODELS | _DENOISERS | _SEQUENCE_MODELS
    if name not in found:
      valid = (*names(), *table_names(), *denoiser_names(), *sequence_names())
      rule = f"one of {', '.join(valid)}"
      raise ValueError(f"name must be {rule}, got {name!r}.")
    model = found[name]  # Each takes `rngs`; nnx.Module itself does not.
  else:
    name = f"{name.__module__}:{name.__qualname__}"
  if name in _SEQUENCE_MODELS:
    make_model, make_config = model
    _check_options(name, make_config, options)
    return make_model(make_config(**options), rngs=rngs)
  _check_options(name, model, options)
  built = model(rngs=rngs, **options)
  if not isinstance(built, nnx.Module):
    raise ValueError(
        f"name must give a flax.nnx.Module, got {name!r}, which gives a"
        f" {type(built).__name__}."
    )
  return built


def _adapted(
    model: nnx.Module, adapters: Mapping[str, Any], rngs: nnx.Rngs
) -> nnx.Module:
  """Returns the model with what its option `lora` asks for."""
  valid = ("alpha", "rank", "targets")
  if not isinstance(adapters, Mapping) or not set(adapters) <= set(valid):
    raise ValueError(
        f"lora must be a dict of {', '.join(valid)}, got {adapters!r:.100}."
    )
  if missing := sorted({"rank", "targets"} - set(adapters)):
    raise ValueError(f"lora must have {missing[0]}, got {dict(adapters)}.")
  return lora.add(model, rngs=rngs, **adapters)


def _check_options(
    name: str, model: Callable[..., Any], options: dict[str, Any]
) -> None:
  # A module's class itself has the signature of its metaclass.
  function = model.__init__ if inspect.isclass(model) else model
  parameters = inspect.signature(function).parameters
  valid = sorted(set(parameters) - {"self", "rngs"})
  for option in options:
    if option not in valid:
      raise ValueError(
          f"an option of {name!r} must be one of"
          f" {', '.join(valid)}, got {option!r}."
      )
