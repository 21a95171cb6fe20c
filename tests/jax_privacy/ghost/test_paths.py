"""When a parameter's norm follows from its sites, and the way back to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import weight_standardisation as ws
from jax_privacy.ghost import graph, paths

_W, _GAIN, _X = jnp.ones((4, 3)), jnp.ones(3), jnp.ones((5, 4))


def _find(fun, *leaves, row=_X):
  loss = lambda leaves, rows: (jnp.sum(jnp.sin(fun(*leaves, *rows))), [])
  split = graph.split(loss, leaves, [row])
  (component,) = split.components
  return split, component, paths.find(split, component)


def _last(vector):
  return vector.reshape(1, -1)


@pytest.mark.parametrize(
    "fun",
    [
        lambda w, x: x @ w,
        lambda w, x: x.T[:3].T @ w.T,
        lambda w, x: x @ w.reshape(2, 6).reshape(4, 3),
        lambda w, x: x @ jnp.flip(-w, 0),
        lambda w, x: (x.astype("bfloat16") @ w.astype("bfloat16")).astype("f4"),
        lambda w, x: jnp.sin(x @ w) @ w.T,  # Two sites, two weights.
    ],
)
def test_isometric(fun):
  assert _find(fun, _W)[2] == paths.Path(None, ())


@pytest.mark.parametrize(
    "fun, mask",
    [
        (lambda w, x: x @ (2.0 * w), None),  # The product is doubled instead.
        (lambda w, x: x @ (w - 1.0), None),
        (
            lambda w, x: jax.lax.conv(
                x[None, None], 3.0 * w[None, None], (1, 1), "SAME"
            ),
            "number",
        ),
        (lambda w, x: x @ (w * np.tri(4, 3, dtype=np.float32) + 1.0), "array"),
    ],
)
def test_masked(fun, mask):
  assert _find(fun, _W)[2] == paths.Path(None, (), mask)


def _scanned(w):
  return jax.lax.scan(lambda c, row: (c, 2.0 * row), 0.0, w)[1]


@pytest.mark.parametrize(
    "leaves, fun, reason",
    [
        ((_W,), lambda w, x: x @ (w * w), "multiplied by itself"),
        ((_W,), lambda w, x: x @ jnp.tanh(w), "changed by `tanh`"),
        ((_W,), lambda w, x: x @ jnp.tile(w, (1, 2)), "repeated"),
        (
            (_W,),
            lambda w, x: x @ w[:, :2] + x @ w[:, 1:3],
            "pieces that overlap",
        ),
        ((_W, _W), lambda a, b, x: x @ (a + b), "added to another parameter"),
        ((_W, _W), lambda a, b, x: x @ (a @ b.T), "as a matrix, by another"),
        (
            (_W, _W),
            lambda a, b, x: x @ jnp.concatenate([a, b], 1),
            "joined with another parameter",
        ),
        ((_W,), lambda w, x: x @ _scanned(w), "changed in a loop"),
        # An addition of a parameter has no rule.
        (
            (_GAIN,),
            lambda b, x: x[:, :3] + jnp.broadcast_to(b, (5, 3)),
            "there is no rule for `add`",
        ),
        (
            (_W,),
            lambda w, x: x @ w + w[:1, :] * 0.5 * x[:, :1],
            "there is no rule for `mul`",
        ),
        (
            (_W,),
            lambda w, x: x @ w.astype("complex64").real,
            "cast to another kind of number",
        ),
    ],
)
def test_why_there_is_none(leaves, fun, reason):
  found = _find(fun, *leaves)[2]
  assert isinstance(found, paths.NoPath)
  assert reason in found.reason


def _roles(fun, *leaves):
  path = _find(fun, *leaves)[2]
  if isinstance(path, paths.NoPath):
    return path.reason
  assert path.standardise.params["name"] == "scaled_weight_standardisation"
  return path.roles


_standardise = ws.standardise_weight


@pytest.mark.parametrize(
    "leaves, fun, roles",
    [
        ((_W, _GAIN), lambda w, g, x: x @ _standardise(w, g), (0, 1)),
        ((_GAIN, _W), lambda g, w, x: x @ _standardise(w, g), (1, 0)),
        ((_W,), lambda w, x: x @ _standardise(w, _GAIN), (0,)),
        ((_GAIN,), lambda g, x: x @ _standardise(_W, g), (1,)),
        # Isometries before it are known, ...
        (
            (_W.T, _GAIN),
            lambda w, g, x: x @ _standardise(w.T, g.reshape(3, 1).reshape(3)),
            (0, 1),
        ),
        # ... but none after it: channels might not be the last axis any more.
        (
            (_W.T, _W[:, 0]),
            lambda w, g, x: x @ _standardise(w, g).T,
            "changed again before use",
        ),
        # A parameter in both places, or used outside; two sites; a scale.
        (
            (_GAIN,),
            lambda g, x: x[:, :1] @ _standardise(g.reshape(1, 3), g),
            "kernel and gain of weight standardisation are the same",
        ),
        (
            (_W, _GAIN),
            lambda w, g, x: (x @ _standardise(w, g)) * _last(g),
            "there is no rule for `mul`",
        ),
        (
            (_W, _GAIN),
            lambda w, g, x: jnp.tanh(x @ _standardise(w, g)) @ w.T,
            "used elsewhere too",
        ),
        (
            (_W[:, :3], _GAIN),
            lambda w, g, x: x @ _standardise(w, g) @ _standardise(w, g).T,
            "more than once",
        ),
        (
            (_W, _GAIN),
            lambda w, g, x: x @ _standardise(2.0 * w, g),
            "multiplied by a number",
        ),
        # Channels that the product sums over.
        (
            (_W, _GAIN),
            lambda w, g, x: jnp.einsum(
                "tc,ic->ti", x[:, :3], _standardise(w, g)
            ),
            "not its last axis",
        ),
        # Too short to cancel in.
        (
            (_W.astype("bfloat16"), _GAIN),
            lambda w, g, x: x @ _standardise(w, g).astype("float32"),
            "changed again before use",
        ),
        (
            (_W.astype("bfloat16"), _GAIN),
            lambda w, g, x: x.astype("bfloat16") @ _standardise(w, g),
            "standardised in bfloat16",
        ),
        (
            (_W, _GAIN.astype("bfloat16")),
            lambda w, g, x: x @ _standardise(w, g),
            "standardised in bfloat16",
        ),
    ],
)
def test_through_standardisation(leaves, fun, roles):
  found = _roles(fun, *leaves)
  if isinstance(roles, str):
    assert roles in found
  else:
    assert found == roles


def _weights(w):
  """Two weights of one parameter, each behind isometries."""
  return -w.reshape(3, 4), jnp.flip(w, 1).T.astype("float32")


def test_pull_isometric_adds_up_what_the_weights_get():
  rng = np.random.default_rng(25)
  w = jnp.asarray(rng.normal(size=(4, 3)), "float32")
  fun = lambda w, x: x @ _weights(w)[0].T @ _weights(w)[1]
  split, component, path = _find(fun, w)
  assert path == paths.Path(None, ())
  cotangents = [
      jnp.asarray(rng.normal(size=v.aval.shape), "float32")
      for v in component.weights
  ]
  shared = split.run_shared([w])
  got = paths.pull_isometric(split, component, shared, cotangents)
  transform_fn = split.transform_fn(component, shared)
  (wanted,) = jax.vjp(transform_fn, w)[1](cotangents)
  # One addition an entry, and so one rounding of 2^-24, either way.
  np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_pull_isometric_leaves_casts_out():
  # 1 + 2^-12 is no bfloat16: a cast on the way back would lose it.
  w = jnp.ones((4, 3), "bfloat16")
  split, component, _ = _find(lambda w, x: x @ w.astype("float32"), w)
  cotangent = jnp.full((4, 3), 1 + 2**-12, "float32")
  shared = split.run_shared([w])
  got = paths.pull_isometric(split, component, shared, [cotangent])
  np.testing.assert_array_equal(got, cotangent)
