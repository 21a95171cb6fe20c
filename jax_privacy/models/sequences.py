"""What models of sequences share: embedding, layers, head, cache, stacks.

Invariant: a model is causal. The logits of a position depend on the tokens up
to it, of its own sequence, and on nothing else: neither on tokens behind it nor
on other sequences. Layers unrolled, stacked under `jax.lax.scan`, and cached
decoding are three ways to the same function.

>>> from flax import nnx
>>> from jax_privacy import models
>>> model = models.build("transformer", rngs=nnx.Rngs(0), vocabulary_size=5)
>>> model(jnp.zeros((2, 3), jnp.int32)).shape  # Logits of the next token.
(2, 3, 5)
>>> logits, cache = model.decode(jnp.zeros((2, 1), int), model.init_cache(2, 8))
>>> int(cache["position"])
1
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import attention, checks, sequence_layers

_DTYPES = ("bfloat16", "float32")
_MAX_VOCABULARY = 2**24


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceConfig:
  """Options that every model of sequences has.

  Attributes:
    vocabulary_size: Number of tokens, V.
    width: Features of a position, w.
    num_layers: Number of layers.
    scale_embedding: Whether embedded tokens are multiplied by sqrt(width).
    logit_cap: Soft-cap of the logits; None for none.
    stack_layers: Whether layers are one `jax.lax.scan` over stacked
      parameters, which compiles once for all of them.
    remat: Whether a layer's inner values are computed again in the backward
      pass, by `jax.checkpoint`, and not kept.
    compute_dtype: Name of the dtype of matrix products, "float32" or
      "bfloat16"; None for the parameters' own. Norms, softmax, recurrent states
      and logits are in float32 at least.
  """

  vocabulary_size: int
  width: int = 64
  num_layers: int = 2
  scale_embedding: bool = True
  logit_cap: float | None = None
  stack_layers: bool = False
  remat: bool = False
  compute_dtype: str | None = None

  def __post_init__(self):
    for name in ("vocabulary_size", "width", "num_layers"):
      checks.positive_int(name, getattr(self, name))
    if self.vocabulary_size > _MAX_VOCABULARY:
      raise ValueError(
          f"vocabulary_size must be at most {_MAX_VOCABULARY}, got"
          f" {self.vocabulary_size}."
      )
    for name in ("scale_embedding", "stack_layers", "remat"):
      checks.flag(name, getattr(self, name))
    if self.logit_cap is not None:
      checks.positive("logit_cap", self.logit_cap)
    if self.compute_dtype is not None:
      checks.one_of("compute_dtype", self.compute_dtype, valid=_DTYPES)


class SequenceModel(nnx.Module):
  """Embedding, layers, norm, and logits by the embedding's table.

  A layer is called with (x, positions, cache), and returns (x, cache); it has
  `init_cache`, see `Attention`.

  Args:
    config: Options of the model.
    make_layer: Function of a layer's index that returns the layer; layers i and
      i + period have parameters of the same shapes.
    make_norm: Function that returns the last norm.
    period: Number of layers after which their kinds repeat.
    num_positions: Number of positions with a learned vector each; None for no
      such vectors.
    rngs: Source of the parameters' random keys.
  """

  def __init__(
      self,
      config: SequenceConfig,
      *,
      make_layer: Callable[[int], nnx.Module],
      make_norm: Callable[[], nnx.Module],
      period: int = 1,
      num_positions: int | None = None,
      rngs: nnx.Rngs,
  ):
    self.config = config
    self.period = min(period, config.num_layers)
    self.num_positions = num_positions
    self.embedding = sequence_layers.Embedding(
        config.vocabulary_size,
        config.width,
        is_scaled=config.scale_embedding,
        compute_dtype=config.compute_dtype,
        rngs=rngs,
    )
    if num_positions is not None:
      init = jax.nn.initializers.normal(0.02)
      shape = (num_positions, config.width)
      self.positions = nnx.Param(init(rngs.params(), shape, jnp.float32))
    layers = [make_layer(i) for i in range(config.num_layers)]
    num_stacked = 0
    if config.stack_layers:
      num_stacked = len(layers) - len(layers) % self.period
      self.stacked = nnx.List(
          [
              _stack(layers[i : num_stacked : self.period])
              for i in range(self.period)
          ]
      )
    if num_stacked < len(layers):
      self.layers = nnx.List(layers[num_stacked:])
    self.norm = make_norm()

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Returns the logits of the next token.

    Args:
      tokens: Integers [n, t] in [0, vocabulary_size).

    Returns:
      Floats [n, t, vocabulary_size]; those of position i are of token i + 1.

    Raises:
      ValueError: If the tokens are of another shape, no integers, or more than
        the model has positions.
    """
    self._check(tokens)
    positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)
    x = self._embed(tokens, positions)
    if self.config.stack_layers:
      x = self._scan(x, positions)
    for layer in getattr(self, "layers", ()):
      x = self._apply(layer, x, positions)
    return self._logits(x)

  def init_cache(self, num_sequences: int, length: int) -> dict[str, Any]:
    """Returns the cache of sequences that have no token yet.

    Args:
      num_sequences: Number of sequences, n.
      length: Number of tokens that there may be.

    Raises:
      ValueError: If a number is not positive, or the model has fewer positions.
    """
    checks.positive_int("num_sequences", num_sequences)
    checks.positive_int("length", length)
    self._check_length(length)
    table = self.embedding.embedding
    dtype = jnp.dtype(self.config.compute_dtype or table.dtype)
    layers = [
        self._layer(i).init_cache(num_sequences, length, dtype)
        for i in range(self.config.num_layers)
    ]
    return {
        "position": jnp.zeros((), jnp.int32),
        "length": jnp.full((), length, jnp.int32),
        "layers": layers,
    }

  def decode(
      self, tokens: jax.Array, cache: dict[str, Any]
  ) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the logits of the next token, given the tokens before.

    Args:
      tokens: Integers [n, t]: those that follow what the cache has seen.
      cache: Cache of `init_cache`, or of the call before.

    Returns:
      (floats [n, t, vocabulary_size], the cache with these tokens). Logits are
      NaN once there are more tokens than the cache has room for.

    Raises:
      ValueError: If the tokens are of another shape, or no integers.
    """
    self._check(tokens)
    start, num_tokens = cache["position"], tokens.shape[1]
    positions = start + jnp.arange(num_tokens, dtype=jnp.int32)
    x, layers = self._embed(tokens, positions), []
    for i, of_layer in enumerate(cache["layers"]):
      x, of_layer = self._layer(i)(x, positions, of_layer)
      layers.append(of_layer)
    logits = self._logits(x)
    fits = start + num_tokens <= cache["length"]
    logits = jnp.where(fits, logits, jnp.full_like(logits, jnp.nan))
    return logits, cache | {"position": start + num_tokens, "layers": layers}

  def _check(self, tokens: jax.Array) -> None:
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
      raise ValueError(
          "tokens must be integers of shape [n, t], got"
          f" {tokens.dtype} {list(tokens.shape)}."
      )
    self._check_length(tokens.shape[1])

  def _check_length(self, length: int) -> None:
    if self.num_positions is not None and length > self.num_positions:
      raise ValueError(
          "tokens must be at most as many as the model's positions,"
          f" {self.num_positions}, got {length}."
      )

  def _embed(self, tokens, positions) -> jax.Array:
    x = self.embedding(tokens)
    if self.num_positions is not None:
      x = x + jnp.take(self.positions[...], positions, axis=0)[None].astype(
          x.dtype
      )
    return x

  def _logits(self, x) -> jax.Array:
    logits = self.embedding.logits(self.norm(x))
    return attention.soft_cap(logits, self.config.logit_cap)

  def _apply(self, layer, x, positions) -> jax.Array:
    if not self.config.remat:
      return layer(x, positions)[0]
    graph, state = nnx.split(layer)
    apply = jax.checkpoint(lambda s, x: nnx.merge(graph, s)(x, positions)[0])
    return apply(state, x)

  def _scan(self, x, positions) -> jax.Array:
    graph, state = nnx.split(self.stacked)

    def body(x, state):
      for layer in nnx.merge(graph, state):
        x, _ = layer(x, positions)
      return x, None

    body = jax.checkpoint(body) if self.config.remat else body
    return jax.lax.scan(body, x, state)[0]

  def _layer(self, index: int) -> Any:
    """Returns one layer, with parameters of its own."""
    if not self.config.stack_layers:
      return self.layers[index]
    num_groups = self.config.num_layers // self.period
    group, slot = divmod(index, self.period)
    if group == num_groups:
      return self.layers[slot]
    graph, state = nnx.split(self.stacked[slot])
    return nnx.merge(graph, jax.tree.map(lambda p: p[group], state))


def stack_params(params: Any, *, period: int = 1) -> dict[str, Any]:
  """Returns parameters of unrolled layers as those of stacked ones.

  Args:
    params: Nested dicts of `models.functional`, of a model with
      `stack_layers=False`.
    period: Number of layers after which their kinds repeat: 1 for a transformer
      whose layers are all alike.

  Returns:
    Nested dicts for the same model with `stack_layers=True`.
  """
  layers = [params["layers"][str(i)] for i in range(len(params["layers"]))]
  others = {k: v for k, v in params.items() if k != "layers"}
  num_stacked = len(layers) - len(layers) % period
  stacked = {
      str(i): jax.tree.map(
          lambda *leaves: jnp.stack(leaves), *layers[i:num_stacked:period]
      )
      for i in range(period)
  }
  rest = {str(i): v for i, v in enumerate(layers[num_stacked:])}
  return others | {"stacked": stacked} | ({"layers": rest} if rest else {})


def _stack(layers: list[nnx.Module]) -> nnx.Module:
  """Returns one module whose parameters have the layers as a first axis."""
  graph = nnx.split(layers[0])[0]
  states = [nnx.split(layer)[1] for layer in layers]
  return nnx.merge(
      graph, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
  )
