"""Adding a noise, a loss or a batch strategy is one file and one line.

Each test writes a toy of its kind, as its file would, and adds its line to the
table: all commands and functions then know it.
"""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from experiments.plan import fields
from experiments.tasks import registry
from jax_privacy import dp_sgd, losses, root_key
from jax_privacy import noises as noise_table
from jax_privacy.losses import registry as loss_table


@dataclasses.dataclass(frozen=True)
class _Constant:
  """Adds the standard deviation itself; the toy of a noise."""

  is_secure: bool = False

  def privatizer(self, mechanism, *, stddev, root, grid_step):
    assert grid_step is None and isinstance(root, root_key.RootKey)
    assert mechanism.num_steps == 3
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda x: x + stddev, updates)
    )


_MECHANISM = types.SimpleNamespace(  # No class of the project's.
    num_steps=3,
    sampling="poisson",
    sampling_prob=0.5,
    num_examples=8,
    max_batch_size=None,
    noise_multiplier=2.0,
)


def _private(**options):
  return dp_sgd.make_private(
      lambda w, x: w * jnp.sum(x),
      optax.sgd(1.0),
      _MECHANISM,
      l2_clip_norm=1.0,
      key=root_key.RootKey.from_seed(0),
      check_loss=False,
      **options,
  )


@pytest.mark.parametrize("noise", ["toy", _Constant()])
def test_make_private_adds_a_toy_noise(noise, monkeypatch):
  table = dict(noise_table._NOISES) | {"toy": _Constant()}
  monkeypatch.setattr(noise_table, "_NOISES", table)
  private = _private(noise=noise)
  state = private.optimizer.init(jnp.zeros(()))
  updates, _ = private.optimizer.update(jnp.ones(()), state)
  # The noise multiplier times one example's share, 1 / (8 x 0.5); then SGD.
  assert updates == -(1.0 + 2.0 / 4)


def test_a_noise_by_name_is_that_of_the_flag():
  def update(**options):
    optimizer = _private(**options).optimizer
    state = optimizer.init(jnp.zeros(3))
    return np.asarray(optimizer.update(jnp.zeros(3), state)[0])

  def indices(**options):
    return [b.indices.tolist() for b in _private(**options).sampler]

  default, flag = update(), update(secure_random=True)
  np.testing.assert_array_equal(update(noise="gaussian"), default)
  np.testing.assert_array_equal(update(noise="secure_gaussian"), flag)
  assert not np.array_equal(default, flag)
  # A cipher's noise brings a cipher's batches.
  secure = indices(noise="secure_gaussian")
  assert secure == indices(secure_random=True) != indices()


@pytest.mark.parametrize(
    "options, text",
    [
        (
            {"noise": "laplace"},
            "noise must be one of gaussian, secure_gaussian,",
        ),
        ({"noise": 1.0}, "noise must be one of gaussian"),
        (
            {"noise": "gaussian", "secure_random": True},
            "secure_random must be F",
        ),
        ({"grid_scale": 1000}, "secure_random must be True with a grid_scale"),
    ],
)
def test_a_noise_that_does_not_fit_is_refused(options, text):
  with pytest.raises(ValueError, match=text):
    _private(**options)


# The toy of a loss: labels are one class, and views are not compared.
_HINGE = losses.Loss(
    name="toy",
    mean_fn=lambda logits, label: jnp.mean(
        jnp.maximum(0.0, 1.0 - logits[:, label])
    ),
)


@pytest.fixture
def with_loss(monkeypatch):
  monkeypatch.setattr(loss_table, "_LOSSES", (*loss_table._LOSSES, _HINGE))


def test_a_toy_loss_is_found_by_name(with_loss):
  assert losses.names() == losses.NAMES == ("softmax", "sigmoid", "toy")
  logits = jnp.array([[0.5, 3.0], [-1.0, 3.0]], jnp.bfloat16)
  loss = losses.over_views("toy")(logits, jnp.int32(0))
  assert loss == (0.5 + 2.0) / 2 and loss.dtype == jnp.float32
  for option in ("label_smoothing", "invariance_weight"):
    with pytest.raises(ValueError, match=f"{option} must be 0 for 'toy'"):
      losses.over_views("toy", **{option: 0.5})


def test_a_config_names_a_toy_loss(with_loss):
  config = common.base()
  config.data.source, config.model.name = "digits", "linear"
  config.loss.name = "toy"
  task = registry.build(**fields.task_sections(config))
  assert task.loss_config.name == "toy"
  config.task.name = "multi_label"
  with pytest.raises(ValueError, match="loss.name must be 'sigmoid' for task"):
    registry.build(**fields.task_sections(config))


class _Drawing:
  """A strategy that draws what it is given."""

  def __init__(self, indices):
    self.indices = indices

  def usual_sizes(self, num_examples):
    return (num_examples,)

  def draw_fn(self, num_examples, generator):
    return lambda generator, step: self.indices


def test_what_is_no_batch_strategy_is_refused():
  mechanism = types.SimpleNamespace(**vars(_MECHANISM), batch_strategy="toy")
  with pytest.raises(ValueError, match="batch_strategy must be what contr"):
    dp_sgd.make_sampler(mechanism, key=jax.random.key(0))


@pytest.mark.parametrize(
    "indices, rule",
    [
        ([0, 1, 1], "of different examples, got 'one that is drawn twice'"),
        ([0, 4], "indices of 4 examples, got 'one outside of them'"),
        ([-1, 0], "indices of 4 examples, got 'one outside of them'"),
        ([0.0, 1.0], "one-dimensional integers, got 'float64 of rank 1'"),
        ([[0, 1]], "one-dimensional integers, got 'int64 of rank 2'"),
    ],
)
def test_a_strategy_cannot_count_an_example_twice(indices, rule):
  mechanism = types.SimpleNamespace(
      num_steps=2,
      sampling="mine",
      sampling_prob=0.5,
      num_examples=4,
      max_batch_size=None,
      batch_strategy=_Drawing(np.array(indices)),
  )
  sampler = dp_sgd.make_sampler(mechanism, key=jax.random.key(0))
  with pytest.raises(ValueError, match=f"a batch must be {rule}"):
    sampler.batch(0)
