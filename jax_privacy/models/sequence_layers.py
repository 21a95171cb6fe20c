"""Layers of sequence models: norms, embedding, MLP.

Invariant: a layer acts on each position by itself. Norms take their statistics
in float32 at least, and return the dtype of their input. A matrix product is in
`compute_dtype`; None is the dtype of the parameters.

>>> from flax import nnx
>>> mlp = MLP(8, 16, activation="gelu", is_gated=True, rngs=nnx.Rngs(0))
>>> RMSNorm(8)(mlp(jnp.ones((2, 3, 8)))).shape
(2, 3, 8)
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks

_ACTIVATIONS = {"gelu": jax.nn.gelu, "silu": jax.nn.silu}  # The tanh form.
ACTIVATIONS = tuple(_ACTIVATIONS)
_NORMAL = jax.nn.initializers.normal


def statistics_dtype(dtype: jnp.dtype) -> jnp.dtype:
  """Returns the dtype for sums: `dtype`, but float32 at least.

  Args:
    dtype: A dtype of floats.
  """
  return jnp.dtype(dtype if jnp.finfo(dtype).bits > 32 else jnp.float32)


def linear(
    in_features: int,
    out_features: int,
    *,
    use_bias: bool = False,
    init_scale: float = 1.0,
    compute_dtype: str | None = None,
    rngs: nnx.Rngs,
) -> nnx.Linear:
  """Returns a linear layer whose weights have variance init_scale / inputs.

  Args:
    in_features: Features of the input.
    out_features: Features of the output.
    use_bias: Whether there is a bias, 0 at first.
    init_scale: Factor of the variance of the first weights.
    compute_dtype: Name of the dtype of the product; None for the parameters'.
    rngs: Source of the weights' random key.
  """
  init = jax.nn.initializers.variance_scaling(init_scale, "fan_in", "normal")
  return nnx.Linear(
      in_features,
      out_features,
      use_bias=use_bias,
      kernel_init=init,
      dtype=compute_dtype,
      rngs=rngs,
  )


class RMSNorm(nnx.Module):
  """Divides by the root of the mean square, and multiplies by 1 + scale.

  Args:
    width: Number of features.
    epsilon: Constant that is added to the mean square.

  Source: Zhang and Sennrich 2019 (arXiv 1910.07467); 1 + scale is Gemma's.
  """

  def __init__(self, width: int, *, epsilon: float = 1e-6):
    self.epsilon = checks.positive("epsilon", epsilon)
    self.scale = nnx.Param(jnp.zeros(width, jnp.float32))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `x`, [..., width], normalised, in the same dtype."""
    dtype = statistics_dtype(x.dtype)
    values = x.astype(dtype)
    square = jnp.mean(jnp.square(values), axis=-1, keepdims=True)
    scale = 1.0 + self.scale[...].astype(dtype)
    scale = jnp.expand_dims(scale, tuple(range(x.ndim - 1)))
    return (values * jax.lax.rsqrt(square + self.epsilon) * scale).astype(
        x.dtype
    )


class LayerNorm(nnx.Module):
  """Normalises the features of each position, then scales and shifts them.

  Args:
    width: Number of features.
    epsilon: Constant that is added to the variance.

  Source: Ba et al. 2016 (arXiv 1607.06450).
  """

  def __init__(self, width: int, *, epsilon: float = 1e-5):
    self.epsilon = checks.positive("epsilon", epsilon)
    self.scale = nnx.Param(jnp.ones(width, jnp.float32))
    self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns `x`, [..., width], normalised, in the same dtype."""
    dtype = statistics_dtype(x.dtype)
    values = x.astype(dtype)
    values -= jnp.mean(values, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(values), axis=-1, keepdims=True)
    scale, bias = (
        jnp.expand_dims(p[...].astype(dtype), tuple(range(x.ndim - 1)))
        for p in (self.scale, self.bias)
    )
    values = values * jax.lax.rsqrt(variance + self.epsilon)
    return (values * scale + bias).astype(x.dtype)


class Embedding(nnx.Module):
  """A vector for each token; the same table may give the logits.

  Args:
    vocabulary_size: Number of tokens.
    width: Number of features.
    is_scaled: Whether vectors are multiplied by sqrt(width). The first entries
      have variance 1 / width if so, and 0.02^2 if not.
    compute_dtype: Name of the dtype of what is returned; None for the table's.
    rngs: Source of the table's random key.
  """

  def __init__(
      self,
      vocabulary_size: int,
      width: int,
      *,
      is_scaled: bool,
      compute_dtype: str | None = None,
      rngs: nnx.Rngs,
  ):
    self.factor = math.sqrt(width) if is_scaled else 1.0
    self.compute_dtype = compute_dtype
    init = _NORMAL(width**-0.5 if is_scaled else 0.02)
    self.embedding = nnx.Param(
        init(rngs.params(), (vocabulary_size, width), jnp.float32)
    )

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Returns the vectors [n, t, width] of tokens [n, t]."""
    vectors = jnp.take(self._table(), tokens, axis=0)
    return vectors if self.factor == 1.0 else vectors * self.factor

  def logits(self, x: jax.Array) -> jax.Array:
    """Returns products with each token's vector, in float32 at least.

    Args:
      x: Floats [..., width].
    """
    return jax.lax.dot_general(
        x,
        self._table().astype(x.dtype),
        (((x.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=statistics_dtype(x.dtype),
    )

  def _table(self) -> jax.Array:
    table = self.embedding[...]
    return table.astype(self.compute_dtype or table.dtype)


class MLP(nnx.Module):
  """down(activation(gate(x)) * up(x)), or without the gate down(act(up(x))).

  With w = width and h = hidden_size it has (3 if gated, else 2) w h weights;
  with biases w more, and h more for each map but the last.

  Args:
    width: Features of input and output.
    hidden_size: Features between.
    activation: Name: "gelu" or "silu"; with a gate, GeGLU and SwiGLU.
    is_gated: Whether there is a gate.
    use_bias: Whether the maps have biases.
    init_scale: Factor of the variance of the last map's first weights.
    compute_dtype: Name of the dtype of the products; None for the parameters'.
    rngs: Source of the parameters' random keys.

  Source: Shazeer 2020, "GLU variants improve transformer" (arXiv 2002.05202).
  """

  def __init__(
      self,
      width: int,
      hidden_size: int,
      *,
      activation: str,
      is_gated: bool,
      use_bias: bool = False,
      init_scale: float = 1.0,
      compute_dtype: str | None = None,
      rngs: nnx.Rngs,
  ):
    self.activation = checks.one_of("activation", activation, valid=ACTIVATIONS)
    kit = {"use_bias": use_bias, "compute_dtype": compute_dtype, "rngs": rngs}
    self.gate = linear(width, hidden_size, **kit) if is_gated else None
    self.up = linear(width, hidden_size, **kit)
    self.down = linear(hidden_size, width, init_scale=init_scale, **kit)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns features [..., width] of `x`, [..., width]."""
    activate = _ACTIVATIONS[self.activation]
    if self.gate is None:
      return self.down(activate(self.up(x)))
    return self.down(activate(self.gate(x)) * self.up(x))
