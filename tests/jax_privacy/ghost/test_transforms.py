"""What may be taken for weight standardisation, and what for an isometry."""

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
