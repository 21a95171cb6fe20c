"""The linear recurrent unit: complex, diagonal, stable by construction.

Invariant: a causal function of tokens, as `sequences.py` says, whose factors
are within the unit circle for every value of the parameters. Complex numbers
are pairs of real ones, and states are in float32 at least.

>>> from flax import nnx
>>> config = LRUConfig(vocabulary_size=11, width=8, state_size=6)
>>> model = LRU(config, rngs=nnx.Rngs(0))
>>> model(jnp.zeros((1, 4), jnp.int32)).shape
(1, 4, 11)
>>> num_parameters(config)
848
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks, recurrences, sequence_layers, sequences

_LEAST = 1e-6  # Of uniform draws, whose logarithm is taken.


@dataclasses.dataclass(frozen=True, kw_only=True)
class LRUConfig(sequences.SequenceConfig):
  """Options of the LRU.

  Attributes:
    state_size: Number of complex states of a layer, s; None for width.
    r_min: Least modulus of a factor at first.
    r_max: Largest modulus of a factor at first.
    max_phase: Largest phase of a factor at first, in radians.
  """

  state_size: int | None = None
  r_min: float = 0.0
  r_max: float = 0.99
  max_phase: float = 2.0 * math.pi

  def __post_init__(self):
    super().__post_init__()
    if self.state_size is not None:
      checks.positive_int("state_size", self.state_size)
    checks.rate("r_min", self.r_min)
    if not self.r_min < checks.finite("r_max", self.r_max) <= 1.0:
      raise ValueError(
          f"r_max must be in (r_min, 1] = ({self.r_min}, 1], got {self.r_max}."
      )
    checks.positive("max_phase", self.max_phase)

  @property
  def states(self) -> int:
    """Number of complex states of a layer."""
    return self.state_size or self.width


class _Unit(nnx.Module):
  """y = Re(C h) + D u with h[t] = lambda h[t - 1] + gamma B u[t].

  lambda = exp(-exp(nu) + i exp(theta)) and gamma = sqrt(1 - |lambda|^2), which
  keeps the states' variance; the paper trains gamma too, from this start.
  """

  def __init__(self, config, *, rngs):
    kit = {"compute_dtype": config.compute_dtype, "rngs": rngs}
    width, states = config.width, config.states

    def draw():
      return jax.random.uniform(rngs.params(), (states,), minval=_LEAST)

    low, high = config.r_min**2, config.r_max**2
    square = low + (high - low) * draw()
    self.nu = nnx.Param(jnp.log(-0.5 * jnp.log(square)))
    self.theta = nnx.Param(jnp.log(config.max_phase * draw()))
    make = sequence_layers.linear
    self.in_re = make(width, states, init_scale=0.5, **kit)
    self.in_im = make(width, states, init_scale=0.5, **kit)
    self.out_re = make(states, width, **kit)
    self.out_im = make(states, width, **kit)
    init = jax.nn.initializers.normal(1.0)
    self.skip = nnx.Param(init(rngs.params(), (width,), jnp.float32))

  def __call__(self, x, state) -> tuple[jax.Array, recurrences.Complex]:
    dtype = sequence_layers.statistics_dtype(x.dtype)
    nu, theta = (p[...].astype(dtype) for p in (self.nu, self.theta))
    modulus, phase = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
    factor = recurrences.Complex(
        modulus * jnp.cos(phase), modulus * jnp.sin(phase)
    )
    gamma = jnp.sqrt(-jnp.expm1(-2.0 * jnp.exp(nu)))[None, None]
    inputs = recurrences.Complex(
        *(f(x).astype(dtype) * gamma for f in (self.in_re, self.in_im))
    )
    states = recurrences.complex_scan(factor, inputs, state)
    y = self.out_re(states.re.astype(x.dtype))
    y = y - self.out_im(states.im.astype(x.dtype))
    return y + x * self.skip[...].astype(x.dtype)[None, None], states


class _Layer(nnx.Module):
  """x + glu(gelu(lru(norm(x)))), with glu(y) = value(y) sigmoid(gate(y))."""

  def __init__(self, config, *, rngs):
    kit = {
        "use_bias": True,
        "compute_dtype": config.compute_dtype,
        "rngs": rngs,
    }
    width = config.width
    self.norm = sequence_layers.LayerNorm(width)
    self.lru = _Unit(config, rngs=rngs)
    self.value = sequence_layers.linear(width, width, **kit)
    self.gate = sequence_layers.linear(width, width, **kit)

  def __call__(self, x, positions, cache=None) -> tuple[jax.Array, Any]:
    del positions
    state = cache
    if cache is None:
      state = self.init_cache(x.shape[0], 0, x.dtype)
    y, states = self.lru(self.norm(x), state)
    y = jax.nn.gelu(y)
    x = x + self.value(y) * jax.nn.sigmoid(self.gate(y))
    if cache is None:
      return x, None
    return x, recurrences.Complex(states.re[:, -1], states.im[:, -1])

  def init_cache(self, num_sequences, length, dtype):
    del length
    shape = (num_sequences, self.lru.nu.shape[0])
    zeros = jnp.zeros(shape, sequence_layers.statistics_dtype(dtype))
    return recurrences.Complex(zeros, zeros)


class LRU(sequences.SequenceModel):
  """Residual layers of linear recurrent units.

  Args:
    config: Options of the model.
    rngs: Source of the parameters' random keys.

  Source: Orvieto et al. 2023, "Resurrecting recurrent neural networks for long
  sequences" (arXiv 2303.06349).
  """

  def __init__(self, config: LRUConfig, *, rngs: nnx.Rngs):
    super().__init__(
        config,
        make_layer=lambda index: _Layer(config, rngs=rngs),
        make_norm=lambda: sequence_layers.LayerNorm(config.width),
        rngs=rngs,
    )


def num_parameters(config: LRUConfig) -> int:
  """Returns the number of parameters, in closed form.

  With V, w and s as in the config: V w of the embedding; a layer has 2 s of
  factors, 4 s w of maps, w of the skip, 2 (w^2 + w) of the gated unit and 2 w
  of its norm; and the last norm has 2 w.

  Args:
    config: Options of the LRU.
  """
  w, s = config.width, config.states
  layer = 2 * s + 4 * s * w + w + 2 * (w * w + w) + 2 * w
  return config.vocabulary_size * w + config.num_layers * layer + 2 * w
