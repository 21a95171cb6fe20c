"""Hawk and Griffin: gated linear recurrences, with local attention between.

Invariant: a causal function of tokens, as `sequences.py` says, in memory that
does not grow with the sequence when it decodes, but for the window of its
attention layers. States are in float32 at least.

>>> from flax import nnx
>>> config = GriffinConfig(vocabulary_size=11, width=8, num_heads=2)
>>> model = Griffin(config, rngs=nnx.Rngs(0))
>>> model(jnp.zeros((1, 4), jnp.int32)).shape
(1, 4, 11)
>>> num_parameters(RECURRENT_GEMMA_2B)
2682862080
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import (
    attention,
    checks,
    recurrences,
    sequence_layers,
    sequences,
)

_KINDS = ("recurrent", "attention")
_CONV_SIZE = 4
_DECAY = 8.0  # c of the paper.
_RING = (0.9, 0.999)
_MOST_SLOPE = 1000.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class GriffinConfig(sequences.SequenceConfig):
  """Options of Griffin; pattern=("recurrent",) makes it Hawk.

  Attributes:
    pattern: Kinds of layers, in turn: "recurrent" and "attention".
    recurrent_width: Features of a recurrent state, r; None for width.
    num_heads: Heads of the attention, and blocks of the recurrent gates.
    hidden_size: Features inside the MLP; None for 3 width.
    window: Positions that an attention layer sees.
  """

  pattern: tuple[str, ...] = ("recurrent", "recurrent", "attention")
  recurrent_width: int | None = None
  num_heads: int = 4
  hidden_size: int | None = None
  window: int = 1024

  def __post_init__(self):
    super().__post_init__()
    for name in ("num_heads", "window"):
      checks.positive_int(name, getattr(self, name))
    for name in ("recurrent_width", "hidden_size"):
      if getattr(self, name) is not None:
        checks.positive_int(name, getattr(self, name))
    if isinstance(self.pattern, str) or not self.pattern:
      raise ValueError(
          f"pattern must be some of {', '.join(_KINDS)}, got {self.pattern!r}."
      )
    for kind in self.pattern:
      checks.one_of("pattern", kind, valid=_KINDS)
    for name, size in (("width", self.width), ("recurrent_width", self.states)):
      if size % self.num_heads:
        raise ValueError(
            f"num_heads must divide {name} = {size}, got {self.num_heads}."
        )
    if self.width // self.num_heads % 4 and "attention" in self.pattern:
      raise ValueError(
          "num_heads must leave heads of a multiple of 4 features of width ="
          f" {self.width}, got {self.num_heads}."
      )
    object.__setattr__(self, "pattern", tuple(self.pattern))

  @property
  def states(self) -> int:
    """Features of a recurrent state."""
    return self.recurrent_width or self.width

  @property
  def size_of_hidden(self) -> int:
    """Features inside the MLP."""
    return self.hidden_size or 3 * self.width


@jax.custom_jvp
def bounded_sqrt(x: jax.Array) -> jax.Array:
  """Returns the square root; its derivative is 1000 at most.

  Args:
    x: Numbers of at least 0.

  Source: the code of De et al. 2024; sqrt alone has an infinite slope at 0.
  """
  return jnp.sqrt(x)


@bounded_sqrt.defjvp
def _bounded_sqrt_jvp(primals, tangents):
  root = jnp.sqrt(primals[0])
  return root, tangents[0] / jnp.maximum(2.0 * root, 1.0 / _MOST_SLOPE)


class _BlockLinear(nnx.Module):
  """A linear map with bias that is block diagonal: one block a head."""

  def __init__(self, width, num_blocks, *, rngs):
    size = width // num_blocks
    init = jax.nn.initializers.normal(size**-0.5)
    shape = (num_blocks, size, size)
    self.kernel = nnx.Param(init(rngs.params(), shape, jnp.float32))
    self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

  def __call__(self, x):
    kernel, bias = (p[...].astype(x.dtype) for p in (self.kernel, self.bias))
    blocks = x.reshape(*x.shape[:-1], *kernel.shape[:2])
    y = jnp.einsum("nthi,hij->nthj", blocks, kernel)
    return y.reshape(x.shape) + bias[None, None]


class RGLRU(nnx.Module):
  """The real-gated linear recurrent unit.

  With r[t] and i[t] sigmoids of block-diagonal maps of the input u:

    log a[t] = -8 r[t] softplus(decay)
    h[t] = a[t] h[t - 1] + sqrt(1 - a[t]^2) i[t] u[t]

  and without the square root at position 0. The first decays have exp(-softplus
  (decay)) uniform on the ring [0.9, 0.999], as in the authors' code (in the
  paper it is a at r = 1 that lies there).

  Args:
    width: Number of features, r.
    num_blocks: Number of blocks of the gates' maps; divides r.
    rngs: Source of the parameters' random keys.

  Source: De et al. 2024 (arXiv 2402.19427), equations 1 to 4, and their code.
  """

  def __init__(self, width: int, *, num_blocks: int, rngs: nnx.Rngs):
    self.input_gate = _BlockLinear(width, num_blocks, rngs=rngs)
    self.recurrence_gate = _BlockLinear(width, num_blocks, rngs=rngs)
    low, high = (x**2 for x in _RING)
    u = jax.random.uniform(rngs.params(), (width,), minval=low, maxval=high)
    self.decay = nnx.Param(jnp.log(jnp.expm1(-0.5 * jnp.log(u))))

  def __call__(
      self, x: jax.Array, positions: jax.Array, state: jax.Array
  ) -> jax.Array:
    """Returns states [n, t, r], in float32 at least.

    Args:
      x: Floats [n, t, r].
      positions: Integers [t].
      state: State before the first of them, [n, r].
    """
    dtype = sequence_layers.statistics_dtype(x.dtype)
    gate_r, gate_i = (
        jax.nn.sigmoid(gate(x).astype(dtype))
        for gate in (self.recurrence_gate, self.input_gate)
    )
    rate = -_DECAY * jax.nn.softplus(self.decay[...].astype(dtype))
    log_a = gate_r * rate[None, None]
    factor = bounded_sqrt(-jnp.expm1(2.0 * log_a))
    first = jnp.expand_dims(positions == 0, (0, 2))
    factor = jnp.where(first, jnp.ones_like(factor), factor)
    inputs = factor * gate_i * x.astype(dtype)
    return recurrences.real_scan(jnp.exp(log_a), inputs, state.astype(dtype))


class _Recurrent(nnx.Module):
  """out(gelu(gate(x)) * rg_lru(conv(inputs(x))))."""

  def __init__(self, config, *, rngs):
    kit = {
        "use_bias": True,
        "compute_dtype": config.compute_dtype,
        "rngs": rngs,
    }
    width, states = config.width, config.states
    self.gate = sequence_layers.linear(width, states, **kit)
    self.inputs = sequence_layers.linear(width, states, **kit)
    self.conv = recurrences.CausalConv(states, size=_CONV_SIZE, rngs=rngs)
    self.rg_lru = RGLRU(states, num_blocks=config.num_heads, rngs=rngs)
    scale = 2.0 / config.num_layers
    self.out = sequence_layers.linear(states, width, init_scale=scale, **kit)

  def __call__(self, x, positions, cache=None) -> tuple[jax.Array, Any]:
    gate, u = jax.nn.gelu(self.gate(x)), self.inputs(x)
    has_cache = cache is not None
    if not has_cache:
      cache = self.init_cache(x.shape[0], 0, u.dtype)
    u, before = self.conv(u, cache["inputs"])
    states = self.rg_lru(u, positions, cache["state"])
    y = self.out(states.astype(gate.dtype) * gate)
    cache = {"state": states[:, -1], "inputs": before} if has_cache else None
    return y, cache

  def init_cache(self, num_sequences, length, dtype):
    del length
    states = self.conv.bias.shape[0]
    wide = sequence_layers.statistics_dtype(dtype)
    return {
        "state": jnp.zeros((num_sequences, states), wide),
        "inputs": jnp.zeros((num_sequences, _CONV_SIZE - 1, states), dtype),
    }


def _attention(config, rngs) -> attention.Attention:
  return attention.Attention(
      config.width,
      num_heads=config.num_heads,
      num_kv_heads=1,
      head_size=config.width // config.num_heads,
      window=config.window,
      rotary_fraction=0.5,
      use_out_bias=True,
      init_scale=2.0 / config.num_layers,
      compute_dtype=config.compute_dtype,
      rngs=rngs,
  )


class _Layer(nnx.Module):
  """x + mixer(norm(x)), then x + mlp(norm(x))."""

  def __init__(self, config, *, kind, rngs):
    self.mixer_norm = sequence_layers.RMSNorm(config.width)
    self.mixer = (
        _Recurrent(config, rngs=rngs)
        if kind == "recurrent"
        else _attention(config, rngs)
    )
    self.mlp_norm = sequence_layers.RMSNorm(config.width)
    self.mlp = sequence_layers.MLP(
        config.width,
        config.size_of_hidden,
        activation="gelu",
        is_gated=True,
        use_bias=True,
        init_scale=2.0 / config.num_layers,
        compute_dtype=config.compute_dtype,
        rngs=rngs,
    )

  def __call__(self, x, positions, cache=None) -> tuple[jax.Array, Any]:
    mixed, cache = self.mixer(self.mixer_norm(x), positions, cache)
    x = x + mixed
    return x + self.mlp(self.mlp_norm(x)), cache

  def init_cache(self, num_sequences, length, dtype):
    return self.mixer.init_cache(num_sequences, length, dtype)


class Griffin(sequences.SequenceModel):
  """Residual layers of gated recurrences and of local attention.

  Args:
    config: Options of the model.
    rngs: Source of the parameters' random keys.

  Source: De et al. 2024, "Griffin" (arXiv 2402.19427), and RecurrentGemma
  (arXiv 2404.07839).
  """

  def __init__(self, config: GriffinConfig, *, rngs: nnx.Rngs):
    def make_layer(index):
      kind = config.pattern[index % len(config.pattern)]
      return _Layer(config, kind=kind, rngs=rngs)

    super().__init__(
        config,
        make_layer=make_layer,
        make_norm=lambda: sequence_layers.RMSNorm(config.width),
        period=len(config.pattern),
        rngs=rngs,
    )


def num_parameters(config: GriffinConfig) -> int:
  """Returns the number of parameters, in closed form.

  With V, w, r, H = num_heads and m = hidden_size: V w of the embedding, 3 m w +
  2 m + w of each MLP, two norms of w a layer and one at the end; a recurrent
  layer has 3 r w + 2 r + w of maps, 5 r of the convolution, and 2 (r^2 / H + r)
  + r of the unit; an attention layer 2 w^2 + 2 w^2 / H + w.

  Args:
    config: Options of Griffin.
  """
  w, r, heads, m = (
      *(config.width, config.states),
      *(config.num_heads, config.size_of_hidden),
  )
  of_kind = {
      "recurrent": 3 * r * w + 2 * r + w + 5 * r + 2 * (r * r // heads + r) + r,
      "attention": 2 * w * w + 2 * w * w // heads + w,
  }
  mlp = 3 * m * w + 2 * m + w
  pattern = config.pattern
  kinds = (pattern[i % len(pattern)] for i in range(config.num_layers))
  layers = sum(of_kind[kind] + mlp + 2 * w for kind in kinds)
  return config.vocabulary_size * w + layers + w


RECURRENT_GEMMA_2B = GriffinConfig(
    vocabulary_size=256_000,
    width=2560,
    num_layers=26,
    num_heads=10,
    window=2048,
    logit_cap=30.0,
    stack_layers=True,
    remat=True,
)
