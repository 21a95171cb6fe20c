"""Ghost clipping of unmodified models of four libraries."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support import zoo

_ARRAYS = zoo.Arrays(10)
_IMAGES = _ARRAYS.batch(6, 6, 2)
_TOKENS = _ARRAYS.integers(0, 7, 4, 5)
_LABELS = np.array([0, 2, 1, 2])


@pytest.fixture(autouse=True)
def _promotion_as_users_have_it():
  """These libraries' own code does not survive strict promotion."""
  with (
      jax.numpy_dtype_promotion("standard"),
      jax.numpy_rank_promotion("allow"),
  ):
    yield


def _cross_entropy(logits, label):
  log_probs = jax.nn.log_softmax(logits.reshape(1, -1))
  return -jnp.sum(jnp.take_along_axis(log_probs, label.reshape(1, 1), 1))


def _randomised(params):
  """Values for parameters of that tree: biases are not left at 0."""
  arrays = zoo.Arrays(11)
  return jax.tree.map(lambda x: 0.3 * arrays.normal(*x.shape), params)


def _shapes(init, data):
  """Of the parameters alone: their values are drawn here."""
  first = zoo.cast(data[:1], "float32")
  return jax.eval_shape(init, jax.random.key(0), first)


def _check(name, loss, params, data):
  for case in zoo.both(
      name=name,
      loss=loss,
      params=_randomised(params),
      batch=(data, _LABELS),
      # Parts of these libraries compute in float32 whatever they are given.
      kept=zoo.F32,
      dropped=zoo.F32,
      runs=(),
      reference_dtype="float32",
  ):
    zoo.check(case)


class _NnxCNN(nnx.Module):

  def __init__(self, rngs):
    self.conv = nnx.Conv(2, 4, (3, 3), strides=(2, 2), rngs=rngs)
    self.norm = nnx.GroupNorm(4, num_groups=2, rngs=rngs)
    self.dense = nnx.Linear(36, 3, rngs=rngs)

  def __call__(self, x):
    x = jax.nn.relu(self.norm(self.conv(x)))
    return self.dense(x.reshape(len(x), -1))


class _NnxTransformer(nnx.Module):

  def __init__(self, rngs):
    self.embed = nnx.Embed(7, 4, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(
        2, 4, decode=False, deterministic=True, rngs=rngs
    )
    self.norm = nnx.LayerNorm(4, rngs=rngs)

  def __call__(self, ids):
    x = self.embed(ids)
    x = self.norm(x + self.attention(x))
    return self.embed.attend(jnp.mean(x, axis=-2))


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "build, data, rank", [(_NnxCNN, _IMAGES, 4), (_NnxTransformer, _TOKENS, 2)]
)
def test_flax_nnx(build, data, rank):
  graphdef, params, rest = nnx.split(
      nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param, ...
  )

  def loss(params, x, label):
    model = nnx.merge(graphdef, params, rest)
    return _cross_entropy(model(x if x.ndim == rank else x[None]), label)

  _check(build.__name__, loss, params, data)


class _LinenCNN(nn.Module):

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(4, (3, 3), strides=2, kernel_init=nn.initializers.normal())(x)
    x = nn.relu(nn.GroupNorm(2)(x))
    x = nn.avg_pool(x, (2, 2))
    return nn.Dense(3)(x.reshape(len(x), -1))


class _LinenRNN(nn.Module):

  @nn.compact
  def __call__(self, ids):
    x = nn.Embed(7, 4)(ids)
    x = nn.RNN(nn.GRUCell(3))(x)
    return nn.Dense(3)(nn.RMSNorm()(x[:, -1]))


@pytest.mark.parametrize(
    "build, data, rank",
    [
        (_LinenCNN, _IMAGES, 4),
        pytest.param(_LinenRNN, _TOKENS, 2, marks=pytest.mark.slow),
    ],
)
def test_flax_linen(build, data, rank):
  model = build()
  params = _shapes(model.init, data)

  def loss(params, x, label):
    logits = model.apply(params, x if x.ndim == rank else x[None])
    return _cross_entropy(logits, label)

  _check(build.__name__, loss, params, data)


class _EquinoxCNN(eqx.Module):
  conv: eqx.nn.Conv2d
  norm: eqx.nn.GroupNorm
  dense: eqx.nn.Linear

  def __init__(self, key):
    keys = jax.random.split(key, 2)
    self.conv = eqx.nn.Conv2d(2, 4, 3, stride=2, padding=1, key=keys[0])
    self.norm = eqx.nn.GroupNorm(2, 4)
    self.dense = eqx.nn.Linear(36, 3, key=keys[1])

  def __call__(self, x):
    x = jax.nn.relu(self.norm(self.conv(jnp.moveaxis(x, -1, 0))))
    return self.dense(x.ravel())


class _EquinoxRNN(eqx.Module):
  embed: eqx.nn.Embedding
  cell: eqx.nn.GRUCell
  dense: eqx.nn.Linear

  def __init__(self, key):
    keys = jax.random.split(key, 3)
    self.embed = eqx.nn.Embedding(7, 4, key=keys[0])
    self.cell = eqx.nn.GRUCell(4, 3, key=keys[1])
    self.dense = eqx.nn.Linear(3, 3, key=keys[2])

  def __call__(self, ids):
    xs = jax.vmap(self.embed)(ids)
    step = lambda h, x: (self.cell(x, h), None)
    h, _ = jax.lax.scan(step, jnp.zeros(3, xs.dtype), xs)
    return self.dense(h)


@pytest.mark.parametrize(
    "build, data, rank",
    [
        (_EquinoxCNN, _IMAGES, 3),
        pytest.param(_EquinoxRNN, _TOKENS, 1, marks=pytest.mark.slow),
    ],
)
def test_equinox(build, data, rank):
  model = build(jax.random.key(0))
  params, static = eqx.partition(model, eqx.is_inexact_array)

  def loss(params, x, label):
    model = eqx.combine(params, static)
    return _cross_entropy(model(x if x.ndim == rank else x[0]), label)

  _check(build.__name__, loss, params, data)


def _haiku_cnn(x):
  x = hk.Conv2D(4, 3, stride=2)(x)
  x = jax.nn.relu(hk.GroupNorm(2)(x))
  return hk.nets.MLP([5, 3])(hk.Flatten()(x))


def _haiku_rnn(ids):
  x = hk.Embed(7, 4)(ids)
  core = hk.GRU(3)
  x, _ = hk.dynamic_unroll(core, x, core.initial_state(1), time_major=False)
  return hk.Linear(3)(hk.LayerNorm(-1, True, True)(x[:, -1]))


@pytest.mark.parametrize(
    "forward, data, rank",
    [
        (_haiku_cnn, _IMAGES, 4),
        pytest.param(_haiku_rnn, _TOKENS, 2, marks=pytest.mark.slow),
    ],
)
def test_haiku(forward, data, rank):
  model = hk.without_apply_rng(hk.transform(forward))
  params = _shapes(model.init, data)

  def loss(params, x, label):
    logits = model.apply(params, x if x.ndim == rank else x[None])
    return _cross_entropy(logits, label)

  _check(forward.__name__, loss, params, data)
