"""Losses that mix examples are refused by name; others never are.

A loss that is refused trains on zeros, or on another loss than the one meant,
since `clipped_grad` gives it one example at a time. The controls are losses of
the same kinds that do not mix: whatever is refused here among them is a bug.
"""

import re
import types

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jax_privacy import dp_sgd, mixing, testing, together

_RNG = np.random.default_rng(0)
_SIZE = 6
_X = _RNG.standard_normal((_SIZE, 4)).astype(np.float32)
_Y = np.array([0, 1, 0, 1, 1, 0])
_W = _RNG.standard_normal((4, 3)).astype(np.float32)
_V = {"w": _W, "b": np.zeros(3, np.float32)}
_BATCH = {"x": _X, "y": _Y}
_MECHANISM = types.SimpleNamespace(
    noise_multiplier=1.0,
    num_steps=5,
    sampling="poisson",
    sampling_prob=0.5,
    num_examples=20,
    max_batch_size=None,
)


@pytest.fixture(autouse=True)
def _promotion_as_users_have_it():
  with (
      jax.numpy_dtype_promotion("standard"),
      jax.numpy_rank_promotion("allow"),
  ):
    yield


def _call(loss, params, batch=None, *, jitted=False, args=(), **options):
  private = dp_sgd.make_private(
      loss,
      optax.sgd(0.1),
      _MECHANISM,
      l2_clip_norm=1.0,
      key=0,
      method="vmap",
      **options,
  )
  grad_fn = jax.jit(private.grad_fn) if jitted else private.grad_fn
  batch = _BATCH if batch is None else batch
  mask = np.zeros(_SIZE, bool)
  return grad_fn(params, batch, *args, is_padding_example=mask)


def _fault(loss, params, **options):
  """What `make_private` would refuse the loss for."""
  loss = together.Loss(loss, **options)
  return mixing.quick_fault(loss, (params, _BATCH))


def _info_nce(params, batch):
  z = batch["x"] @ params["w"]
  logits = z @ (z + 0.1).T
  return -jnp.mean(jnp.diag(jax.nn.log_softmax(logits)))


def _centred(params, batch):
  x = batch["x"] - jnp.mean(batch["x"], axis=0)
  return jnp.mean((x @ params["w"] + params["b"] - 1.0) ** 2)


def _auc(params, batch):
  score = (batch["x"] @ params["w"])[:, 0]
  is_pair = (batch["y"][:, None] > batch["y"][None]).astype(score.dtype)
  hinge = jax.nn.relu(1 - (score[:, None] - score[None]))
  return jnp.sum(is_pair * hinge) / jnp.sum(is_pair)


def _triplet(params, batch):
  z = batch["x"] @ params["w"]
  gaps = jnp.sum((z[:, None] - z[None]) ** 2, -1)
  same = batch["y"][:, None] == batch["y"][None]
  hardest = jnp.max(jnp.where(same, gaps, 0.0), 1)
  nearest = jnp.min(jnp.where(same, 1e9, gaps), 1)
  return jnp.mean(jax.nn.relu(hardest - nearest + 1.0))


def _own_batch_norm(params, batch):
  z = batch["x"] @ params["w"]
  z = (z - z.mean(0)) / jnp.sqrt(z.var(0) + 1e-5) + params["b"]
  return jnp.mean((jnp.tanh(z).sum(-1) - batch["y"]) ** 2)


def _decorrelated(params, batch):
  z = batch["x"] @ params["w"]
  z = z - z.mean(0)
  cov = z.T @ z / (len(z) - 1)
  return jnp.sum((cov - jnp.eye(3)) ** 2)


_MIXING = [_info_nce, _centred, _auc, _triplet, _own_batch_norm]
_MIXING += [pytest.param(_decorrelated, marks=pytest.mark.slow)]


@pytest.mark.few(1)
@pytest.mark.parametrize("loss", _MIXING)
def test_losses_that_mix(loss):
  text = "^The loss must not mix examples: .*check_loss=False"
  assert _fault(loss, _V).startswith("The loss must not mix examples: ")
  if loss is _centred:  # Through all of `make_private`.
    for jitted in (False, True):
      with pytest.raises(ValueError, match=text):
        _call(loss, _V, jitted=jitted)
  with pytest.raises(testing.LossError, match="must not mix examples"):
    testing.check_loss(loss, _V, _BATCH)


class _Linen(nn.Module):

  @nn.compact
  def __call__(self, x, train):
    return nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(x))


class _Nnx(nnx.Module):

  def __init__(self, rngs):
    self.dense = nnx.Linear(4, 3, rngs=rngs)
    self.norm = nnx.BatchNorm(3, rngs=rngs)

  def __call__(self, x):
    return self.norm(self.dense(x))


class _Equinox(eqx.Module):
  dense: eqx.nn.Linear
  norm: eqx.nn.BatchNorm

  def __init__(self):
    self.dense = eqx.nn.Linear(4, 3, key=jax.random.key(0))
    self.norm = eqx.nn.BatchNorm(3, axis_name="batch", mode="batch")

  def __call__(self, x, state):
    return self.norm(self.dense(x), state)


def _linen():
  model = _Linen()
  init = jax.jit(model.init, static_argnames="train")
  variables = init(jax.random.key(0), _X, train=False)

  def loss(params, batch, train):
    rest = {**variables, "params": params}
    mutable = ["batch_stats"] if train else False
    out = model.apply(rest, batch["x"], train, mutable=mutable)
    return jnp.mean(jnp.sin(out[0] if train else out) ** 2)

  return loss, variables["params"]


def _nnx():
  graphdef, params, rest = nnx.split(_Nnx(nnx.Rngs(0)), nnx.Param, ...)

  def loss(params, batch, train):
    model = nnx.merge(graphdef, params, rest, copy=True)
    model.train() if train else model.eval()
    return jnp.mean(jnp.sin(model(batch["x"])) ** 2)

  return loss, params


def _haiku():
  def forward(x, train):
    return hk.BatchNorm(True, True, 0.9)(hk.Linear(3)(x), train)

  model = hk.without_apply_rng(hk.transform_with_state(forward))
  init = jax.jit(model.init, static_argnums=2)
  params, state = init(jax.random.key(0), _X, True)

  def loss(params, batch, train):
    out, _ = model.apply(params, state, batch["x"], train)
    return jnp.mean(jnp.sin(out) ** 2)

  return loss, params


def _equinox():
  model, state = eqx.nn.make_with_state(_Equinox)()
  params, static = eqx.partition(model, eqx.is_inexact_array)

  def loss(params, batch, train):
    whole = eqx.nn.inference_mode(eqx.combine(params, static), not train)
    run = jax.vmap(whole, (0, None), (0, None), axis_name="batch")
    return jnp.mean(jnp.sin(run(batch["x"], state)[0]) ** 2)

  return loss, params


@pytest.mark.few(1)
@pytest.mark.parametrize("build", [_linen, _nnx, _haiku, _equinox])
def test_batch_norm_of_libraries_is_named(build):
  loss, params = build()
  library = build.__name__[1:].replace("linen", "flax").replace("nnx", "flax")
  text = rf"means of a batch, by {library}'s BatchNorm.*group, layer"
  mixes = lambda params, batch: loss(params, batch, True)
  assert re.search(text, _fault(mixes, params))
  one = lambda p, row: mixes(p, jax.tree.map(lambda x: x[None], row))
  assert re.search(text, _fault(one, params, keep_batch_dim=False))
  with pytest.raises(testing.LossError, match=text):
    testing.check_loss(mixes, params, _BATCH)
  # With its statistics fixed, it mixes nothing.
  fixed = lambda params, batch: loss(params, batch, False)
  assert _fault(fixed, params) is None
  assert testing.check_loss(fixed, params, _BATCH).reduction == "mean"


def test_running_statistics_among_the_parameters():
  model = nnx.Sequential(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
  for params in (
      {"params": _V, "batch_stats": {"mean": np.zeros(3, np.float32)}},
      nnx.state(model),
      ({"a": 1.0}, {"norm/~/mean_ema": {"average": np.ones(2, np.float32)}}),
  ):
    fault = _fault(lambda p, batch: jnp.mean(batch["x"]), params)
    assert "must not hold running statistics" in fault


def _mse(params, batch):
  return jnp.mean((batch["x"] @ params["w"]).sum(-1) ** 2)


def _per_token(params, batch):
  mask = (jnp.arange(4) <= batch["y"][:, None]).astype(jnp.float32)
  token = (batch["x"] * params["w"][:, 0] - 1.0) ** 2 * mask
  return token, mask


def _masked(params, batch):
  token, mask = _per_token(params, batch)
  return jnp.mean(jnp.sum(token, 1) / jnp.sum(mask, 1))


def _by_tokens_of_the_batch(params, batch):
  token, mask = _per_token(params, batch)
  return jnp.sum(token) / jnp.sum(mask)


def _dropout(params, batch):
  keep = jax.random.bernoulli(jax.random.key(3), 0.5, batch["x"].shape)
  return jnp.mean(((batch["x"] * keep) @ params["w"]) ** 2)


def _labels(params, batch):
  logits = batch["x"] @ params["w"] + params["b"]
  return -jnp.mean(
      jax.nn.log_softmax(logits)[jnp.arange(len(logits)), batch["y"]]
  )


def _short(params, batch):
  w = params["w"].astype(jnp.bfloat16)
  return jnp.mean((batch["x"].astype(jnp.bfloat16) @ w) ** 2).astype(
      jnp.float32
  )


def _one_at_a_time(params, batch):
  return jnp.sum((batch["x"][0] @ params["w"]) ** 2)


def _decayed(params, batch):
  fit = jnp.sum((batch["x"] @ params["w"] - 1.0) ** 2)
  return fit + 3.0 * jnp.sum(params["w"] ** 2) + jnp.sum(params["b"] - 1.0) ** 2


def _layer_norm(params, batch):
  x = batch["x"]
  x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(
      x.var(-1, keepdims=True) + 1e-5
  )
  return jnp.mean((x @ params["w"]) ** 2)


def _views(params, batch):
  """Contrasts what is in one example: its columns."""
  z = batch["x"][..., None] * params["w"]
  logits = jnp.einsum("nij,nkj->nik", z, z)
  target = jax.nn.log_softmax(logits)
  return -jnp.mean(jnp.trace(target, axis1=1, axis2=2))


_SOUND = {
    _mse: "mean",
    _masked: "mean",
    _dropout: "mean",
    _labels: "mean",
    _short: "mean",
    _one_at_a_time: "first",
    _decayed: "sum",
    _layer_norm: "mean",
    _views: "mean",
    (lambda p, b: jnp.sum((b["x"] @ p["w"]) ** 2)): "sum",
    (lambda p, b: 1e12 * _mse(p, b)): "mean",
    (lambda p, b: 1e-12 * _mse(p, b)): "mean",
    (lambda p, b: jnp.mean(b["y"] * ((b["x"] @ p["w"]) ** 2).sum(-1))): "mean",
}


def _sound():
  fast = (_mse, _masked, _dropout, _labels, _one_at_a_time, _decayed)
  for loss in _SOUND:
    marks = () if loss in fast else pytest.mark.slow
    yield pytest.param(loss, marks=marks)


@pytest.mark.few(1)
@pytest.mark.parametrize("loss", list(_sound()))
def test_sound_losses_pass(loss):
  assert testing.check_loss(loss, _V, _BATCH).reduction == _SOUND[loss]
  assert _fault(loss, _V) is None
  if loss in (_mse, _dropout):
    _call(loss, _V)
    _call(loss, _V, jitted=True)


def test_what_shares_a_divisor_is_named_by_the_check_alone():
  with pytest.raises(testing.LossError, match="weighs each example by what"):
    testing.check_loss(_by_tokens_of_the_batch, _V, _BATCH)
  # Of one example it is that example's own mean: it trains.
  assert _fault(_by_tokens_of_the_batch, _V) is None
  rmse = lambda p, b: jnp.sqrt(_mse(p, b))
  with pytest.raises(testing.LossError, match="weighs each example by what"):
    testing.check_loss(rmse, _V, _BATCH)
  assert _fault(rmse, _V) is None


def test_zero_gradients_are_named_by_the_check_alone():
  flat = lambda p, b: 0.0 * jnp.sum(p["w"]) + jnp.sum(b["x"])
  text = "gradient of one example alone is zero.*nothing would be learnt"
  with pytest.raises(testing.LossError, match=text):
    testing.check_loss(flat, _V, _BATCH)
  with pytest.raises(testing.LossError, match=text):
    testing.check_loss(flat, _V, _BATCH, keep_batch_dim=False)
  assert _fault(flat, _V) is None


def test_other_ways_to_call_a_loss():
  def with_key(params, x, y, key):
    keep = jax.random.bernoulli(key, 0.5, x.shape)
    return jnp.mean(((x * keep) @ params["w"])[..., 0] - y) ** 2, {"x": x}

  # Several batch arguments, aux, and a key for each example. The square of a
  # mean is not the mean of squares: that is seen through the dropout.
  options = dict(batch_argnums=(1, 2), has_aux=True, prng_argnum=3)
  args = (_V, _X, _Y, jax.random.key(0))
  with pytest.raises(testing.LossError, match="weighs each example|not mix"):
    testing.check_loss(with_key, *args, **options)

  def sound(params, x, y, key):
    keep = jax.random.bernoulli(key, 0.5, x.shape)
    return jnp.mean((((x * keep) @ params["w"])[..., 0] - y) ** 2), {"x": x}

  assert testing.check_loss(sound, *args, **options).reduction == "mean"
  one = lambda p, row: jnp.mean((row["x"] @ p["w"] - row["y"]) ** 2)
  report = testing.check_loss(one, _V, _BATCH, keep_batch_dim=False)
  assert report.reduction == "alone"
  with pytest.raises(ValueError, match="number of examples must be at least 2"):
    testing.check_loss(one, _V, jax.tree.map(lambda x: x[:1], _BATCH))
  with pytest.raises(ValueError, match="^loss_fn must be"):
    testing.check_loss(None, _V, _BATCH)


def test_a_check_in_which_nothing_moves_is_no_pass():
  # Centred inputs: every example alone is zero, so no bound can be broken.
  grad_fn = lambda loss: dp_sgd.make_private(
      loss,
      optax.sgd(1.0),
      _MECHANISM,
      l2_clip_norm=1.0,
      key=0,
      check_loss=False,
  ).grad_fn
  nothing = lambda p, b: jnp.mean(((b["x"] - b["x"].mean(0)) @ p["w"]) ** 2)
  batch = jax.tree.map(lambda x: x[:2], _BATCH)
  with pytest.raises(testing.SensitivityError, match="No example moved"):
    testing.check_sensitivity(grad_fn(nothing), _V, batch)
