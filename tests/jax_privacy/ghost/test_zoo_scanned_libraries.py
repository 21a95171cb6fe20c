"""Models of three libraries, written with their own scans and checkpoints.

`make_private` trains each as it is: one step gives what `method="vmap"` gives.
"""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from accounting import Mechanism
from jax_privacy.dp_sgd import make_private
from tests.support import zoo

_WIDTH, _DEPTH = 4, 3
_IDS = zoo.Arrays(61).integers(0, 7, 6, 5)
_MECHANISM = Mechanism(
    noise_multiplier=0.5, num_steps=2, sampling_prob=0.5, num_examples=6
)


@pytest.fixture(autouse=True)
def _promotion_as_users_have_it():
  """These libraries' own code does not survive strict promotion."""
  with (
      jax.numpy_dtype_promotion("standard"),
      jax.numpy_rank_promotion("allow"),
  ):
    yield


def _cross_entropy(logits, ids):
  log_probs = jax.nn.log_softmax(logits[:, :-1].astype("float32"))
  return -jnp.mean(jnp.take_along_axis(log_probs, ids[:, 1:, None], -1))


class _NnxBlock(nnx.Module):

  def __init__(self, rngs):
    self.norm = nnx.RMSNorm(_WIDTH, rngs=rngs)
    self.dense = nnx.Linear(_WIDTH, _WIDTH, rngs=rngs)

  def __call__(self, x):
    return x + jnp.tanh(self.dense(self.norm(x)))


class _NnxModel(nnx.Module):

  def __init__(self, rngs):
    @nnx.split_rngs(splits=_DEPTH)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make(rngs):
      return _NnxBlock(rngs)

    self.embed = nnx.Embed(7, _WIDTH, rngs=rngs)
    self.blocks = make(rngs)

  def __call__(self, ids):
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    @nnx.remat
    def run(block, x):
      return block(x)

    return self.embed.attend(run(self.blocks, self.embed(ids)))


def _flax_nnx():
  graphdef, params = nnx.split(_NnxModel(nnx.Rngs(0)), nnx.Param)
  return params, lambda params, ids: _cross_entropy(
      nnx.merge(graphdef, params)(ids), ids
  )


class _LinenBlock(nn.Module):

  @nn.compact
  def __call__(self, x, _):
    return x + jnp.tanh(nn.Dense(_WIDTH)(nn.LayerNorm()(x))), None


class _LinenModel(nn.Module):

  @nn.compact
  def __call__(self, ids):
    stack = nn.scan(
        nn.remat(_LinenBlock, prevent_cse=False),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=_DEPTH,
    )
    x, _ = stack()(nn.Embed(7, _WIDTH)(ids), None)
    return nn.Dense(7)(x)


def _flax_linen():
  model = _LinenModel()
  params = model.init(jax.random.key(0), jnp.asarray(_IDS[:1]))
  return params, lambda p, ids: _cross_entropy(model.apply(p, ids), ids)


class _EquinoxBlock(eqx.Module):
  norm: eqx.nn.LayerNorm
  dense: eqx.nn.Linear

  def __init__(self, key):
    self.norm = eqx.nn.LayerNorm(_WIDTH)
    self.dense = eqx.nn.Linear(_WIDTH, _WIDTH, key=key)

  def __call__(self, x):
    return x + jnp.tanh(self.dense(self.norm(x)))


def _equinox():
  keys = jax.random.split(jax.random.key(0), _DEPTH)
  blocks = eqx.filter_vmap(_EquinoxBlock)(keys)
  embed = eqx.nn.Embedding(7, _WIDTH, key=jax.random.key(1))
  params, static = eqx.partition((embed, blocks), eqx.is_inexact_array)

  def loss(params, ids):
    embed, blocks = eqx.combine(params, static)
    arrays, rest = eqx.partition(blocks, eqx.is_array)

    def step(x, arrays):
      return jax.vmap(eqx.combine(arrays, rest))(x), None

    x, _ = jax.lax.scan(jax.checkpoint(step), jax.vmap(embed)(ids[0]), arrays)
    return _cross_entropy((x @ embed.weight.T)[None], ids)

  return params, loss


def _update(params, loss, **options):
  """The noised update of one step, and how it was made."""
  training = make_private(
      loss,
      optax.sgd(1.0),
      _MECHANISM,
      l2_clip_norm=0.7,
      key=3,
      check_loss=False,
      **options,
  )
  batch = training.sampler.batch(0)
  ids = batch.take(jnp.asarray(_IDS, "int32"))
  grads = jax.jit(training.grad_fn, compiler_options=zoo.UNOPTIMISED)(
      params, ids, is_padding_example=batch.is_padding_example
  )
  updates, _ = training.optimizer.update(
      grads, training.optimizer.init(params), params
  )
  note = training.grad_fn.explain(params, ids).note
  return updates, note


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        _flax_nnx,
        pytest.param(_flax_linen, marks=pytest.mark.slow),
        pytest.param(_equinox, marks=pytest.mark.slow),
    ],
)
def test_make_private_trains_it_as_it_is(build):
  params, loss = build()
  updates, note = _update(params, loss)
  assert note == "in two passes"
  plain, _ = _update(params, loss, method="vmap")
  one, _ = _update(params, loss, passes=1)
  # The noise is the same; sums of 3 examples are right to a few 2^-24.
  for got in (updates, one):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        got,
        plain,
    )
