"""The models and inputs of the clipping benchmark, by name.

Invariant: a workload's loss is one function of a batch, the mean over its
examples. The non-private step gives it the whole batch, and `clipped_grad`
gives it batches of one, so both differentiate the same mathematics.

>>> import jax
>>> workload = build("mlp", batch_size=2)
>>> workload.loss(workload.params, *workload.batch).shape
()
>>> [x.shape for x in workload.batch]
[(2, 784), (2,)]
"""

import dataclasses
import functools
import math
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import functions, transformers
from jax_privacy import models

NUM_VIEWS = 8
_WORDS = 1000
_LENGTH = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
  """What a step needs.

  Attributes:
    loss: `loss(params, inputs, labels)`, the mean over the leading axis.
    params: nested dicts of arrays.
    batch: (inputs, labels), of the batch size asked for.
  """

  loss: Callable[[Any, jax.Array, jax.Array], jax.Array]
  params: Any
  batch: tuple[jax.Array, jax.Array]


class MLP(nnx.Module):
  """Linear layers with ReLU between them."""

  def __init__(self, widths: tuple[int, ...], *, rngs: nnx.Rngs):
    self.layers = nnx.List(
        [
            nnx.Linear(d_in, d_out, rngs=rngs)
            for d_in, d_out in zip(widths[:-1], widths[1:], strict=True)
        ]
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [n, widths[-1]] of `x` [n, widths[0]]."""
    *hidden, last = self.layers
    for layer in hidden:
      x = jax.nn.relu(layer(x))
    return last(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Spec:
  """How to build a workload; `model` takes `rngs`."""

  model: Callable[..., nnx.Module]
  batch_size: int
  input_shape: tuple[int, ...]
  num_classes: int
  num_views: int = 1


def _images(name: str, shape, num_classes: int, **options):
  """The fields of a spec for one of the package's own image models."""
  model = functools.partial(
      models.build,
      name,
      image_shape=shape,
      num_classes=num_classes,
      **options,
  )
  return {"model": model, "input_shape": shape, "num_classes": num_classes}


_WRN = _images("wide_resnet", (32, 32, 3), 10, depth=16, width=4)
_SPECS: types.MappingProxyType[str, _Spec] = types.MappingProxyType(
    {
        "wrn_16_4": _Spec(batch_size=32, **_WRN),
        "wrn_16_4_8views": _Spec(batch_size=8, num_views=NUM_VIEWS, **_WRN),
        "nf_resnet_50": _Spec(
            batch_size=8, **_images("nf_resnet", (64, 64, 3), 1000, depth=50)
        ),
        "vit_small": _Spec(
            model=functools.partial(
                transformers.VisionTransformer,
                image_shape=(64, 64, 3),
                patch_size=8,
                width=384,
                depth=12,
                num_heads=6,
                num_classes=1000,
            ),
            batch_size=8,
            input_shape=(64, 64, 3),
            num_classes=1000,
        ),
        "transformer": _Spec(
            model=functools.partial(
                transformers.Decoder,
                num_words=_WORDS,
                length=_LENGTH,
                width=256,
                depth=4,
                num_heads=4,
            ),
            batch_size=32,
            input_shape=(_LENGTH,),
            num_classes=_WORDS,
        ),
        "mlp": _Spec(
            model=functools.partial(MLP, (784, 1024, 1024, 10)),
            batch_size=256,
            input_shape=(784,),
            num_classes=10,
        ),
        "cnn_small": _Spec(
            batch_size=256, **_images("cnn_small", (28, 28, 1), 10)
        ),
    }
)


def names() -> tuple[str, ...]:
  """Returns the names that `build` takes."""
  return (*_SPECS, *functions.names())


def build(
    name: str, *, batch_size: int | None = None, dtype: str = "float32"
) -> Workload:
  """Builds a model, random inputs and random labels, always the same ones.

  Args:
    name: one of `names()`.
    batch_size: examples; None for the workload's own. An example of
      "wrn_16_4_8views" is 8 images.
    dtype: of parameters and images, "float32" or "bfloat16".

  Returns:
    The workload.

  Raises:
    ValueError: if the name is unknown.
  """
  if name not in names():
    raise ValueError(f"name must be one of {', '.join(names())}, got {name!r}.")
  cast = functools.partial(_cast_floats, dtype=jnp.dtype(dtype))
  if name in functions.names():
    return _of_function(name, batch_size, cast)
  spec = _SPECS[name]
  apply_fn, params = models.functional(spec.model(rngs=nnx.Rngs(0)))
  size = spec.batch_size if batch_size is None else batch_size
  inputs, labels = _batch(spec, size)
  return Workload(
      loss=_mean_loss(apply_fn, spec.num_views),
      params=jax.tree.map(cast, params),
      batch=(cast(inputs), labels),
  )


def _of_function(name, batch_size, cast) -> Workload:
  """A workload of a loss that is written as a function of one example."""
  loss, params, inputs = functions.build(name, batch_size)

  def mean_loss(params, inputs, labels):
    del labels
    per_example = jax.vmap(functools.partial(loss, params))
    return jnp.mean(per_example(inputs).astype(jnp.float32))

  labels = jnp.zeros(len(inputs), jnp.int32)
  return Workload(
      loss=mean_loss,
      params=jax.tree.map(cast, params),
      batch=(cast(inputs), labels),
  )


def _mean_loss(apply_fn, num_views):
  """Mean cross-entropy over examples, views and, in text, positions."""

  def loss(params, inputs, labels):
    if num_views > 1:  # [n, views, ...] to [n * views, ...].
      shape = inputs.shape
      inputs = inputs.reshape(math.prod(shape[:2]), *shape[2:])
      labels = jnp.repeat(labels, num_views)
    logits = apply_fn(params, inputs).astype(jnp.float32)
    return jnp.mean(
        optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    )

  return loss


def _batch(spec, size):
  """Images or words, and a label for each image or each word."""
  rng = np.random.default_rng(0)
  if spec.input_shape == (_LENGTH,):
    words = rng.integers(spec.num_classes, size=(size, _LENGTH + 1))
    words = jnp.asarray(words, jnp.int32)
    return words[:, :-1], words[:, 1:]
  views = (spec.num_views,) if spec.num_views > 1 else ()
  shape = (size, *views, *spec.input_shape)
  images = jnp.asarray(rng.standard_normal(shape, np.float32))
  labels = rng.integers(spec.num_classes, size=size)
  return images, jnp.asarray(labels, jnp.int32)


def _cast_floats(x, dtype):
  return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
