"""Scaled activations: the variance they keep, by quadrature."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.models import activations


@pytest.mark.parametrize("name", activations.names())
def test_variance_of_a_standard_normal_input_is_kept(name):
  # A sum over a fine grid: the tails beyond 9 deviations weigh 1e-18.
  x = np.linspace(-9.0, 9.0, 20_001)
  weights = np.exp(-(x**2) / 2) / np.sum(np.exp(-(x**2) / 2))
  y = np.asarray(activations.scaled(name, jnp.asarray(x, jnp.float32)))
  mean = np.sum(weights * y)
  np.testing.assert_allclose(np.sum(weights * (y - mean) ** 2), 1, atol=0.002)


def test_factor_multiplies_and_the_dtype_stays():
  x = jnp.array([-1.0, 0.0, 2.0], jnp.bfloat16)
  y = activations.scaled("relu", x, factor=0.5)
  assert y.dtype == jnp.bfloat16
  want = np.array([0.0, 0.0, 1.7139588594436646])
  # One rounding of the gain and one of the product, 2^-9 each.
  np.testing.assert_allclose(y.astype(jnp.float32), want, rtol=2**-8)


@pytest.mark.parametrize("name", ["ReLU", "", None, 1, ["relu"]])
def test_an_unknown_name_is_refused(name):
  with pytest.raises(ValueError, match="activation must be one of elu, gelu"):
    activations.check(name)
