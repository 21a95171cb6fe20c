"""Builds a config's loss: of one example, over all of its views.

The invariant: it sees one example and no other, so that clipping its gradient
bounds that example's share.
"""

from collections.abc import Callable

import jax
import ml_collections

from experiments.plan import augment, fields
from experiments.plan import model as model_lib
from jax_privacy import augmult, data, losses


def build_loss(
    config: ml_collections.ConfigDict, model: model_lib.Model
) -> Callable[..., jax.Array]:
  """Returns `loss_fn(params, image, label, key)` of one uint8 image."""
  views_loss_fn = augmult.augmult(
      model.apply_fn,
      _over_views(config),
      augment_fn=augment.build(config),
      num_views=config.augment.num_views,
      forward_takes_keys=True,
  )

  def loss_fn(params, image, label, key):
    loss, _ = views_loss_fn(params, model.standardise_fn(image), label, key)
    return loss

  return loss_fn


def check_labels(
    config: ml_collections.ConfigDict, source: data.Source
) -> None:
  """Checks that the loss is one of labels such as the source's.

  Args:
    config: As `configs.common.base` describes.
    source: Of the examples that the loss will see.

  Raises:
    ValueError: If it is not; the text says which loss is.
  """
  several, wanted = "one class", "softmax"
  if source.is_multi_label:
    several, wanted = "several labels", "sigmoid"
  if config.loss.name != wanted:
    raise ValueError(
        f"loss.name must be {wanted!r} for a source of {several} an example,"
        f" got {config.loss.name!r}."
    )


def _over_views(config) -> losses.LossFn:
  weight, num_views = config.loss.invariance_weight, config.augment.num_views
  if weight and num_views < 2:
    raise ValueError(
        "loss.invariance_weight must be 0 where augment.num_views is less than"
        f" 2 (it compares views), got {weight} and {num_views}."
    )
  with fields.named("loss"):
    return losses.over_views(
        config.loss.name,
        label_smoothing=config.loss.label_smoothing,
        invariance_weight=weight,
    )
