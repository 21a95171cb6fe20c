"""A loss without its randomness gives the same values for every key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import quiet

_DRAWS = {
    "uniform": lambda key: jax.random.uniform(key, (3,)),
    "normal": lambda key: jax.random.normal(key, (3,)),
    "bernoulli": lambda key: jax.random.bernoulli(key, 0.4, (3,)),
    "bits": lambda key: jax.random.bits(key, (3,)),
    "gamma": lambda key: jax.random.gamma(key, jnp.float32(2.0), (3,)),
    "in a loop": lambda key: jax.lax.map(
        jax.random.uniform, jax.random.split(key, 3)
    ),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("name", _DRAWS)
def test_no_key_changes_a_draw(name):
  draw = _DRAWS[name]
  assert not np.array_equal(draw(jax.random.key(1)), draw(jax.random.key(2)))
  quieted = quiet.without_draws(draw, jax.random.key(0))
  one, other = quieted(jax.random.key(1)), quieted(jax.random.key(2))
  np.testing.assert_array_equal(one, other)
  assert np.all(np.isfinite(one))
