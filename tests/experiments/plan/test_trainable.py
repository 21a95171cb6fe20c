"""train.train_only: what is frozen takes no part, and what is trained all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util

from experiments.audits import canaries
from experiments.plan import averages, trainable
from experiments.plan import experiment as experiment_lib
from experiments.run import loop
from jax_privacy import models
from jax_privacy import views as views_lib
from jax_privacy.models import layers
from tests.support import launch

_HEAD = r"linear\..*"
_ALL_BUT_NORMS = r"(?!(.*\.)?norm(_\d+)?\.).*"
_CLIP_NORM = 7.8


def _config(**fields):
  return launch.config(
      **{
          "train__train_only": _HEAD,
          "dp__l2_clip_norm": _CLIP_NORM,
          "model__options": {"channels": (4, 8)},
          **fields,
      }
  )


def _grads(experiment, rows=8):
  """The clipped sum over the first examples, the last of them padding."""
  batch = experiment.train_source[np.arange(rows)]
  trained, frozen = experiment.partition.split(experiment.model.params)
  keys = views_lib.example_keys(
      experiment.augment_key, step=0, indices=jnp.arange(rows)
  )
  args = (trained, batch, keys, frozen)
  is_padding = np.arange(rows) == rows - 1
  return args, is_padding


def _head_by_hand(experiment, images, labels):
  """Logistic regression on the frozen features, and each example's norm."""
  model, params = experiment.model.network, experiment.model.params
  standardised = model.standardise_fn(images)
  weights = np.asarray(params["linear"]["kernel"])
  features, apply_fn = [], jax.jit(model.apply_fn)
  # What the frozen part gives, read off ten at a time with weights of 0 and 1.
  for start in range(0, len(weights), 10):
    unit = np.zeros_like(weights)
    rows = np.arange(start, min(start + 10, len(weights)))
    unit[rows, rows - start] = 1.0
    probe = {**params, "linear": {"kernel": unit, "bias": np.zeros(10, "f")}}
    logits = apply_fn(jax.tree.map(jnp.asarray, probe), standardised)
    features.append(np.asarray(logits)[:, : len(rows)])
  features = np.concatenate(features, axis=1).astype(np.float64)
  logits = features @ weights + np.asarray(params["linear"]["bias"])[None]
  logits -= logits.max(axis=1, keepdims=True)
  errors = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  errors[np.arange(len(labels)), labels] -= 1.0
  norms = np.sqrt((np.sum(features**2, 1) + 1.0) * np.sum(errors**2, 1))
  return features, errors, norms


def test_the_clipped_sum_is_that_of_the_head_alone_by_hand():
  experiment = experiment_lib.build(_config())
  (trained, batch, keys, frozen), is_padding = _grads(experiment)
  images, labels = batch["image"], batch["label"]
  grads, _ = jax.jit(experiment.dp_training.grad_fn)(
      trained, batch, keys, frozen, is_padding_example=is_padding
  )
  assert set(grads) == {"linear"}
  features, errors, norms = _head_by_hand(experiment, images, labels)
  # Some are clipped and some are not, so that norms matter.
  assert norms.min() < _CLIP_NORM < norms.max()
  factor = np.minimum(1.0, _CLIP_NORM / norms) / _CLIP_NORM / 16
  factor[is_padding] = 0.0
  want = {
      "kernel": features.T @ (errors * factor[:, None]),
      "bias": np.sum(errors * factor[:, None], axis=0),
  }
  for name, value in want.items():
    np.testing.assert_allclose(
        grads["linear"][name], value, rtol=1e-4, atol=1e-6
    )
  # All parameters together have larger norms: were these what is clipped, the
  # head's share of the sum would be another.
  whole = experiment_lib.build(_config(train__train_only=None))
  (params, *_, nothing), _ = _grads(whole)
  assert not jax.tree.leaves(nothing)
  total, _ = jax.jit(whole.dp_training.grad_fn)(
      params, batch, keys, nothing, is_padding_example=is_padding
  )
  kernel = np.asarray(total["linear"]["kernel"])
  assert np.abs(kernel - want["kernel"]).max() > 0.01 * np.abs(kernel).max()


def _sizes(tree):
  leaves = jax.tree.leaves(tree)
  return sum(x.size for x in leaves if jnp.issubdtype(x.dtype, jnp.floating))


def test_what_is_frozen_keeps_its_bits_and_has_no_state():
  experiment = experiment_lib.build(
      _config(
          train__optimizer_options={"momentum": 0.9},
          train__weight_decay=0.5,
          train__ema_decays=(0.5, 0.9),
          train__num_steps=2,
      )
  )
  state = loop.init_state(experiment)
  num_trained = models.num_parameters(state.params["linear"])
  assert _sizes(state.opt_state) == num_trained  # The momentum.
  assert _sizes(state.averages) == 2 * num_trained
  before = traverse_util.flatten_dict(jax.device_get(state.params))
  *_, (state, _) = loop.train(experiment, state)
  after = traverse_util.flatten_dict(jax.device_get(state.params))
  assert before.keys() == after.keys()
  for path, value in after.items():
    is_same = value.tobytes() == before[path].tobytes()
    assert is_same == (path[0] != "linear"), path
  averaged = averages.by_name(state.params, state.averages)["ema_0.9"]
  averaged = traverse_util.flatten_dict(jax.device_get(averaged))
  assert averaged.keys() == after.keys()
  for path, value in averaged.items():
    is_last = value.tobytes() == after[path].tobytes()
    assert is_last == (path[0] != "linear"), path


def test_a_frozen_body_costs_no_backward_pass():
  """There are no more convolutions in the program than in a forward pass."""

  def num_convolutions(experiment):
    args, is_padding = _grads(experiment)

    def run(*args):
      return experiment.dp_training.grad_fn(
          *args, is_padding_example=is_padding
      )

    return str(jax.make_jaxpr(run)(*args)).count("conv_general_dilated[")

  assert num_convolutions(experiment_lib.build(_config())) == 2
  # With a body to train, cotangents go back through the second at least.
  whole = experiment_lib.build(_config(train__train_only=None))
  assert num_convolutions(whole) > 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "canary", [pytest.param("dirac", marks=pytest.mark.slow), "clipped"]
)
def test_an_audit_looks_at_what_is_trained(canary):
  config = canaries.add_to_config(
      _config(train__num_steps=1), canary=canary, num_canaries=20
  )
  experiment = canaries.build(config)
  before = jax.device_get(experiment.model.params)
  state = loop.init_state(experiment)
  *_, (state, _) = loop.train(experiment, state)
  scores = experiment.canaries.score_fn(state)
  assert np.isfinite(scores).all() and np.any(scores != 0)
  for path, value in traverse_util.flatten_dict(before).items():
    now = np.asarray(traverse_util.flatten_dict(state.params)[path])
    is_same = now.tobytes() == value.tobytes()
    assert is_same == (path[0] not in ("linear", "canaries")), path


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(2, 1), (1, 2)])
def test_a_mesh_changes_no_more_than_rounding(mesh, tmp_path):
  paths = {"one": (1, 1), "mesh": mesh}
  params = {}
  for name, (data, fsdp) in paths.items():
    process = launch.command(
        "experiments.train",
        "--config=configs/digits_cnn.py:smoke=True",
        f"--config.train.train_only={_HEAD}",
        f"--config.mesh.data={data}",
        f"--config.mesh.fsdp={fsdp}",
        f"--workdir={tmp_path / name}",
    )
    assert process.returncode == 0, process.stderr
    config = launch.config(train__train_only=_HEAD)
    initial = experiment_lib.build(config).model.params
    _, params[name], _ = averages.restore(
        tmp_path / name / "checkpoints", config.train, initial
    )
  one, many = (
      traverse_util.flatten_dict(params[name]["ema"]) for name in paths
  )
  for path, value in one.items():
    # As in test_mesh.py: sums in another order.
    np.testing.assert_allclose(many[path], value, rtol=1e-4, atol=1e-5)
    if path[0] != "linear":
      assert np.asarray(many[path]).tobytes() == np.asarray(value).tobytes()


_MODELS = {
    "cnn_small": ({}, (8, 8, 1)),
    "cnn_tanh": ({}, (28, 28, 1)),
    "wide_resnet": ({"depth": 10, "width": 1}, (32, 32, 3)),
    "nf_resnet": ({}, (64, 64, 3)),
    "nfnet": ({}, (64, 64, 3)),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("name", models.names())
def test_the_documented_expressions_name_what_they_say(name):
  options, image_shape = _MODELS.get(name, ({}, (32, 32, 3)))
  module = nnx.eval_shape(
      lambda: models.build(
          name,
          rngs=nnx.Rngs(0),
          num_classes=10,
          image_shape=image_shape,
          **options,
      )
  )
  params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
  # "0" for 0, as `models.functional` has it.
  flat = traverse_util.flatten_dict(params)
  params = traverse_util.unflatten_dict(
      {tuple(map(str, path)): leaf for path, leaf in flat.items()}
  )
  layer = "linear_1" if name == "cnn_tanh" else "linear"
  head, _ = trainable.Partition(rf"{layer}\..*").split(params)
  assert head == {layer: params[layer]}
  norms = {
      ".".join(map(str, path))
      for path, member in nnx.iter_modules(module)
      if isinstance(member, layers.GroupNorm)
  }
  trained, frozen = trainable.Partition(_ALL_BUT_NORMS).split(params)
  parents = {".".join(path[:-1]) for path in traverse_util.flatten_dict(frozen)}
  assert parents == norms
  assert not any(
      ".".join(path[:-1]) in norms
      for path in traverse_util.flatten_dict(trained)
  )
  both = trainable.merge(trained, frozen)
  assert jax.tree.structure(both) == jax.tree.structure(params)


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("linear", r"match the whole path of some.*such as.*, got 'linear'"),
        (r"head\..*", r"one of 10, such as conv_0\.bias"),
        ("(", "must be a regular expression, got '\\('"),
        ("", "must match the whole path"),
    ],
)
def test_a_pattern_that_trains_nothing_is_refused(pattern, message):
  with pytest.raises(ValueError, match=message):
    experiment_lib.build(_config(train__train_only=pattern))
