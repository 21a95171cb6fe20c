"""Builds a config's loss: of one example, over all of its views.

The invariant: it sees one example and no other, so that clipping its gradient
bounds that example's share.
"""

from collections.abc import Callable

import jax
import ml_collections

from experiments.tasks import imported, sections
from experiments.tasks.images import augment
from experiments.tasks.images import model as model_lib
from jax_privacy import losses
from jax_privacy import views as views_lib


def build_loss(
    loss_config: ml_collections.ConfigDict,
    network: model_lib.Network,
    *,
    augment_config: ml_collections.ConfigDict,
) -> Callable[..., jax.Array]:
  """Returns `loss_fn(params, example, key)` of one image and its label.

  Args:
    loss_config: A config's section.
    network: Network that predicts.
    augment_config: The section of its views.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  views_loss_fn = views_lib.augmult(
      network.apply_fn,
      _over_views(loss_config, augment_config.num_views),
      augment_fn=augment.build(augment_config),
      num_views=augment_config.num_views,
      forward_takes_keys=True,
  )

  def loss_fn(params, example, key):
    image = network.standardise_fn(example["image"])
    loss, _ = views_loss_fn(params, image, example["label"], key)
    return loss

  return loss_fn


def _over_views(loss_config, num_views: int) -> losses.LossFn:
  weight = loss_config.invariance_weight
  if weight and num_views < 2:
    raise ValueError(
        "loss.invariance_weight must be 0 where augment.num_views is less than"
        f" 2 (it compares views), got {weight} and {num_views}."
    )
  name = imported.resolve(
      "loss.name",
      loss_config.name,
      takes=("logits", "label"),
      what="a function of logits and label",
  )
  with sections.named("loss"):
    return losses.over_views(
        name,
        label_smoothing=loss_config.label_smoothing,
        invariance_weight=weight,
    )
