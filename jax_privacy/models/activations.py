"""Activations scaled to keep the variance of a standard normal input.

Invariant: for x ~ N(0, 1), the variance of `scaled(name, x)` is 1 within 0.2%,
so that a network without normalisation neither explodes nor dies with depth.

>>> import jax.numpy as jnp
>>> print(f"{scaled('relu', jnp.float32(1.0)):.4f}")
1.7140
"""

import types
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_privacy.models import checks

# Name -> (function, gain).
_ACTIVATIONS: types.MappingProxyType[
    str, tuple[Callable[[jax.Array], jax.Array], float]
] = types.MappingProxyType(
    {
        "elu": (jax.nn.elu, 1.2716004848480225),
        "gelu": (jax.nn.gelu, 1.7015043497085571),  # The tanh form.
        "relu": (jax.nn.relu, 1.7139588594436646),
        "silu": (jax.nn.silu, 1.7881293296813965),
        "tanh": (jnp.tanh, 1.5939117670059204),
    }
)


def names() -> tuple[str, ...]:
  """Returns the names that `scaled` takes, sorted."""
  return tuple(sorted(_ACTIVATIONS))


def check(name: str) -> str:
  """Returns `name`, or refuses it.

  Args:
    name: Name of an activation.

  Returns:
    The name.

  Raises:
    ValueError: If it is none of `names()`.
  """
  return checks.one_of("activation", name, valid=names())


def plain(name: str, x: jax.Array) -> jax.Array:
  """Returns activation(x), without its gain.

  Args:
    name: One of `names()`.
    x: Floats of any shape.
  """
  return _ACTIVATIONS[name][0](x)


def scaled(name: str, x: jax.Array, *, factor: float = 1.0) -> jax.Array:
  """Returns factor * gain * activation(x).

  Args:
    name: One of `names()`.
    x: Floats of any shape.
    factor: Factor that is folded into the gain, at no further cost.

  Returns:
    An array of the shape and dtype of `x`.

  Source: Brock et al. 2021 (arXiv 2101.08692), section 4; the gains are those
  of their code, which lift the variance to 1.0007 (GELU) to 1.0017 (tanh), as
  integrated numerically: ReLU's is sqrt(2 / (1 - 1 / pi)) = 1.71286 in theory.
  """
  function, gain = _ACTIVATIONS[name]
  return function(x) * (gain * factor)
