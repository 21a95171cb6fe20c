"""The closed form of norms through weight standardisation.

The oracle is autodiff in float64.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import weight_standardisation as ws
from jax_privacy.ghost import standardised

_GAINS = {
    "plain": [0.5, 1.0, -2.0, 3.0, 1.5, -0.3],
    "zeros": [0.0, 1.0, 0.0, -2.0, 1e-9, 0.5],
}
_SIZES = {
    "plain": [1.0] * 6,
    # Norms far below epsilon's root and far above; one of zeros.
    "clamped": [1e-4, 1.0, 0.0, 1e-5, 10.0, 1e-8],
}


def _setting(gain, size, groups=2):
  """kernel, gain and, for one example, x [S, T, D] and z [S, T, P]."""
  rng = np.random.default_rng(24)
  kernel = rng.normal(size=(2, 2, 3, 6)) * np.array(_SIZES[size])
  x, z = rng.normal(size=(groups, 5, 12)), rng.normal(size=(groups, 5, 3))
  return map(jnp.asarray, (kernel, np.array(_GAINS[gain]), x, z))


def _outputs(weight, x):
  """[S, T, D] times a kernel of S x P channels, as [T, S * P]."""
  matrix = weight.reshape(12, 2, 3)
  return jnp.einsum("std,dsp->tsp", x, matrix).reshape(5, 6)


def _closed_form(kernel, gain, x, z, epsilon):
  """As the ghost plan calls it."""
  standardise = functools.partial(ws.standardise_weight, epsilon=epsilon)
  unit = _outputs(standardise(kernel, jnp.ones(6)), x)
  along = jnp.sum(z * jnp.moveaxis(unit.reshape(5, 2, 3), 1, 0), axis=1)
  scaled = z * standardised.amplitude(kernel, gain, epsilon).reshape(2, 1, 3)
  gradient = jnp.einsum("std,stp->sdp", x, scaled)
  return standardised.squared_norms(
      jnp.sum((gradient - jnp.mean(gradient, axis=1, keepdims=True)) ** 2),
      along.ravel(),
      jnp.vdot(jnp.sum(x**2, axis=-1), jnp.sum(z**2, axis=-1)),
      a_s=standardised.amplitude(kernel, gain, epsilon),
      has_norm=ws.channel_scale(kernel, epsilon)[2],
  )


def _by_autodiff(kernel, gain, x, z, epsilon):
  standardise = functools.partial(ws.standardise_weight, epsilon=epsilon)
  output = lambda *params: _outputs(standardise(*params), x)
  pull = jax.vjp(output, kernel, gain)[1]
  grads = pull(jnp.moveaxis(z, 0, 1).reshape(5, 6))
  return [jnp.sum(g**2) for g in grads]


def _check(gain, size, epsilon=1e-4):
  with jax.enable_x64(True):
    args = (*_setting(gain, size), epsilon)
    got = jax.jit(lambda *a: _closed_form(*a))(*args)  # Traced afresh.
    wanted = jax.jit(_by_autodiff)(*args)
    # What rounding may have taken is added: never below, and little above.
    np.testing.assert_allclose(got, wanted, rtol=1e-11)


@pytest.mark.parametrize("gain", list(_GAINS))
@pytest.mark.parametrize("size", list(_SIZES))
def test_standardised(gain, size):
  _check(gain, size)


def test_standardised_with_an_epsilon_above_all():
  _check("plain", "plain", epsilon=1e3)


def test_the_norm_that_is_not_divided_by_is_seen(monkeypatch):
  # As if no kernel were clamped.
  scale = ws.channel_scale
  everywhere = lambda *a: (*scale(*a)[:2], jnp.ones(6, bool))
  monkeypatch.setattr(ws, "channel_scale", everywhere)
  _check("plain", "plain")
  with pytest.raises(AssertionError):
    _check("plain", "clamped")


def test_a_divisor_is_the_gain_unless_that_is_about_zero():
  gain = jnp.array([2.0, -1e-5, 1.1e-6, 1e-8, -1e-8, 0.0, -0.0, 1e-40])
  wanted = np.array([2.0, -1e-5, 1.1e-6, 1.0, 1.0, 1.0, 1.0, 1.0], np.float32)
  np.testing.assert_array_equal(standardised.divisor(gain), wanted)
  assert np.isinf(standardised.divisor(jnp.array([np.inf]))).all()
