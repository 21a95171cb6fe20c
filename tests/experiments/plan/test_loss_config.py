"""The loss that a config names: built, trained by the launcher, refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import train
from experiments.audits import canaries
from experiments.plan import experiment as experiment_lib
from experiments.run import workdir as workdir_lib
from experiments.tasks.images import sources
from jax_privacy import data
from tests.support import launch, radiograph_sets

_NUM_PATIENTS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("chexpert")
  return radiograph_sets.make_chexpert(path, num_patients=_NUM_PATIENTS)


def _chexpert_config(folder, **fields):
  return launch.config(
      **{
          "data__source": "chexpert",
          "data__options": {"path": str(folder), "uncertain": "ignore"},
          "data__train_split": "train+valid",
          "data__num_examples": _NUM_PATIENTS,
          "model__options": {"channels": (4, 4)},
          "task__name": "multi_label",
          "loss__name": "sigmoid",
          "train__num_steps": 2,
          "train__expected_batch_size": 8.0,
          "eval__num_examples": None,
          **fields,
      }
  )


def _fit(config, path):
  """Trains as the command does, without the summary."""
  workdir = workdir_lib.Workdir(path)
  experiment = experiment_lib.build(config)
  workdir.claim(config)
  return train.fit(experiment, workdir)


@pytest.mark.slow
def test_several_labels_are_trained_through_the_launcher(folder, tmp_path):
  config = _chexpert_config(folder, log_every=1)
  experiment, state, _ = _fit(config, tmp_path / "run")
  assert experiment.train_source.is_multi_label
  assert experiment.model.network.apply_fn(
      state.params, jnp.zeros((1, 8, 8, 1))
  ).shape == (1, 14)
  assert int(state.step) == 2
  before = experiment_lib.build(config).model.params
  moved = jax.tree.map(
      lambda a, b: float(abs(a - b).max()), before, state.params
  )
  assert all(size > 0 for size in jax.tree.leaves(moved))
  lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  loss = json.loads(lines[0])["private_not_for_release"]["loss"]
  # A mean over labels, of an untrained model: near log(2), not 14 times that.
  assert 0.3 < loss < 1.5


@pytest.mark.slow
def test_padding_of_several_labels_moves_nothing_even_where_none_masks_it(
    folder,
):
  experiment = experiment_lib.build(_chexpert_config(folder))
  indices = np.array([3, 5, -1, -1])
  batch = experiment.train_source[indices]
  grad_fn = jax.jit(experiment.dp_training.grad_fn)
  args = experiment.model.params, batch
  keys = jax.random.split(jax.random.key(0), len(indices))
  unmasked, aux = grad_fn(*args, keys, is_padding_example=np.zeros(4, bool))
  masked, _ = grad_fn(*args, keys, is_padding_example=indices < 0)
  jax.tree.map(np.testing.assert_array_equal, unmasked, masked)
  values = np.asarray(aux.values)
  assert values[:2].all()
  assert not values[2:].any()


@pytest.mark.slow
def test_views_that_differ_cost_more_under_the_invariance_weight():
  fields = {
      "augment__names": ("crop",),
      "augment__options": {"pad": 2},
      "augment__num_views": 3,
  }
  losses = []
  for weight in (0.0, 1.0, 2.0):
    config = launch.config(loss__invariance_weight=weight, **fields)
    experiment = experiment_lib.build(config)
    batch = experiment.train_source[np.array([0])]
    losses.append(
        jax.jit(experiment.model.loss_fn)(
            experiment.model.params,
            jax.tree.map(lambda x: x[0], batch),
            jax.random.key(0),
        )
    )
  assert losses[0] < losses[1] < losses[2]
  np.testing.assert_allclose(
      losses[2] - losses[1], losses[1] - losses[0], rtol=1e-3
  )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"loss__name": "softmax"},
            "loss.name must be 'sigmoid' for task 'multi_label', got 'softmax'",
        ),
        (
            {"loss__name": "softmax", "task__name": "classification"},
            "task.name must be 'multi_label' for a source of several labels",
        ),
        ({"loss__label_smoothing": 0.1}, "label_smoothing must be 0 for 'sig"),
        ({"loss__invariance_weight": 0.5}, "must be 0 where augment.num_views"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(folder, fields, text):
  with pytest.raises(ValueError, match=text):
    experiment_lib.build(_chexpert_config(folder, **fields))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "loss.name must be 'softmax' for task 'classification'"),
        (
            {"task__name": "multi_label"},
            "task.name must be 'classification' for a source of one class",
        ),
    ],
)
def test_a_sigmoid_loss_of_one_class_an_example_is_refused(fields, text):
  with pytest.raises(ValueError, match=text):
    experiment_lib.build(launch.config(loss__name="sigmoid", **fields))


def test_splits_of_different_kinds_of_labels_are_refused(folder, monkeypatch):
  def one_label(
      data_config,
      split,
      *,
      augment_config,
      num_examples=None,
      for_evaluation=False,
  ):
    source = data.load(
        "chexpert", path=folder, split="train+valid", num_examples=num_examples
    )
    source.is_multi_label = not for_evaluation
    return source

  monkeypatch.setattr(sources, "build_source", one_label)
  with pytest.raises(
      ValueError, match="data.test_split: task.name must be 'classification'"
  ):
    experiment_lib.build(_chexpert_config(folder))


def test_canaries_of_one_label_are_refused(folder):
  config = canaries.add_to_config(
      _chexpert_config(folder), canary="input", num_canaries=20
  )
  with pytest.raises(ValueError, match="canary must be 'dirac', 'random_dir"):
    canaries.build(config)


def test_canaries_that_need_no_label_take_any_labels(folder):
  config = canaries.add_to_config(
      _chexpert_config(folder), canary="dirac", num_canaries=20
  )
  assert canaries.build(config).train_source.is_multi_label
  config = canaries.add_to_config(
      _chexpert_config(folder), canary="clipped", num_canaries=20
  )
  source = canaries.build(config).train_source
  batch = source[np.array([0, _NUM_PATIENTS + 3])]
  assert batch["canary"].tolist() == [-1, 3]
  assert batch["example"]["label"].shape == (2, 14)
