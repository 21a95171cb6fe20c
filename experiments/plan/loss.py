"""Builds a config's loss: of one example, over all of its views.

The invariant: it sees one example and no other, so that clipping its gradient
bounds that example's share.
"""

from collections.abc import Callable

import jax
import ml_collections

from experiments.plan import augment, fields
from experiments.plan import model as model_lib
from jax_privacy import data, losses
from jax_privacy import views as views_lib


def build_loss(
    loss_config: ml_collections.ConfigDict,
    model: model_lib.Model,
    *,
    augment_config: ml_collections.ConfigDict,
) -> Callable[..., jax.Array]:
  """Returns `loss_fn(params, image, label, key)` of one uint8 image.

  Args:
    loss_config: A config's section.
    model: What predicts.
    augment_config: The section of its views.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  views_loss_fn = views_lib.augmult(
      model.apply_fn,
      _over_views(loss_config, augment_config.num_views),
      augment_fn=augment.build(augment_config),
      num_views=augment_config.num_views,
      forward_takes_keys=True,
  )

  def loss_fn(params, image, label, key):
    loss, _ = views_loss_fn(params, model.standardise_fn(image), label, key)
    return loss

  return loss_fn


def check_labels(
    loss_config: ml_collections.ConfigDict, source: data.Source
) -> None:
  """Checks that the loss is one of labels such as the source's.

  Args:
    loss_config: A config's section.
    source: Of the examples that the loss will see.

  Raises:
    ValueError: If it is not; the text says which loss is.
  """
  several, wanted = "one class", "softmax"
  if source.is_multi_label:
    several, wanted = "several labels", "sigmoid"
  if loss_config.name != wanted:
    raise ValueError(
        f"loss.name must be {wanted!r} for a source of {several} an example,"
        f" got {loss_config.name!r}."
    )


def _over_views(loss_config, num_views: int) -> losses.LossFn:
  weight = loss_config.invariance_weight
  if weight and num_views < 2:
    raise ValueError(
        "loss.invariance_weight must be 0 where augment.num_views is less than"
        f" 2 (it compares views), got {weight} and {num_views}."
    )
  with fields.named("loss"):
    return losses.over_views(
        loss_config.name,
        label_smoothing=loss_config.label_smoothing,
        invariance_weight=weight,
    )
