"""Optimisers behind the noise: which are refused, when, and which pass."""

import types

import jax
import jax.numpy as jnp
import optax
import pytest

from jax_privacy import dp_sgd, noise_addition, post_processing

# Optax's own, of how dpsgd calls what is below it.
pytestmark = pytest.mark.filterwarnings("ignore:.*seed:DeprecationWarning")

_PARAMS = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
_MECHANISM = types.SimpleNamespace(
    noise_multiplier=1.0,
    num_steps=5,
    sampling="poisson",
    sampling_prob=0.5,
    num_examples=8,
    max_batch_size=None,
)


def _make(optimizer):
  return dp_sgd.make_private(
      lambda params, x: jnp.sum(x @ params["w"] + params["b"]),
      optimizer,
      _MECHANISM,
      l2_clip_norm=1.0,
      key=0,
  ).optimizer


def _noisy():
  return optax.noisy_sgd(0.1, 0.01, 0.55, 0)


def _dpsgd():
  return optax.contrib.dpsgd(0.1, 1.0, 1.0, 0)


def _by_name(make):
  """For trees with the user's own names alone."""
  return optax.partition(
      {"a": optax.sgd(0.1), "b": make()}, {"w": "a", "b": "b"}
  )


def _gaussian():
  return noise_addition.gaussian_privatizer(stddev=1.0, prng_key=0)


def _mean_over_the_first_axis():
  return optax.stateless(lambda u, _: jax.tree.map(lambda g: g.mean(0), u))


def _noise_of_ones_own():
  def update(updates, state, params=None):
    del params
    key, state = jax.random.split(state)
    noised = lambda g: g + jax.random.normal(key, g.shape)
    return jax.tree.map(noised, updates), state

  return optax.GradientTransformation(lambda _: jax.random.key(0), update)


_OWN_NOISE = "optimizer must be without noise and clipping.*optax.add_noise"
_OWN_CLIP = "optimizer must be without noise.*differentially_private_aggregate"
_ALONE = "optimizer must be one that needs the noised gradient and the param"
_BEFORE_PARAMS = {
    "dpsgd": (_dpsgd, _OWN_CLIP),
    "aggregate": (
        lambda: optax.contrib.differentially_private_aggregate(1.0, 1.0, 0),
        _OWN_CLIP,
    ),
    "add_noise": (lambda: optax.add_noise(0.1, 0.5, 0), _OWN_NOISE),
    "correlated noise": (
        lambda: noise_addition.matrix_factorization_privatizer(
            [[1.0]], stddev=1.0, prng_key=0
        ),
        "got noise_addition.matrix_factorization_privatizer",
    ),
    "noisy_sgd": (_noisy, _OWN_NOISE),
    "in a chain": (
        lambda: optax.chain(optax.clip(1.0), optax.add_noise(0.1, 0.5, 0)),
        _OWN_NOISE,
    ),
    "in a chain in a chain": (
        lambda: optax.chain(optax.ema(0.9), optax.chain(_dpsgd())),
        _OWN_CLIP,
    ),
    "with injected hyperparameters": (
        lambda: optax.inject_hyperparams(
            lambda rate: optax.noisy_sgd(rate, 0.01, 0.55, 0)
        )(rate=0.1),
        _OWN_NOISE,
    ),
    "in MultiSteps": (lambda: optax.MultiSteps(_noisy(), 2), _OWN_NOISE),
    "in apply_if_finite": (
        lambda: optax.apply_if_finite(_noisy(), 3),
        _OWN_NOISE,
    ),
    "in a lookahead": (lambda: optax.lookahead(_noisy(), 5, 0.5), _OWN_NOISE),
    "noise that jax-privacy's users add": (
        lambda: optax.chain(_gaussian(), optax.sgd(0.1)),
        "must be without noise.*noise_addition.gaussian_privatizer",
    ),
    "noise of one's own": (_noise_of_ones_own, "got a transformation that dra"),
    "a clip of one's own": (
        _mean_over_the_first_axis,
        "whose update has the parameters' shapes.*got .* for params",
    ),
    "lbfgs": (optax.lbfgs, _ALONE + ".*linesearch.*'value'"),
    "polyak_sgd": (optax.polyak_sgd, _ALONE + ".*got scale_by_polyak"),
    "reduce_on_plateau": (
        lambda: optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
        _ALONE + ".*got reduce_on_plateau",
    ),
    "momo": (optax.contrib.momo, _ALONE + ".*got .*[mM]omo"),
    "a line search": (
        lambda: optax.scale_by_backtracking_linesearch(5),
        _ALONE + ".*got scale_by_backtracking_linesearch",
    ),
    "sophia": (lambda: optax.contrib.sophia(0.1), _ALONE + ".*obj_fn"),
    "no optimiser": (lambda: optax.sgd, "must be an optax.GradientTransf"),
}
_WITH_PARAMS = {
    "noise for some parameters": (lambda: _by_name(_noisy), _OWN_NOISE),
    "clipping for some parameters": (lambda: _by_name(_dpsgd), _OWN_CLIP),
    "a value for some parameters": (
        lambda: optax.masked(optax.polyak_sgd(), {"w": True, "b": False}),
        _ALONE,
    ),
    "opaque SAM": (
        lambda: optax.contrib.sam(
            optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True
        ),
        _ALONE + ".*grad_fn",
    ),
}


@pytest.mark.parametrize(
    "make, message", _BEFORE_PARAMS.values(), ids=_BEFORE_PARAMS
)
def test_refused_at_construction(make, message):
  with pytest.raises(ValueError, match=message) as raised:
    _make(make())
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "make, message", _WITH_PARAMS.values(), ids=_WITH_PARAMS
)
@pytest.mark.parametrize("jitted", [False, True])
def test_refused_once_there_are_parameters(make, message, jitted):
  init = _make(make()).init
  with pytest.raises(ValueError, match=message):
    (jax.jit(init) if jitted else init)(_PARAMS)


_PASS = {
    **{
        name: lambda name=name: getattr(optax, name)(0.1)
        for name in "adabelief adafactor adagrad adam adamw lamb lion radam"
        " rmsprop sgd yogi".split()
    },
    "prodigy": optax.contrib.prodigy,
    "muon": lambda: optax.contrib.muon(0.1),
    "schedule_free": lambda: optax.contrib.schedule_free_adamw(0.1),
    "MultiSteps": lambda: optax.MultiSteps(optax.adam(0.1), 2),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adam(0.1), 3),
    "lookahead": lambda: optax.lookahead(optax.sgd(0.1), 5, 0.5),
    "masked": lambda: optax.masked(optax.adam(0.1), {"w": True, "b": False}),
    "partition": lambda: _by_name(optax.set_to_zero),
    "inject": lambda: optax.inject_hyperparams(optax.sgd)(
        learning_rate=optax.linear_schedule(1.0, 0.0, 5)
    ),
    "the user's names": lambda: optax.stateless(
        lambda u, _: {"w": -u["w"], "b": 0 * u["b"]}
    ),
}


@pytest.mark.parametrize("make", _PASS.values(), ids=_PASS)
def test_passes(make):
  optimizer = post_processing.checked(make())
  params = _PARAMS
  if make is _PASS["lookahead"]:
    params = optax.LookaheadParams.init_synced(params)
  with jax.numpy_dtype_promotion("standard"):
    jax.eval_shape(optimizer.init, params)


def test_the_checked_optimiser_is_the_given_one():
  given = optax.sgd(0.1, momentum=0.9)
  optimizer = post_processing.checked(given)
  state = given.init(_PARAMS)
  assert jax.tree.structure(state) == jax.tree.structure(
      optimizer.init(_PARAMS)
  )
  want = given.update(_PARAMS, state, _PARAMS)
  got = optimizer.update(_PARAMS, state, _PARAMS)
  assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), got, want))


def test_an_update_takes_no_loss():
  optimizer = _make(optax.sgd(0.1))
  state = optimizer.init(_PARAMS)
  for name in ("value", "grad", "value_fn", "grad_fn", "obj_fn", "loss"):
    with pytest.raises(ValueError, match=f"^{name} must be left out of update"):
      optimizer.update(_PARAMS, state, _PARAMS, **{name: 1.0})
