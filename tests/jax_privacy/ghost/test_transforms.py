"""Weight standardisation's closed norm, and what may be taken for what.

The norms' oracle is `jax.vjp` of `standardise_weight` in float64.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import weight_standardisation as ws
from jax_privacy.ghost import transforms

_KERNEL, _GAIN = jnp.ones((3, 3, 2, 4)), jnp.ones(4)


def _named(fun):
  fun.__name__ = ws.scaled_weight_standardisation.__name__
  return jax.jit(fun)


def _equation(fun, *args):
  (eqn,) = jax.make_jaxpr(fun)(*args).jaxpr.eqns
  return eqn


@pytest.mark.parametrize("shape", [(3, 3, 2, 4), (2, 4), (4,)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_function_of_the_library_is_found(shape, dtype):
  args = jnp.ones(shape, dtype), jnp.ones(4, dtype)
  standardise = functools.partial(ws.standardise_weight, epsilon=0.1)
  for fun in (ws.standardise_weight, standardise):
    assert transforms.find(_equation(fun, *args)) == "weight_standardisation"


def _slightly_larger(kernel, gain, epsilon):
  centred, scale, _ = ws.channel_scale(kernel, epsilon)
  scale = jnp.expand_dims(1.0001 * scale * gain, tuple(range(kernel.ndim - 1)))
  return centred * scale


def _not_centred(kernel, gain, epsilon):
  scale = ws.channel_scale(kernel, epsilon)[1] * gain
  scale = jnp.expand_dims(scale, tuple(range(kernel.ndim - 1)))
  return (kernel * scale).astype(kernel.dtype)


@pytest.mark.parametrize("fun", [_slightly_larger, _not_centred])
def test_another_function_of_that_name_is_not(fun):
  eqn = _equation(_named(fun), _KERNEL, _GAIN, jnp.float32(1e-4))
  assert eqn.params["name"] == "scaled_weight_standardisation"
  assert transforms.find(eqn) is None


def test_its_formula_under_another_name_is_not():
  other = jax.jit(lambda *args: ws.scaled_weight_standardisation(*args))
  eqn = _equation(other, _KERNEL, _GAIN, jnp.float32(1e-4))
  assert transforms.find(eqn) is None


@pytest.mark.parametrize(
    "args",
    [
        (_KERNEL,),
        (_KERNEL, _GAIN),
        (_KERNEL, _GAIN, 1e-4, 1e-4),
        (_KERNEL, jnp.ones(5), 1e-4),
        (_KERNEL.astype("int32"), _GAIN, 1e-4),
    ],
)
def test_another_signature_under_that_name_is_not(args):
  fun = _named(lambda *args: jnp.sum(args[0]))
  (eqn,) = (
      e for e in jax.make_jaxpr(fun)(*args).jaxpr.eqns if "name" in e.params
  )
  assert transforms.find(eqn) is None


_X = jnp.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "fun, is_isometry",
    [
        (lambda x: x.reshape(6, 4), True),
        (lambda x: jax.lax.transpose(x, (2, 0, 1)), True),
        (lambda x: jax.lax.rev(x, (1,)), True),
        (lambda x: jax.lax.neg(x), True),
        (lambda x: jax.lax.expand_dims(x, (0, 2)), True),
        (lambda x: jax.lax.squeeze(x[:1], (0,)), True),
        (lambda x: jax.lax.broadcast_in_dim(x, (1, 2, 3, 4), (1, 2, 3)), True),
        (lambda x: jax.lax.broadcast_in_dim(x, (5, 2, 3, 4), (1, 2, 3)), False),
        (lambda x: jax.lax.convert_element_type(x, "bfloat16"), True),
        (lambda x: jax.lax.convert_element_type(x, "int32"), False),
        (lambda x: jax.lax.convert_element_type(x, "complex64"), False),
        (lambda x: x * 2.0, False),
        (lambda x: jax.lax.cumsum(x), False),
        (lambda x: jnp.tanh(x), False),
    ],
)
def test_isometries(fun, is_isometry):
  eqn = jax.make_jaxpr(fun)(_X).jaxpr.eqns[-1]
  assert transforms.is_isometry(eqn) == is_isometry
  if is_isometry and eqn.primitive.name != "squeeze":
    like = jax.eval_shape(fun, _X)
    cotangent = jnp.arange(24).reshape(like.shape).astype(like.dtype)
    (pulled,) = jax.vjp(fun, _X)[1](cotangent)
    # Integers below 256 are exact in bfloat16.
    wanted = np.sum(np.arange(24.0) ** 2)
    np.testing.assert_allclose(jnp.sum(jnp.square(pulled)), wanted)


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
  scaled = z * transforms.amplitude(kernel, gain, epsilon).reshape(2, 1, 3)
  gradient = jnp.einsum("std,stp->sdp", x, scaled)
  return transforms.standardised(
      jnp.sum((gradient - jnp.mean(gradient, axis=1, keepdims=True)) ** 2),
      along.ravel(),
      jnp.vdot(jnp.sum(x**2, axis=-1), jnp.sum(z**2, axis=-1)),
      kernel,
      gain,
      epsilon,
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
  np.testing.assert_array_equal(transforms.divisor(gain), wanted)
  assert np.isinf(transforms.divisor(jnp.array([np.inf]))).all()
