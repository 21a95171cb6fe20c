"""Losses of one number, against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import regression_losses

_TARGETS = np.array([0.0, 1.0, 3.5], np.float32)


@pytest.mark.parametrize("name", regression_losses.NAMES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_slopes_are_closed_forms(name, dtype):
  loss_fn = regression_losses.build(name)
  for target in _TARGETS:
    f = jnp.asarray(0.5, dtype)
    loss, slope = jax.value_and_grad(loss_fn)(f, jnp.float32(target))
    wanted = {
        "squared": ((0.5 - target) ** 2 / 2, 0.5 - target),
        "absolute": (abs(0.5 - target), np.sign(0.5 - target)),
        "poisson": (np.exp(0.5) - target * 0.5, np.exp(0.5) - target),
    }[name]
    assert loss.dtype == jnp.float32 and slope.dtype == dtype
    # bfloat16 has 8 bits: a rounding of 2^-9 of the slope.
    np.testing.assert_allclose(loss, wanted[0], rtol=1e-6)
    np.testing.assert_allclose(float(slope), wanted[1], rtol=2.0**-8)


def test_unknown_names_and_batches_are_refused():
  with pytest.raises(
      ValueError, match="one of absolute, poisson, squared, got"
  ):
    regression_losses.build("huber")
  loss_fn = regression_losses.build("squared")
  with pytest.raises(AssertionError, match="rank"):
    loss_fn(jnp.zeros(2), jnp.zeros(2))
