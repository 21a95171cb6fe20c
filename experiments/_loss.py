"""Builds a config's loss: of one example, over all of its views.

The invariant: it sees one example and no other, so that clipping its gradient
bounds that example's share.
"""

from collections.abc import Callable

import jax
import ml_collections
import optax

from experiments import _fields, _model
from jax_privacy import augmult
from jax_privacy.data import augment


def build_loss(
    config: ml_collections.ConfigDict, model: _model.Model
) -> Callable[..., jax.Array]:
  """Returns `loss_fn(params, image, label, key)` of one uint8 image."""
  names = tuple(config.augment.names)
  options = _fields.options(
      "augment.options", config.augment.options, taken=("names",)
  )
  with _fields.named("augment"):  # Options without a name are refused too.
    augment_fn = augment.build(names, **options)
  views_loss_fn = augmult.augmult(
      model.apply_fn,
      augmult.mean_over_views(optax.softmax_cross_entropy_with_integer_labels),
      augment_fn=augment_fn if names else None,
      num_views=config.augment.num_views,
      forward_takes_keys=True,
  )

  def loss_fn(params, image, label, key):
    loss, _ = views_loss_fn(params, model.standardise_fn(image), label, key)
    return loss

  return loss_fn
