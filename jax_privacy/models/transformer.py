"""Decoder-only transformers: Gemma's kind and GPT-2's, by one config.

Invariant: a causal function of tokens, as `sequences.py` says; parameters are
float32, and their number is the closed form of `num_parameters`.

>>> import jax.numpy as jnp
>>> from flax import nnx
>>> config = TransformerConfig(vocabulary_size=11, width=8, num_heads=2)
>>> model = Transformer(config, rngs=nnx.Rngs(0))
>>> model(jnp.zeros((1, 4), jnp.int32)).shape
(1, 4, 11)
>>> num_parameters(PRESETS["gemma_2b"]), num_parameters(PRESETS["gpt2"])
(2506172416, 124439808)
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from jax_privacy.models import attention, checks, sequence_layers, sequences

_NORMS = {"rms": sequence_layers.RMSNorm, "layer": sequence_layers.LayerNorm}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(sequences.SequenceConfig):
  """Options of a transformer; by default of Gemma's kind.

  GPT-2's kind is norm="layer", num_positions=1024, rotary=False,
  is_gated=False, use_bias=True, scale_embedding=False, num_kv_heads=None.

  Attributes:
    num_heads: Number of heads of queries, h.
    num_kv_heads: Number of heads of keys and values, g, which divides h; 1 is
      multi-query attention, None is h.
    head_size: Features of a head, k; None for width / num_heads.
    hidden_size: Features inside the MLP; None for 4 width.
    norm: Name: "rms" (with 1 + scale) or "layer" (with scale and bias).
    activation: Name of the MLP's: "gelu" (tanh form) or "silu".
    is_gated: Whether the MLP has a gate: GeGLU or SwiGLU.
    use_bias: Whether linear maps have biases.
    rotary: Whether queries and keys have rotary positions.
    num_positions: Number of positions with a learned vector; None for none.
    attention_cap: Soft-cap of the attention's scores; None for none.
    windows: Positions that layers see, in turn: (512, None) alternates local
      with global attention, and None sees all before it.
  """

  num_heads: int = 4
  num_kv_heads: int | None = 1
  head_size: int | None = None
  hidden_size: int | None = None
  norm: str = "rms"
  activation: str = "gelu"
  is_gated: bool = True
  use_bias: bool = False
  rotary: bool = True
  num_positions: int | None = None
  attention_cap: float | None = None
  windows: tuple[int | None, ...] = (None,)

  def __post_init__(self):
    super().__post_init__()
    checks.positive_int("num_heads", self.num_heads)
    for name in ("num_kv_heads", "head_size", "hidden_size", "num_positions"):
      if getattr(self, name) is not None:
        checks.positive_int(name, getattr(self, name))
    checks.one_of("norm", self.norm, valid=tuple(_NORMS))
    checks.one_of(
        "activation", self.activation, valid=sequence_layers.ACTIVATIONS
    )
    for name in ("is_gated", "use_bias", "rotary"):
      checks.flag(name, getattr(self, name))
    if self.attention_cap is not None:
      checks.positive("attention_cap", self.attention_cap)
    self._check_heads()
    object.__setattr__(self, "windows", _windows(self.windows))

  def _check_heads(self) -> None:
    """Refuses numbers of heads that do not fit each other."""
    if self.head_size is None and self.width % self.num_heads:
      raise ValueError(
          f"num_heads must divide width = {self.width} where head_size is None,"
          f" got {self.num_heads}."
      )
    if self.num_heads % self.kv_heads:
      raise ValueError(
          f"num_kv_heads must divide num_heads = {self.num_heads}, got"
          f" {self.num_kv_heads}."
      )
    if self.rotary and self.size_of_head % 2:
      raise ValueError(
          f"head_size must be even with rotary, got {self.size_of_head}."
      )

  @property
  def kv_heads(self) -> int:
    """Number of heads of keys and values."""
    return self.num_kv_heads or self.num_heads

  @property
  def size_of_head(self) -> int:
    """Features of a head."""
    return self.head_size or self.width // self.num_heads

  @property
  def size_of_hidden(self) -> int:
    """Features inside the MLP."""
    return self.hidden_size or 4 * self.width


def _windows(windows: Any) -> tuple[int | None, ...]:
  """Returns the windows as a tuple, each checked."""
  if isinstance(windows, str) or not windows:
    raise ValueError(
        f"windows must be positive integers or None, got {windows!r}."
    )
  for window in windows:
    if window is not None:
      checks.positive_int("windows", window)
  return tuple(windows)


class _Layer(nnx.Module):
  """x + attention(norm(x)), then x + mlp(norm(x))."""

  def __init__(self, config, *, window, rngs):
    norm = _NORMS[config.norm]
    # Of the last maps, so that the sum over layers keeps its size.
    init_scale = 0.5 / config.num_layers
    self.attention_norm = norm(config.width)
    self.attention = attention.Attention(
        config.width,
        num_heads=config.num_heads,
        num_kv_heads=config.kv_heads,
        head_size=config.size_of_head,
        window=window,
        rotary_fraction=1.0 if config.rotary else 0.0,
        cap=config.attention_cap,
        use_bias=config.use_bias,
        use_out_bias=config.use_bias,
        init_scale=init_scale,
        compute_dtype=config.compute_dtype,
        rngs=rngs,
    )
    self.mlp_norm = norm(config.width)
    self.mlp = sequence_layers.MLP(
        config.width,
        config.size_of_hidden,
        activation=config.activation,
        is_gated=config.is_gated,
        use_bias=config.use_bias,
        init_scale=init_scale,
        compute_dtype=config.compute_dtype,
        rngs=rngs,
    )

  def __call__(self, x, positions, cache=None) -> tuple[jax.Array, Any]:
    mixed, cache = self.attention(self.attention_norm(x), positions, cache)
    x = x + mixed
    return x + self.mlp(self.mlp_norm(x)), cache

  def init_cache(self, num_sequences, length, dtype):
    return self.attention.init_cache(num_sequences, length, dtype)


class Transformer(sequences.SequenceModel):
  """A decoder-only transformer with norms before each part.

  Args:
    config: Options of the model.
    rngs: Source of the parameters' random keys.

  Source: Gemma (arXiv 2403.08295), Gemma 2 (2408.00118) without its norms
  behind each part, and VaultGemma; Radford et al. 2019 for GPT-2.
  """

  def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
    windows = config.windows

    def make_layer(index):
      window = windows[index % len(windows)]
      return _Layer(config, window=window, rngs=rngs)

    super().__init__(
        config,
        make_layer=make_layer,
        make_norm=lambda: _NORMS[config.norm](config.width),
        period=len(windows),
        num_positions=config.num_positions,
        rngs=rngs,
    )


def num_parameters(config: TransformerConfig) -> int:
  """Returns the number of parameters, in closed form.

  With V, w, h, g, k as in the config and m = hidden_size: V w of the embedding;
  a layer has 2 w k (h + g) of attention, 3 m w of the gated MLP (2 m w without
  a gate) and two norms of w; and one norm is last. Layer norms have 2 w; biases
  add k (h + 2 g) + w and m + w (2 m + w with a gate).

  Args:
    config: Options of a transformer.
  """
  c, w, m = config, config.width, config.size_of_hidden
  queries, keys = (n * c.size_of_head for n in (c.num_heads, c.kv_heads))
  norm = w if c.norm == "rms" else 2 * w
  num_maps = 3 if c.is_gated else 2
  layer = 2 * w * (queries + keys) + num_maps * m * w + 2 * norm
  if c.use_bias:
    layer += queries + 2 * keys + w + (num_maps - 1) * m + w
  rows = c.vocabulary_size + (c.num_positions or 0)
  return rows * w + c.num_layers * layer + norm


PRESETS: Mapping[str, TransformerConfig] = types.MappingProxyType(
    {
        "gemma_2b": TransformerConfig(
            vocabulary_size=256_000,
            width=2048,
            num_layers=18,
            num_heads=8,
            head_size=256,
            hidden_size=16_384,
            stack_layers=True,
            remat=True,
        ),
        "vaultgemma_1b": TransformerConfig(
            vocabulary_size=256_000,
            width=1152,
            num_layers=26,
            num_heads=4,
            head_size=256,
            hidden_size=6912,
            attention_cap=50.0,
            logit_cap=30.0,
            stack_layers=True,
            remat=True,
        ),
        "gpt2": TransformerConfig(
            vocabulary_size=50_257,
            width=768,
            num_layers=12,
            num_heads=12,
            num_kv_heads=None,
            norm="layer",
            is_gated=False,
            use_bias=True,
            rotary=False,
            num_positions=1024,
            scale_embedding=False,
        ),
    }
)
"""Published sizes, by name: Gemma 2B, VaultGemma 1B and GPT-2 (124M)."""
