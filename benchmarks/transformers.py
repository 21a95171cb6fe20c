"""Transformers for the clipping benchmark: a language model and a ViT.

Plain ones: pre-LayerNorm, learned positions, GELU, no dropout. Invariant: a
row of the output depends on that row of the input and on the parameters.

>>> from flax import nnx
>>> import jax.numpy as jnp
>>> model = Decoder(num_words=10, length=4, width=8, depth=1, num_heads=2,
...                 rngs=nnx.Rngs(0))
>>> model(jnp.zeros((2, 4), jnp.int32)).shape
(2, 4, 10)
"""

import jax
import jax.numpy as jnp
from flax import nnx

_SMALL_NORMAL = jax.nn.initializers.normal(0.02)
# What an MLP's hidden layer has, as a multiple of the width.
_EXPANSION = 4


class _Attention(nnx.Module):
  """Multi-head self-attention, of every position or of earlier ones."""

  def __init__(self, width: int, num_heads: int, *, causal: bool, rngs):
    self.num_heads = num_heads
    self.causal = causal
    self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
    self.out = nnx.Linear(width, width, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    n, length, width = x.shape
    head_size = width // self.num_heads
    qkv = self.qkv(x).reshape(n, length, 3, self.num_heads, head_size)
    query, key, value = (qkv[:, :, i] for i in range(3))
    logits = jnp.einsum("nqhd,nkhd->nhqk", query * head_size**-0.5, key)
    if self.causal:
      mask = jnp.tril(jnp.ones((1, 1, length, length), bool))
      logits = jnp.where(mask, logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(logits.astype(jnp.float32)).astype(x.dtype)
    mixed = jnp.einsum("nhqk,nkhd->nqhd", weights, value)
    return self.out(mixed.reshape(n, length, width))


class _Block(nnx.Module):
  """Attention and an MLP, each after a LayerNorm and beside a shortcut."""

  def __init__(self, width: int, num_heads: int, *, causal: bool, rngs):
    self.norm_0 = nnx.LayerNorm(width, rngs=rngs)
    self.attention = _Attention(width, num_heads, causal=causal, rngs=rngs)
    self.norm_1 = nnx.LayerNorm(width, rngs=rngs)
    self.expand = nnx.Linear(width, _EXPANSION * width, rngs=rngs)
    self.contract = nnx.Linear(_EXPANSION * width, width, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = x + self.attention(self.norm_0(x))
    return x + self.contract(jax.nn.gelu(self.expand(self.norm_1(x))))


class _Trunk(nnx.Module):
  """Adds positions, then runs the blocks and a LayerNorm."""

  def __init__(self, length, width, depth, num_heads, *, causal, rngs):
    shape = (1, length, width)
    self.positions = nnx.Param(_SMALL_NORMAL(rngs.params(), shape))
    self.blocks = nnx.List(
        [
            _Block(width, num_heads, causal=causal, rngs=rngs)
            for _ in range(depth)
        ]
    )
    self.norm = nnx.LayerNorm(width, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = x + self.positions[...]
    for block in self.blocks:
      x = block(x)
    return self.norm(x)


class Decoder(nnx.Module):
  """A causal language model with an output layer of its own (not tied).

  Args:
    num_words: size of the vocabulary.
    length: words of a text, exactly.
    width: features of a position.
    depth: blocks.
    num_heads: of the attention; divides `width`.
    rngs: where the parameters' random keys come from.
  """

  def __init__(
      self,
      *,
      num_words: int,
      length: int,
      width: int,
      depth: int,
      num_heads: int,
      rngs: nnx.Rngs,
  ):
    self.embed = nnx.Embed(num_words, width, rngs=rngs)
    self.trunk = _Trunk(length, width, depth, num_heads, causal=True, rngs=rngs)
    self.head = nnx.Linear(width, num_words, rngs=rngs)

  def __call__(self, words: jax.Array) -> jax.Array:
    """Returns logits [n, length, num_words] of words [n, length]."""
    return self.head(self.trunk(self.embed(words)))


class VisionTransformer(nnx.Module):
  """A ViT whose class token is read by a linear layer.

  Args:
    image_shape: (height, width, channels).
    patch_size: pixels a side of a patch; divides the image's sides.
    width: features of a patch.
    depth: blocks.
    num_heads: of the attention; divides `width`.
    num_classes: logits an image.
    rngs: where the parameters' random keys come from.

  Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words" (arXiv
  2010.11929).
  """

  def __init__(
      self,
      *,
      image_shape: tuple[int, int, int],
      patch_size: int,
      width: int,
      depth: int,
      num_heads: int,
      num_classes: int,
      rngs: nnx.Rngs,
  ):
    size = (patch_size, patch_size)
    self.patches = nnx.Conv(
        image_shape[2], width, size, strides=size, padding="VALID", rngs=rngs
    )
    self.token = nnx.Param(_SMALL_NORMAL(rngs.params(), (1, 1, width)))
    height, breadth = (side // patch_size for side in image_shape[:2])
    length = height * breadth + 1
    self.trunk = _Trunk(
        length, width, depth, num_heads, causal=False, rngs=rngs
    )
    self.head = nnx.Linear(width, num_classes, rngs=rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Returns logits [n, num_classes] of float images [n, h, w, c]."""
    patches = self.patches(images)
    n, height, breadth, width = patches.shape
    patches = patches.reshape(n, height * breadth, width)
    token = jnp.broadcast_to(self.token[...], (n, 1, width))
    x = self.trunk(jnp.concatenate([token, patches], axis=1))
    return self.head(x[:, 0])
