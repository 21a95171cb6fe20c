"""Builds a config's network, as a pure function of what the source gives."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
from flax import nnx

from experiments.tasks import modules, sections
from experiments.tasks.images import augment as augment_lib
from experiments.tasks.images import features
from jax_privacy import data, models
from jax_privacy.data import augment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """A network as a pure function of standardised images.

  Attributes:
    apply_fn: `apply_fn(params, images, keys=None)` giving logits; images float,
      a key per image for what is dropped in training, None in evaluation.
    standardise_fn: A source's images, or features, to what `apply_fn` takes.
    params: Initial parameters, or their shapes.
    view_shape: Height, width and channels of the images it was built for.
  """

  apply_fn: Callable[..., jax.Array]
  standardise_fn: Callable[[jax.Array], jax.Array]
  params: Any
  view_shape: tuple[int, int, int]


def build_network(
    model_config: ml_collections.ConfigDict,
    source: data.Source,
    key: jax.Array,
    *,
    data_config: ml_collections.ConfigDict,
    augment_config: ml_collections.ConfigDict,
) -> Network:
  """Builds the network for views of a source's images, initialised by key.

  Args:
    model_config: A config's section.
    source: Whose images.
    key: Key of the parameters.
    data_config: The section of the constants that standardise images.
    augment_config: The section of the views.

  Returns:
    The network.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  shape = augment_lib.output_shape(augment_config, source.image_shape)
  apply_fn, params = models.functional(
      _module(model_config, source, shape, key)
  )
  return Network(
      apply_fn=apply_fn,
      standardise_fn=features.make_standardise_fn(
          data_config, source.image_shape
      ),
      params=params,
      view_shape=shape,
  )


def build_for_evaluation(
    model_config: ml_collections.ConfigDict,
    source: data.Source,
    trained: Network | None = None,
    *,
    data_config: ml_collections.ConfigDict,
    augment_config: ml_collections.ConfigDict,
) -> Network:
  """Builds the network for what evaluation sees of a source's images.

  Args:
    model_config: Section of the network.
    source: Read with `data.test_options`.
    trained: Model of `build_network`, whose parameters it is to take; None
      where there is none: then shapes replace them.
    data_config: Section of the constants that standardise images.
    augment_config: Section of the views.

  Returns:
    The network.

  Raises:
    ValueError: If a field breaks its rule, or images of this size need other
      parameters than the trained network's.
  """
  shape, standardise_fn = _seen(source, data_config, augment_config)
  if trained is not None and shape == trained.view_shape:
    return dataclasses.replace(trained, standardise_fn=standardise_fn)
  # Nothing is computed: of these parameters only shapes are looked at.
  apply_fn, params = models.functional(
      nnx.eval_shape(lambda: _module(model_config, source, shape, key=0))
  )
  if trained is not None:
    if _shapes(params) != _shapes(trained.params):
      raise ValueError(
          "data.test_options must leave the model's parameters as they are, got"
          f" test images of shape {shape}, for which those of"
          f" {model_config.name!r} have other shapes."
      )
    params = trained.params
  return Network(
      apply_fn=apply_fn,
      standardise_fn=standardise_fn,
      params=params,
      view_shape=shape,
  )


def _seen(source, data_config, augment_config):
  """Returns the shape that evaluation sees, and what makes it of images."""
  crop_size = augment_lib.test_crop_size(augment_config, data_config)
  standardise_fn = features.make_standardise_fn(data_config, source.image_shape)
  if crop_size is None:
    return source.image_shape, standardise_fn
  crop = functools.partial(augment.centre_crop, crop_size=crop_size)
  with sections.named("data.test_options"):
    image = jax.ShapeDtypeStruct(source.image_shape, source.image_dtype)
    shape = jax.eval_shape(crop, image).shape
  return shape, lambda images: standardise_fn(jax.vmap(crop)(images))


def _module(model_config, source, shape, key) -> nnx.Module:
  return modules.build(
      model_config,
      key=key,
      what="a class of flax.nnx.Module, or a function that returns one",
      takes=("rngs",),
      num_classes=source.num_classes,
      image_shape=shape,
  )


def _shapes(params: Any) -> Any:
  return jax.tree.map(lambda x: (x.shape, x.dtype), params)
