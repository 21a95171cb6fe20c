"""Builds a config's model, as a pure function of what the source gives."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
from flax import nnx

from experiments import _features, _fields
from jax_privacy import data, models


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A model as a pure function of standardised images.

  Attributes:
    apply_fn: `apply_fn(params, images, keys=None)` giving logits; images float,
      a key per image for what is dropped in training, None in evaluation.
    standardise_fn: A source's images, or features, to what `apply_fn` takes.
    params: Initial parameters.
  """

  apply_fn: Callable[..., jax.Array]
  standardise_fn: Callable[[jax.Array], jax.Array]
  params: Any


def build_model(
    config: ml_collections.ConfigDict, source: data.Source, key: jax.Array
) -> Model:
  """Builds the model for a source's images and labels, initialised by key."""
  taken = ("name", "rngs", "num_classes", "image_shape")
  options = _fields.options("model.options", config.model.options, taken=taken)
  with _fields.named("model.options"):
    module = models.build(
        config.model.name,
        rngs=nnx.Rngs(key),
        num_classes=source.num_classes,
        image_shape=source.image_shape,
        **options,
    )
  apply_fn, params = models.functional(module)
  return Model(
      apply_fn=apply_fn,
      standardise_fn=_features.make_standardise_fn(config, source.image_shape),
      params=params,
  )
