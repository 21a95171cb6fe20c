"""Builds a model from its name and options, as a config holds them.

Invariant: this table is the only list of models. To add one, write its file
and add its line here.

>>> from flax import nnx
>>> type(build("cnn_small", rngs=nnx.Rngs(0), channels=(8, 8))).__name__
'SmallCNN'
>>> build("cnn_small", rngs=nnx.Rngs(0), color="red")
Traceback (most recent call last):
...
ValueError: color is no option of 'cnn_small': must be one of channels, \
image_shape, num_classes, num_groups.
"""

import inspect
import types
from collections.abc import Callable
from typing import Any

from flax import nnx

from jax_privacy.models import cnn, linear, nf_resnet, nfnet, wide_resnet

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


def names() -> tuple[str, ...]:
  """Returns the names that `build` takes, sorted."""
  return tuple(sorted(_MODELS))


def build(
    name: str | Callable[..., nnx.Module], *, rngs: nnx.Rngs, **options: Any
) -> nnx.Module:
  """Builds the model of that name.

  Args:
    name: One of `names()`; or a class, or a function that returns a model, of
      the caller's own, which takes `rngs` and the options by name.
    rngs: Source of the parameters' random keys.
    **options: The model's own; every model takes `num_classes` and
      `image_shape`, (height, width, channels).

  Returns:
    The model: called with float images [n, height, width, channels] it gives
    logits [n, num_classes].

  Raises:
    ValueError: If the name or an option is unknown (the text lists the valid
      ones), an option has an invalid value, or what is built is no model.
  """
  model: Any = name
  if not callable(name):
    if name not in _MODELS:
      rule = f"one of {', '.join(names())}"
      raise ValueError(f"name must be {rule}, got {name!r}.")
    model = _MODELS[name]  # Each takes `rngs`; nnx.Module itself does not.
  else:
    name = f"{name.__module__}:{name.__qualname__}"
  # A module's class itself has the signature of its metaclass.
  function = model.__init__ if inspect.isclass(model) else model
  parameters = inspect.signature(function).parameters
  valid = sorted(set(parameters) - {"self", "rngs"})
  for option in options:
    if option not in valid:
      raise ValueError(
          f"{option} is no option of {name!r}: must be one of"
          f" {', '.join(valid)}."
      )
  built = model(rngs=rngs, **options)
  if not isinstance(built, nnx.Module):
    raise ValueError(
        f"name must give a flax.nnx.Module, got {name!r}, which gives a"
        f" {type(built).__name__}."
    )
  return built
