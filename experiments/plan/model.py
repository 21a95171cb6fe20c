"""Builds a config's model, as a pure function of what the source gives."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
from flax import nnx

from experiments.plan import augment as augment_lib
from experiments.plan import features, fields
from jax_privacy import data, models
from jax_privacy.data import augment


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
    model_config: ml_collections.ConfigDict,
    source: data.Source,
    key: jax.Array,
    *,
    data_config: ml_collections.ConfigDict,
    augment_config: ml_collections.ConfigDict,
) -> Model:
  """Builds the model for views of a source's images, initialised by key.

  Args:
    model_config: A config's section.
    source: Whose images.
    key: Of the parameters.
    data_config: The section of the constants that standardise images.
    augment_config: The section of the views.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  shape = augment_lib.output_shape(augment_config, source.image_shape)
  apply_fn, params = models.functional(
      _module(model_config, source, shape, key)
  )
  return Model(
      apply_fn=apply_fn,
      standardise_fn=features.make_standardise_fn(
          data_config, source.image_shape
      ),
      params=params,
  )


def build_for_evaluation(
    model_config: ml_collections.ConfigDict,
    source: data.Source,
    key: jax.Array,
    *,
    data_config: ml_collections.ConfigDict,
    augment_config: ml_collections.ConfigDict,
) -> Model:
  """Builds the model for what evaluation sees of a source's images.

  Args:
    model_config: As for `build_model`.
    source: Read with `data.test_options`.
    key: As for `build_model`.
    data_config: As for `build_model`.
    augment_config: As for `build_model`.

  Raises:
    ValueError: If a field breaks its rule.
  """
  shape, standardise_fn = _seen(source, data_config, augment_config)
  apply_fn, params = models.functional(
      _module(model_config, source, shape, key)
  )
  return Model(apply_fn=apply_fn, standardise_fn=standardise_fn, params=params)


def for_evaluation(
    model: Model,
    *,
    model_config: ml_collections.ConfigDict,
    data_config: ml_collections.ConfigDict,
    augment_config: ml_collections.ConfigDict,
    train_source: data.Source,
    test_source: data.Source,
) -> Model:
  """Returns a model with the same parameters, for what evaluation sees.

  Args:
    model: Of `build_model`.
    model_config: As for `build_model`.
    data_config: As for `build_model`.
    augment_config: As for `build_model`.
    train_source: What it was built for.
    test_source: Read with `data.test_options`.

  Raises:
    ValueError: If a field breaks its rule, or images of this size need other
      parameters.
  """
  shape, standardise_fn = _seen(test_source, data_config, augment_config)
  apply_fn = model.apply_fn
  if shape != augment_lib.output_shape(
      augment_config, train_source.image_shape
  ):
    # Nothing is computed: of these parameters only shapes are looked at.
    module = nnx.eval_shape(
        lambda: _module(model_config, test_source, shape, key=0)
    )
    apply_fn, params = models.functional(module)
    if _shapes(params) != _shapes(model.params):
      raise ValueError(
          "data.test_options must leave the model's parameters as they are, got"
          f" test images of shape {shape}, for which those of"
          f" {model_config.name!r} have other shapes."
      )
  return dataclasses.replace(
      model, apply_fn=apply_fn, standardise_fn=standardise_fn
  )


def _seen(source, data_config, augment_config):
  """Returns the shape that evaluation sees, and what makes it of images."""
  crop_size = augment_lib.test_crop_size(augment_config, data_config)
  standardise_fn = features.make_standardise_fn(data_config, source.image_shape)
  if crop_size is None:
    return source.image_shape, standardise_fn
  crop = functools.partial(augment.centre_crop, crop_size=crop_size)
  with fields.named("data.test_options"):
    image = jax.ShapeDtypeStruct(source.image_shape, source.image_dtype)
    shape = jax.eval_shape(crop, image).shape
  return shape, lambda images: standardise_fn(jax.vmap(crop)(images))


def _module(model_config, source, shape, key) -> nnx.Module:
  taken = ("name", "rngs", "num_classes", "image_shape")
  options = fields.options("model.options", model_config.options, taken=taken)
  with fields.named("model.options"):
    return models.build(
        model_config.name,
        rngs=nnx.Rngs(key),
        num_classes=source.num_classes,
        image_shape=shape,
        **options,
    )


def _shapes(params: Any) -> Any:
  return jax.tree.map(lambda x: (x.shape, x.dtype), params)
