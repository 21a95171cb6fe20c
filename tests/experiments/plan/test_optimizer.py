"""Optimisers by name, weight decay and AGC, against updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.plan import experiment as experiment_lib
from experiments.plan import optimizer as optimizer_lib
from experiments.run import loop
from jax_privacy import agc
from tests.support import launch

_RNG = np.random.default_rng(0)
_PARAMS = {
    "conv": {
        "kernel": jnp.asarray(_RNG.normal(size=(4, 3)), jnp.float32),
        "bias": jnp.asarray(_RNG.normal(size=3), jnp.float32),
    },
    "linear": {"kernel": jnp.asarray(_RNG.normal(size=(3, 2)), jnp.float32)},
}
_STEPS = 5
_GRADS = [
    jax.tree.map(
        lambda p: jnp.asarray(_RNG.normal(size=p.shape), jnp.float32), _PARAMS
    )
    for _ in range(_STEPS)
]


def _build_optimizer(params=_PARAMS, **fields):
  fields = {"learning_rate": 0.5} | fields
  config = launch.config(**{f"train__{k}": v for k, v in fields.items()})
  return optimizer_lib.build_optimizer(config.train, _STEPS, params)


def _run(optimizer):
  """Returns the parameters after each of the given gradients."""
  params, state, iterates = _PARAMS, optimizer.init(_PARAMS), []
  update = jax.jit(optimizer.update)
  for grads in _GRADS:
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
    iterates.append(params)
  return iterates


def _assert_close(got, want, rtol=2e-6):
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6),
      got,
      want,
  )


_NAMES = "adam lamb sgd".split()
_MORE_NAMES = """adabelief adadelta adafactor adagrad adamax adamaxw adamw adan
  amsgrad fromage lars lion nadam nadamw novograd optimistic_adam_v2 radam
  rmsprop rprop sign_sgd sm3 yogi""".split()


@pytest.mark.parametrize(
    "name",
    [
        *_NAMES,
        *[pytest.param(name, marks=pytest.mark.slow) for name in _MORE_NAMES],
    ],
)
def test_an_optimizer_by_name_is_optax_s(name):
  optimizer = _build_optimizer(optimizer=name)
  want = getattr(optax, name)(learning_rate=0.5)

  @jax.jit  # One program; each of an optimiser's operations were one more.
  def two_updates(grads):
    state, found = optimizer.init(_PARAMS), []
    with jax.numpy_dtype_promotion("standard"):
      want_state = want.init(_PARAMS)
    for grad in grads:
      got, state = optimizer.update(grad, state, _PARAMS)
      with jax.numpy_dtype_promotion("standard"):
        wanted, want_state = want.update(grad, want_state, _PARAMS)
      found.append((got, wanted))
    return found

  for got, wanted in two_updates(_GRADS[:2]):
    _assert_close(got, wanted)
  assert any(np.any(np.asarray(u) != 0) for u in jax.tree.leaves(got))


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_by_hand(nesterov):
  optimizer = _build_optimizer(
      optimizer_options={"momentum": 0.9, "nesterov": nesterov}
  )
  got = _run(optimizer)[-1]["conv"]["kernel"]
  param, trace = np.float64(_PARAMS["conv"]["kernel"]), 0.0
  for grads in _GRADS:
    grad = np.float64(grads["conv"]["kernel"])
    trace = grad + 0.9 * trace
    param = param - 0.5 * (grad + 0.9 * trace if nesterov else trace)
  np.testing.assert_allclose(got, param, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("on", ["all", "matrices"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weight_decay_is_behind_the_momentum_and_times_the_rate(on, momentum):
  optimizer = _build_optimizer(
      optimizer_options={"momentum": momentum},
      schedule="linear",
      weight_decay=0.1,
      weight_decay_on=on,
  )
  got = _run(optimizer)[-1]
  for name in ("kernel", "bias"):
    decay = 0.1 if on == "all" or name == "kernel" else 0.0
    param, trace = np.float64(_PARAMS["conv"][name]), 0.0
    for t, grads in enumerate(_GRADS):
      rate = 0.5 * (1 - t / _STEPS)
      trace = np.float64(grads["conv"][name]) + momentum * trace
      param = param - rate * trace - rate * decay * param
    np.testing.assert_allclose(got["conv"][name], param, rtol=1e-5, atol=1e-6)


def test_weight_decay_beside_adam_is_adamw():
  options = {"weight_decay": 0.1, "schedule": "cosine"}
  got = _run(_build_optimizer(optimizer="adam", **options))
  own = _build_optimizer(
      optimizer="adamw",
      optimizer_options={"weight_decay": 0.1},
      schedule="cosine",
  )
  _assert_close(got, _run(own), rtol=1e-4)


def _agc_by_hand(grad, param, clipping, axis):
  """The paper's: a unit's norm is over the axes that lead into it."""
  norm = np.sqrt(np.sum(grad**2, axis=axis, keepdims=True))
  size = np.sqrt(np.sum(param**2, axis=axis, keepdims=True))
  largest = clipping * np.maximum(size, 1e-3)
  return grad * np.minimum(1.0, largest / np.maximum(norm, 1e-6))


def test_agc_is_before_momentum_and_decay_and_leaves_the_head_out():
  clipping = 0.05
  optimizer = _build_optimizer(
      optimizer_options={"momentum": 0.9},
      agc_clipping=clipping,
      weight_decay=0.2,
  )
  got = _run(optimizer)[-1]
  for path, axis in (
      (("conv", "kernel"), 0),
      (("conv", "bias"), None),
      (("linear", "kernel"), "none"),
  ):
    module, name = path
    param, trace = np.float64(_PARAMS[module][name]), 0.0
    for grads in _GRADS:
      grad = np.float64(grads[module][name])
      if axis != "none":
        clipped = _agc_by_hand(grad, param, clipping, axis)
        # Else the test could not tell a missing AGC.
        assert np.linalg.norm(clipped) < 0.5 * np.linalg.norm(grad)
        grad = clipped
      trace = grad + 0.9 * trace
      param = param - 0.5 * trace - 0.5 * 0.2 * param
    np.testing.assert_allclose(got[module][name], param, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_noise_is_added_once_and_before_agc():
  """Nothing of a step of training is left that AGC has not bounded."""
  config = launch.config(
      dp__noise_multiplier=50.0, train__agc_clipping=0.01, train__num_steps=1
  )
  experiment = experiment_lib.build(config)
  state = loop.init_state(experiment)
  before = jax.device_get(state.params)
  state, _ = next(loop.train(experiment, state))
  rate = config.train.learning_rate
  for name, layer in state.params.items():
    for key in layer:
      # By unit as optax has them; of a bias, the whole.
      moved = np.asarray(layer[key]) - before[name][key]
      axis = tuple(range(moved.ndim - 1)) if moved.ndim > 1 else None
      most = (
          0.01
          * rate
          * np.maximum(np.sqrt(np.sum(before[name][key] ** 2, axis)), 1e-3)
      )
      norm = np.sqrt(np.sum(moved**2, axis))
      if name == "linear":
        assert norm.min() > 10 * most.max()  # Noise of 50 x 1 / 16.
      else:
        assert np.all(norm <= most * 1.01 + 1e-6), (name, key)


def test_agc_where_the_head_is_frozen_or_alone():
  body = {"conv": _PARAMS["conv"]}
  optimizer = _build_optimizer(body, agc_clipping=0.01, train_only=r"conv\..*")
  grads = {"conv": _GRADS[0]["conv"]}
  got, _ = optimizer.update(grads, optimizer.init(body), body)
  clip = agc.adaptive_grad_clip(clipping=0.01, exclude=None)
  want, _ = clip.update(grads, clip.init(body), body)
  _assert_close(got, jax.tree.map(lambda g: -0.5 * g, want))
  head = {"linear": _PARAMS["linear"]}
  with pytest.raises(ValueError, match="agc_clipping must be None where only"):
    _build_optimizer(head, agc_clipping=0.01, train_only=r"linear\..*")
  with pytest.raises(ValueError, match="train.agc_clipping: exclude must be"):
    _build_optimizer(body, agc_clipping=0.01)  # What is the final layer?


# Optax's own, of dpsgd.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "fields, message",
    [
        ({"optimizer": "lbfgs"}, "lbfgs with {}, must be .*parameters alone"),
        ({"optimizer": "polyak_sgd"}, "must be the name of an optax optimiser"),
        (
            {
                "optimizer": "dpsgd",
                "optimizer_options": {
                    "l2_norm_clip": 1.0,
                    "noise_multiplier": 1.0,
                    "seed": 0,
                },
            },
            "dpsgd with .*, must be without noise and clipping of examples",
        ),
        (
            {"optimizer": "noisy_sgd", "optimizer_options": {"key": 0}},
            "noisy_sgd with .*, must be without noise.*got optax.add_noise",
        ),
        (
            {"optimizer": "scale_by_learning_rate"},
            "must be the name of an opta",
        ),
        ({"optimizer": "linear_schedule"}, "must be the name of an optax opti"),
        ({"optimizer": "softmax_cross_entropy"}, "must be the name of an opta"),
        (
            {"optimizer_options": {"momentum": "high"}},
            "sgd with .*high.*, must be one that needs",
        ),
        (
            {"optimizer_options": {"momentun": 0.9}},
            "must fit optax.sgd.*momentun",
        ),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        (
            {"weight_decay_on": "norms"},
            "weight_decay_on must be one of all, ma",
        ),
        (
            {"weight_decay": 0.1, "optimizer": "adamw"},
            "must be 0.0 with another weight decay, got 0.1 with.*0.0001",
        ),
        ({"agc_clipping": -1.0}, "agc_clipping must be positive, got -1.0"),
    ],
)
def test_wrong_fields_are_named(fields, message):
  with pytest.raises(ValueError, match=message) as raised:
    _build_optimizer(**fields)
  assert "\n" not in str(raised.value)


def test_two_weight_decays_are_one_where_the_other_is_zero():
  got = _build_optimizer(
      optimizer="adamw",
      optimizer_options={"weight_decay": 0.0},
      weight_decay=0.1,
  )
  want = _build_optimizer(optimizer="adam", weight_decay=0.1)
  _assert_close(_run(got), _run(want), rtol=1e-5)
