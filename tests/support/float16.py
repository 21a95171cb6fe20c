"""Whether XLA can compile for float16 on this processor.

For some old ones it cannot: it calls functions that convert from and to float16
which it then does not find.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

_MISSING = "Failed to materialize symbols"


@functools.cache
def _reason():
  """Returns why it cannot, or None if it can."""
  try:
    # tanh is computed in float32: it converts both ways.
    jax.jit(jnp.tanh)(jnp.ones(3, "float16")).block_until_ready()
  except jax.errors.JaxRuntimeError as error:
    if _MISSING not in str(error):
      raise
    return f"XLA cannot compile float16 for this processor: {_MISSING}"
  return None


def skip_if_missing(*dtypes):
  """Skips the test that calls it, if it is to compile for float16 in vain."""
  if jnp.float16 in map(jnp.dtype, dtypes) and _reason():
    pytest.skip(_reason())
