"""The denoising loss of one example: the mean over draws of noise.

A draw is a view of an example, as `jax_privacy.views` has it: its own
augmentation, noise level and noise. The loss is the mean over the draws, so
that one gradient an example is clipped, and draws cost no privacy.

Invariant: the loss sees one example. What is drawn depends on the example's key
and the number of the draw alone, and the label is dropped or kept once for all
draws of an example.

>>> example = {"image": jnp.zeros((2, 2, 1)), "label": jnp.int32(3)}
>>> loss_fn = build_loss(
...     lambda params, inputs: params * inputs["image"],
...     parameterisation.build("v"), noise_laws.build("uniform"),
...     num_draws=4, num_classes=10, label_dropout=0.1)
>>> loss_fn(1.0, example, jax.random.key(0)).shape
()
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.tasks.denoising import noise_laws, parameterisation
from jax_privacy import views as views_lib
from jax_privacy.data import augment

# In the place of a draw's number, which it is not; `views` has 2^32 - 1.
_LABEL = 2**32 - 2

NetworkFn = Callable[[Any, Mapping[str, jax.Array]], jax.Array]


def squared_errors(
    network_fn: NetworkFn,
    params: Any,
    way: parameterisation.Parameterisation,
    *,
    clean: jax.Array,
    noise: jax.Array,
    sigma: jax.Array,
    label: jax.Array,
) -> jax.Array:
  """Returns weight(s) ||D(x + s n, s) - x||^2, [n].

  Args:
    network_fn: Network, of parameters and a denoiser's inputs.
    params: Its parameters.
    way: Way to ask it for an image.
    clean: Images [n, ...], x.
    noise: Standard normal noise of their shape, n.
    sigma: Noise levels [n].
    label: Classes [n]; num_classes for none.
  """
  axes = tuple(range(1, clean.ndim))
  noisy = clean + jnp.expand_dims(sigma, axes) * noise
  denoised = way.denoise(
      lambda scaled, level: network_fn(
          params, {"image": scaled, "noise": level, "label": label}
      ),
      noisy,
      sigma,
  )
  errors = jnp.sum(jnp.square(denoised - clean), axis=axes)
  return way.at(sigma).weight * errors


def build_loss(
    network_fn: NetworkFn,
    way: parameterisation.Parameterisation,
    draw_sigma_fn: noise_laws.DrawFn,
    *,
    num_draws: int,
    num_classes: int,
    label_dropout: float,
    augment_fn: augment.AugmentFn | None = None,
) -> Callable[[Any, Any, jax.Array], jax.Array]:
  """Returns `loss_fn(params, example, key)` of one {"image", "label"}.

  Args:
    network_fn: Network, of parameters and a denoiser's inputs.
    way: Way to ask it for an image, and the weight of a noise level.
    draw_sigma_fn: Law of the noise level.
    num_draws: Number of draws of an example.
    num_classes: Number of classes, which is also the label "no class".
    label_dropout: Probability that an example has no class, for all draws.
    augment_fn: Function of (key, image) that gives an image of the same shape,
      for each draw; None for the image itself.

  Source: Dockhorn et al. 2023 (arXiv 2210.09929), "noise multiplicity";
  Ghalebikesabi et al. 2023 (2302.13861), with augmentations.
  """

  def draw_fn(key, image):
    view_key, sigma_key, noise_key = jax.random.split(key, 3)
    clean = image if augment_fn is None else augment_fn(view_key, image)
    noise = jax.random.normal(noise_key, clean.shape, clean.dtype)
    return {
        "clean": clean,
        "noise": noise,
        "sigma": draw_sigma_fn(sigma_key),
    }

  def loss_fn(params, example, key):
    is_dropped = jax.random.bernoulli(
        jax.random.fold_in(key, _LABEL), label_dropout
    )
    none = jnp.asarray(num_classes, example["label"].dtype)
    label = jnp.where(is_dropped, none, example["label"])
    draws = views_lib.sample_views(
        draw_fn, key, example["image"], num_views=num_draws
    )
    label = jnp.broadcast_to(label[None], (num_draws,))
    errors = squared_errors(network_fn, params, way, label=label, **draws)
    return jnp.mean(errors)

  return loss_fn


def keys_of(images: jax.Array, *, seed: int) -> jax.Array:
  """Returns a key for each image, from its pixels alone, [n].

  For noise in an evaluation: the same image has the same, in whatever batch.

  Args:
    images: Images [n, ...], of any dtype of numbers.
    seed: Seed of the keys.
  """
  values = images.reshape(images.shape[0], -1)
  if jnp.issubdtype(values.dtype, jnp.floating):
    values = jax.lax.bitcast_convert_type(
        values.astype(jnp.float32), jnp.uint32
    )
  values = values.astype(jnp.uint32)
  factors = jax.random.bits(jax.random.key(seed), values.shape[1:], jnp.uint32)
  hashes = jnp.sum(values * (factors | 1)[None], axis=1, dtype=jnp.uint32)
  key = jax.random.key(seed)
  return jax.vmap(lambda each: jax.random.fold_in(key, each))(hashes)
