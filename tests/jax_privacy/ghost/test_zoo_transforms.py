"""Ghost clipping through custom derivatives and JAX's other transforms."""

import functools

import jax
import jax.numpy as jnp
import pytest

from tests.support import zoo

_ARRAYS = zoo.Arrays(7)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch
_PARAMS = {"w": 0.5 * _normal(3, 3), "u": _normal(2, 3)}
_DROPPED = {"options": {"keep_batch_dim": False}}


def _case(name, loss, params=_PARAMS, **fields):
  return zoo.Case(
      name=name, loss=loss, params=params, batch=(_batch(4, 2),), **fields
  )


def _rnn(params, x):
  def step(h, x):
    h = jnp.tanh(h @ params["w"] + x[None] @ params["u"])
    return h, h

  return zoo.readout(
      jax.lax.scan(step, jnp.zeros((1, 3), x.dtype), x.reshape(-1, 2))[1]
  )


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _dense_jvp(power, w, x):
  return (x @ w) ** power


@_dense_jvp.defjvp
def _dense_jvp_rule(power, primals, tangents):
  (w, x), (dw, dx) = primals, tangents
  # Half the true derivative: a rule that is not used would show.
  slope = 0.5 * power * (x @ w) ** (power - 1)
  return _dense_jvp(power, w, x), slope * (x @ dw + dx @ w)


@jax.custom_vjp
def _dense_vjp(w, x):
  return jnp.sin(x @ w)


_dense_vjp.defvjp(
    lambda w, x: (_dense_vjp(w, x), (w, x)),
    # Of a straight-through kind, again not the true derivative.
    lambda res, g: (res[1].T @ jnp.clip(g, -0.5, 0.5), g @ res[0].T),
)


@jax.custom_vjp
def _sign_through(w):
  return jnp.sign(w)


_sign_through.defvjp(
    lambda w: (jnp.sign(w), w), lambda w, g: (jnp.where(w > -1, g, 0),)
)


def _meta(params, x):
  """A step of gradient descent inside the loss: second derivatives."""
  inner = lambda w: jnp.sum((jnp.tanh(x @ params["u"]) @ w) ** 2)
  return zoo.readout(
      x @ params["u"] @ (params["w"] - 0.1 * jax.grad(inner)(params["w"]))
  )


def _remat(**options):
  def block(w, x):
    return jnp.tanh(x @ w)

  def loss(params, x):
    h = jax.checkpoint(block, **options)(params["u"], x)
    return zoo.readout(jax.checkpoint(block, **options)(params["w"], h))

  return loss


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        _case("checkpoint", _remat(), runs=zoo.NOT_JITTED),
        _case(
            "checkpoint_with_a_policy",
            _remat(policy=jax.checkpoint_policies.dots_saveable),
        ),
        _case("checkpointed_scan", jax.checkpoint(_rnn), run=zoo.F32),
        _case("checkpoint_dropped", _remat(prevent_cse=False), **_DROPPED),
        _case(
            "custom_jvp",
            lambda p, x: zoo.readout(_dense_jvp(3, p["u"], x)),
            runs=zoo.NOT_JITTED,
        ),
        _case(
            "relu", lambda p, x: zoo.readout(jax.nn.relu(x @ p["u"]) @ p["w"])
        ),
        _case(
            "custom_vjp",
            lambda p, x: zoo.readout(_dense_vjp(p["u"], x.reshape(4, 2))),
            runs=zoo.NOT_JITTED,
        ),
        _case(
            "custom_vjp_of_a_parameter",
            lambda p, x: zoo.readout(
                x @ _sign_through(p["u"]).astype(x.dtype) @ p["w"]
            ),
            run=zoo.F32,
        ),
        _case("inner_gradient_by_parameters", _meta),
        _case(
            "inner_gradient_by_data",
            lambda p, x: jnp.sum(
                jax.grad(lambda x: zoo.readout(x @ p["u"]))(x) ** 2
            ),
        ),
        _case(
            "nested_jit",
            lambda p, x: jax.jit(
                lambda w, h: zoo.readout(
                    jax.jit(jnp.dot)(h, jax.jit(jnp.sin)(w))
                )
            )(p["w"], x @ p["u"]),
            runs=zoo.NOT_JITTED,
        ),
        _case(
            "vmap_over_views",
            lambda p, x: jnp.mean(
                jax.vmap(lambda row: zoo.readout(row[None] @ p["u"]))(x)
            ),
            **_DROPPED,
            run=zoo.F32,
        ),
        _case(
            "vmap_over_weights",
            lambda p, x: zoo.readout(
                jax.vmap(lambda w: x.reshape(4, 2) @ w)(p)
            ),
            _normal(3, 2, 2),
            runs=zoo.NOT_JITTED,
            run=zoo.EAGER,
        ),
        _case(
            "optimization_barrier",
            lambda p, x: zoo.readout(
                x @ jax.lax.optimization_barrier(p["u"]) @ p["w"]
            ),
        ),
        _case(
            "named_scope",
            jax.named_call(lambda p, x: zoo.readout(x @ p["u"]), name="dense"),
            run=zoo.F32,
        ),
    ],
    ids=str,
)
def test_transforms(case):
  zoo.check(case)
