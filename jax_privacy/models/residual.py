"""What the residual networks share: how a call goes from images to logits.

Invariant: stem, blocks, head, mean over space, dropout, linear layer; and what
is dropped for an image depends on its own key alone.

>>> from jax_privacy.models import nf_resnet, nfnet, wide_resnet
>>> networks = (nf_resnet.NFResNet, nfnet.NFNet, wide_resnet.WideResNet)
>>> all(issubclass(network, ResidualNetwork) for network in networks)
True
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks, masks


class ResidualNetwork(nnx.Module):
  """A residual network; a subclass builds its layers and names its ends.

  Attributes:
    image_shape: Sizes of an image, (height, width, channels).
    blocks: Functions of features and which residual branches are kept.
    drop_rates: Probabilities of stochastic depth, one per block.
    dropout_rate: Probability of dropout, for what the linear layer sees.
    linear: The layer from features to logits.
  """

  image_shape: tuple[int, ...]
  blocks: nnx.List
  drop_rates: tuple[float, ...]
  dropout_rate: float
  linear: nnx.Linear

  def _stem_features(self, images: jax.Array) -> jax.Array:
    """Returns what the first block sees of images."""
    raise NotImplementedError

  def _head_features(self, x: jax.Array) -> jax.Array:
    """Returns what is averaged over space, from the last block's output."""
    raise NotImplementedError

  def __call__(
      self, images: jax.Array, *, keys: jax.Array | None = None
  ) -> jax.Array:
    """Classifies images.

    Args:
      images: Floats [n, height, width, channels].
      keys: For stochastic depth and dropout, a PRNG key per image, [n], so
        that what is dropped for an image depends on its own key alone. None
        drops nothing, as an evaluation should.

    Returns:
      Logits [n, num_classes].

    Raises:
      ValueError: If the images are of another shape or no floats, or the keys
        are not one per image.
    """
    checks.image_batch(images, image_shape=self.image_shape)
    masks.check_keys(keys, num_images=images.shape[0])
    kept = masks.stochastic_depth(keys, rates=self.drop_rates)
    x = self._stem_features(images)
    for block, keep in zip(self.blocks, kept, strict=True):
      x = block(x, keep)
    x = masks.dropout(
        jnp.mean(self._head_features(x), axis=(1, 2)),
        keys,
        rate=self.dropout_rate,
        layer=len(self.blocks),
    )
    return self.linear(x)
