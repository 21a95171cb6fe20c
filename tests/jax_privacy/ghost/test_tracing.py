"""Flat jaxprs: what is opened, what stays whole, and the bits they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import weight_standardisation
from jax_privacy.ghost import tracing
from tests.support import zoo

_W, _X = jnp.ones((3, 3)), jnp.ones((4, 3))


def _trace(fun):
  loss = lambda leaves, rows: (fun(*leaves, *rows), [])
  return tracing.trace(loss, [_W], [_X]).closed


def _names(fun):
  return [eqn.primitive.name for eqn in _trace(fun).jaxpr.eqns]


_sine = jax.checkpoint(lambda x: jnp.sin(x))
_dense = jax.checkpoint(lambda x, w: jnp.sin(x @ w))


def _nested(w, x):
  return jax.jit(lambda v: jnp.sum(jax.jit(jnp.matmul)(x, v)))(w)


@pytest.mark.parametrize(
    "fun, names",
    [
        (
            _nested,
            ["dot_general", "reduce_sum"],
        ),
        # A checkpointed region keeps the memory it saves if no parameter is
        # in it, directly or behind an equation.
        (
            lambda w, x: jnp.sum(_sine(x) @ w),
            ["remat2", "dot_general", "reduce_sum"],
        ),
        (
            lambda w, x: jnp.sum(_dense(x, w)),
            ["dot_general", "sin", "reduce_sum"],
        ),
        (
            lambda w, x: jnp.sum(_sine(x @ w)),
            ["dot_general", "sin", "reduce_sum"],
        ),
        # Calls inside of one that is opened, with no parameter in them.
        (
            lambda w, x: jax.jit(lambda v: jnp.sum(_sine(x) @ v))(w),
            ["remat2", "dot_general", "reduce_sum"],
        ),
        (
            lambda w, x: jnp.sum(jax.nn.relu(x @ w)),
            ["dot_general", "custom_jvp_call", "reduce_sum"],
        ),
    ],
)
def test_calls(fun, names):
  found = _names(fun)
  # JAX has had two names for it.
  assert ["remat2" if n == "checkpoint" else n for n in found] == names


def test_weight_standardisation_stays_whole():
  def fun(w, x):
    weight = weight_standardisation.standardise_weight(w, jnp.ones(3))
    return jnp.sum(jax.jit(jnp.matmul)(x, weight))

  kept = [n for n in _names(fun) if n in ("jit", "pjit")]
  assert len(kept) == 1
  assert _names(fun)[-2:] == ["dot_general", "reduce_sum"]


_TABLE = np.arange(12.0, dtype=np.float32).reshape(4, 3)


def _two_outputs(w, x):
  inner = jax.jit(lambda a, b: (a @ b, _TABLE * a, 2.0))
  y, z, two = inner(x, w)
  return zoo.readout(y / (1.0 + z**2)) * two


def _loop(w, x):
  step = lambda h, row: jax.jit(lambda a: (jnp.tanh(a @ w + row[None]), None))(
      h
  )
  return zoo.readout(jax.lax.scan(step, x[:1], x)[0])


@pytest.mark.parametrize(
    "fun",
    [
        _two_outputs,
        _loop,
        lambda w, x: zoo.readout(_dense(_sine(x), w) + _TABLE),
        lambda w, x: zoo.readout(jax.nn.gelu(jax.nn.softmax(x @ w) @ w)),
        lambda w, x: zoo.readout(
            jnp.matmul(x, w, preferred_element_type="bfloat16").astype(
                "float32"
            )
        ),
        lambda w, x: zoo.readout(
            weight_standardisation.standardise_weight(w, x[0]) * x[1:]
        ),
        lambda w, x: zoo.readout(
            x @ w * jax.random.normal(jax.random.key(3), (4, 3))
        ),
    ],
)
def test_the_same_bits(fun):
  arrays = zoo.Arrays(22)
  w, x = (jnp.asarray(arrays.normal(*s), "float32") for s in ((3, 3), (4, 3)))
  closed = _trace(fun)

  @jax.jit
  def flat(w, x):
    jaxpr = closed.jaxpr
    env = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(jaxpr.invars, (w, x), strict=True))
    tracing.evaluate(jaxpr.eqns, env)
    return tracing.read(env, jaxpr.outvars[0])

  np.testing.assert_array_equal(flat(w, x), jax.jit(fun)(w, x))


def test_a_constant_is_read_as_a_value():
  # A loss of one literal: no variable, and so nothing in the environment.
  (atom,) = _trace(lambda w, x: 2.5).jaxpr.outvars
  assert not tracing.is_var(atom)
  assert tracing.read({}, atom) == 2.5


@pytest.mark.parametrize(
    "x, w, contracting, batch",
    [
        ((1, 4, 3), (3, 2), ((2,), (0,)), ((), ())),
        ((1, 3), (3, 1), ((1,), (0,)), ((), ())),
        ((1, 1, 4, 3), (1, 5, 1, 3), ((3,), (3,)), ((1,), (0,))),
        ((4, 1, 2), (2, 1, 4), ((1, 2), (1, 0)), ((0,), (2,))),
        ((1, 4, 1), (1, 5), ((0,), (0,)), ((), ())),
    ],
)
def test_products_leave_out_axes_of_one(x, w, contracting, batch):
  product = lambda x, w: jax.lax.dot_general(x, w, (contracting, batch))
  rng = np.random.default_rng(32)
  x, w = (jnp.asarray(rng.normal(size=s), "float32") for s in (x, w))
  (eqn,) = jax.make_jaxpr(product)(x, w).jaxpr.eqns
  (got,) = tracing.bind(eqn, [x, w])
  # Four products of order 1 at most, by other instructions: 4 x 2^-24 of each,
  # and they may cancel. Two axes that were mixed up differ by 1.
  np.testing.assert_allclose(got, product(x, w), rtol=1e-5, atol=1e-5)
  bound = jax.make_jaxpr(lambda *args: tracing.bind(eqn, args))(x, w)
  (dot,) = (e for e in bound.eqns if e.primitive.name == "dot_general")
  for i, operand in enumerate(dot.invars):
    summed = dot.params["dimension_numbers"][0][i]
    ones = [k for k, n in enumerate(operand.aval.shape) if n == 1]
    assert set(ones) <= set(summed)
