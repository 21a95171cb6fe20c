"""What cannot be trained on is refused by name, with what to do instead."""

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
from flax.training import train_state

import jax_privacy
from jax_privacy import dp_sgd, testing

_X = np.ones((3, 4), np.float32)
_MLP = eqx.nn.MLP(4, 1, 2, 1, key=jax.random.key(0))
_SPLIT_EQX = r"eqx\.partition\(model, eqx\.is_inexact_array\)"
_SPLIT_NNX = r"nnx\.split\(model, nnx\.Param, \.\.\.\)"
_OUTSIDE = "pass it outside argnums, or by closure"


class _Dropout(nnx.Module):

  def __init__(self, rngs):
    self.dense = nnx.Linear(4, 1, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x, rngs=None):
    return self.drop(self.dense(x), rngs=rngs)


_NNX = _Dropout(nnx.Rngs(0))


class _Linen(nn.Module):

  @nn.compact
  def __call__(self, x, train=True):
    x = nn.BatchNorm(use_running_average=not train)(nn.Dense(2)(x))
    return nn.Dropout(0.5, deterministic=not train)(x)


_LINEN = _Linen()
_VARIABLES = jax.jit(_LINEN.init, static_argnames="train")(
    jax.random.key(0), _X, train=False
)


def _loss(params, batch):
  del params, batch
  raise AssertionError("was refused before it was called")


def _haiku_state():
  model = hk.transform_with_state(lambda x: hk.BatchNorm(True, True, 0.9)(x, 1))
  return model.init(jax.random.key(0), _X)


@pytest.mark.parametrize(
    "params, text",
    [
        (
            {"base": np.ones((4, 8), np.int8), "lora": np.ones(2)},
            rf"params\['base'\] must be .* got int8\[4,8\]: {_OUTSIDE}",
        ),
        ({"w": 1.0, "step": jnp.array(3)}, r"\['step'\].* got int32\[\]: pass"),
        ({"w": 1.0, "step": 3}, r"\['step'\].* got the int 3: pass"),
        ([1.0, np.ones(2, bool)], r"params\[1\].* got bool\[2\]: pass"),
        ([1.0, True], r"params\[1\].* got the bool True: pass"),
        ([1.0, jax.random.key(0)], r"got key<fry>\[\]: a PRNG key is no param"),
        ([jax.random.PRNGKey(0)], r"got uint32\[2\]: .*by prng_argnum"),
        ([np.ones(2, np.complex64)], r"got complex64\[2\]: give its real and"),
        ([1j], "got the complex 1j: give its real"),
        (["relu"], r"params\[0\].* got the str 'relu'"),
        ([np.array(["a"])], r"params\[0\].* got <U1\[1\]"),
        (jnp.tanh, "params must be .* got the function tanh"),
        (_MLP, rf"params\.activation.* got the function relu.*{_SPLIT_EQX}"),
        (
            eqx.nn.Dropout(0.5),
            rf"params\.inference.* got the bool False.*{_SPLIT_EQX}",
        ),
        (_NNX, rf"params\.drop\.rngs\.count.* got uint32\[\].*{_SPLIT_NNX}"),
        (
            nnx.state(_NNX),
            rf"\['drop'\]\['rngs'\]\['count'\] must .*{_SPLIT_NNX}",
        ),
        (
            train_state.TrainState.create(
                apply_fn=_LINEN.apply, params={"w": _X}, tx=optax.adam(1.0)
            ),
            r"params\.step.* got the int 0.*pass state\.params",
        ),
        (_haiku_state(), r"\['batch_norm/~/mean_ema'\]\['counter'\].* int32"),
    ],
)
@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_parameters(params, text, method):
  grad_fn = jax_privacy.clipped_grad(_loss, l2_clip_norm=1.0, method=method)
  with pytest.raises(TypeError, match=text):
    grad_fn(params, _X)


@pytest.mark.parametrize(
    "batch, text",
    [
        ({"x": _X, "text": ["a", "b"]}, r"batch\['text'\]\[0\].* no text"),
        ({"x": _X, "y": np.array(["a"] * 3)}, r"\['y'\] must be .* <U1\[3\]"),
        ([_X, np.array([b"a"] * 3)], r"batch\[1\].* got \|S1\[3\].*no text"),
        ([_X, np.array([[1], [1, 2]], object)], r"\[1\].* object\[2\].* Pad"),
        (
            [_X, [[1.0], [1.0, 2.0]]],
            r"leading size.*\[1\]\[0\]\[0\].*A list is",
        ),
        ({"x": _X, "y": _X[:2]}, r"\['x'\] \[3, 4\], batch\['y'\] \[2, 4\]"),
        (
            {"x": _X, "t": 0.1},
            r"leading size.*\['t'\] \[\].*all examples share",
        ),
        (
            {"x": _X, "t": np.float32(1)},
            r"leading size.*\['t'\] \[\].* closure",
        ),
        ([_X, np.ones(3, "datetime64[D]")], r"batch\[1\].*give dates as numb"),
        ([_X, object()], r"batch\[1\].*convert it by np\.asarray"),
        (None, "batch must be a pytree of arrays with .* got None"),
        ({}, "one leading size, got no arrays"),
    ],
)
def test_batches(batch, text):
  grad_fn = jax_privacy.clipped_grad(_loss, l2_clip_norm=1.0)
  with pytest.raises(ValueError, match=text):
    grad_fn(1.0, batch)


def test_none_and_several_arguments():
  with pytest.raises(ValueError, match="^fun must be a function .* got None"):
    jax_privacy.clipped_grad(None, l2_clip_norm=1.0)
  grad_fn = jax_privacy.clipped_grad(_loss, l2_clip_norm=1.0)
  with pytest.raises(ValueError, match="^params must be .* got None"):
    grad_fn(None, _X)
  several = jax_privacy.clipped_grad(
      _loss, argnums=(0, 3), batch_argnums=(1, 2), l2_clip_norm=1.0
  )
  with pytest.raises(TypeError, match=r"args\[3\]\['n'\] must be .* int32"):
    several(1.0, _X, _X, {"n": np.int32(1)})
  with pytest.raises(ValueError, match=r"args\[2\] must be .* got None"):
    several(1.0, _X, None, 1.0)
  with pytest.raises(ValueError, match="argnums must be positions among the 2"):
    several(1.0, _X)


@pytest.mark.few(1)
@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_state_that_a_loss_closes_over(method):
  run = lambda loss, params, *args, **options: jax.jit(
      jax_privacy.clipped_grad(loss, l2_clip_norm=9.0, method=method, **options)
  )(params, _X, *args)
  graphdef, params, rest = nnx.split(_NNX, nnx.Param, ...)

  def closed_over(params, x):
    return jnp.mean(nnx.merge(graphdef, params, rest)(x) ** 2)

  with pytest.raises(ValueError, match=r"RngCount.*prng_argnum.*nnx\.reseed"):
    run(closed_over, params)

  # What the text says works.
  def reseeded(params, x, key):
    model = nnx.merge(graphdef, params, rest, copy=True)
    nnx.reseed(model, dropout=key)
    return jnp.mean(model(x) ** 2)

  run(reseeded, params, jax.random.key(0), prng_argnum=2)

  def by_rngs(params, x, key):
    model = nnx.merge(graphdef, params, rest, copy=True)
    return jnp.mean(model(x, rngs=nnx.Rngs(dropout=key)) ** 2)

  run(by_rngs, params, jax.random.key(0), prng_argnum=2)


def test_errors_of_linen_are_explained():
  grad_fn = lambda **rngs: jax_privacy.clipped_grad(
      lambda p, x: jnp.mean(_LINEN.apply(p, x, **rngs)), l2_clip_norm=1.0
  )
  rngs = {"rngs": {"dropout": jax.random.key(0)}}
  with pytest.raises(ValueError, match="batch statistics.*group or layer norm"):
    grad_fn(**rngs)(_VARIABLES, _X)
  no_norm = jax_privacy.clipped_grad(
      lambda p, x: jnp.mean(nn.Dropout(0.5, deterministic=False).apply(p, x)),
      l2_clip_norm=1.0,
  )
  with pytest.raises(ValueError, match="needs PRNG.*prng_argnum.*determinist"):
    no_norm({"params": {"w": 1.0}}, _X)


_FIELDS = dict(
    noise_multiplier=1.0,
    num_steps=5,
    sampling="poisson",
    sampling_prob=0.5,
    num_examples=10,
    max_batch_size=None,
)


def _make(mechanism=None, **changes):
  options = dict(l2_clip_norm=1.0, key=0) | changes
  loss = options.pop("loss", lambda w, x: jnp.mean(x * w))
  optimizer = options.pop("optimizer", optax.sgd(1.0))
  mechanism = mechanism or types.SimpleNamespace(**_FIELDS)
  return dp_sgd.make_private(loss, optimizer, mechanism, **options)


@pytest.mark.parametrize("field", _FIELDS)
def test_a_mechanism_without_a_field(field):
  rest = {name: v for name, v in _FIELDS.items() if name != field}
  text = rf"^{field} must be a field of the mechanism .*mechanism\.{field} ="
  with pytest.raises(ValueError, match=text):
    _make(types.SimpleNamespace(**rest))
  if field != "max_batch_size":
    with pytest.raises(ValueError, match=text):
      _make(types.SimpleNamespace(**rest, **{field: None}))
  if field != "noise_multiplier":
    with pytest.raises(ValueError, match=text):
      dp_sgd.make_sampler(types.SimpleNamespace(**rest), key=0)


def test_none_given_to_make_private_and_to_checks():
  with pytest.raises(ValueError, match="^mechanism must be .* got None"):
    dp_sgd.make_private(_loss, optax.sgd(1.0), None, l2_clip_norm=1.0, key=0)
  with pytest.raises(ValueError, match="^loss_fn must be .* got None"):
    _make(loss=None)
  for optimizer in (None, optax.sgd):
    with pytest.raises(ValueError, match="^optimizer must be an optax"):
      _make(optimizer=optimizer)
  private = _make()
  mechanism = types.SimpleNamespace(**_FIELDS)
  with pytest.raises(ValueError, match="^params must be .* got None"):
    testing.check_private(private, None, _X, mechanism=mechanism)
  with pytest.raises(ValueError, match="^batch must be .* got None"):
    testing.check_private(private, 1.0, None, mechanism=mechanism)
  with pytest.raises(ValueError, match="^mechanism must be .* got None"):
    testing.check_private(private, 1.0, _X, mechanism=None)
  with pytest.raises(ValueError, match="^noise_multiplier must be a field"):
    testing.check_private(private, 1.0, _X, mechanism=object())
  with pytest.raises(ValueError, match="^private must have .*None"):
    testing.check_private(None, 1.0, _X, mechanism=mechanism)
  with pytest.raises(ValueError, match="^optimizer must be .* got None"):
    testing.check_noise(None, {"w": _X}, stddev=1.0)
  with pytest.raises(ValueError, match="^params must be .* got None"):
    testing.check_noise(optax.sgd(1.0), None, stddev=1.0)
