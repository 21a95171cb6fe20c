"""Runs that begin with parameters from elsewhere, or refuse to."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
from flax import nnx

from accounting import budget
from experiments import train
from experiments.evaluation import final
from experiments.plan import experiment as experiment_lib
from experiments.plan import restore as restore_lib
from experiments.run import plain, resume
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from jax_privacy import averaging, checkpoint, models
from jax_privacy.models import haiku, saved
from tests.support import fuzz, launch

_HEAD = (r"linear\..*",)


def _params(seed, num_classes=10):
  model = models.build(
      "cnn_small",
      rngs=nnx.Rngs(seed),
      num_classes=num_classes,
      channels=(4, 4),
  )
  return models.functional(model)[1]


def _config(path, **restore):
  fields = {f"model__restore__{k}": v for k, v in restore.items()}
  return launch.config(model__restore__path=str(path), **fields)


def _equal(a, b):
  return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def _npz(path, params=None, **arrays):
  """Writes by NumPy alone, not by the code under test."""
  flat = {} if params is None else jax.device_get(saved.flatten(params))
  np.savez(path, **(flat | arrays))
  return path


def test_a_file_of_our_names(tmp_path):
  theirs, fresh = _params(1), _params(2)
  path = _npz(tmp_path / "a.npz", theirs)
  got, origin = restore_lib.initial_params(_config(path).model, fresh)
  assert _equal(got, theirs) and not _equal(got, fresh)
  # What was taken over, by name: shapes, kinds and bits.
  digest = checkpoint.tree_sha256(saved.flatten(theirs))
  assert origin == {
      "path": "a.npz",
      "format": "npz",
      "params": None,
      "reset": [],
      "sha256": digest,
  }


def test_other_classes_are_reset_or_refused(tmp_path):
  theirs, fresh = _params(1, num_classes=5), _params(2)
  path = _npz(tmp_path / "a.npz", theirs)
  with pytest.raises(ValueError, match=r"linear.bias .*\[10\], got \[5\]"):
    restore_lib.initial_params(_config(path).model, fresh)
  got, origin = restore_lib.initial_params(
      _config(path, reset=_HEAD).model, fresh
  )
  assert _equal(got["conv_0"], theirs["conv_0"])
  assert _equal(got["linear"], fresh["linear"])
  # A fresh head may come of a secret seed: it is not in what is published.
  _, again = restore_lib.initial_params(
      _config(path, reset=_HEAD).model, _params(3)
  )
  assert origin["reset"] == list(_HEAD) and again == origin


def _run(path, theirs, average):
  state = averaging.ema(0.9).init(average)
  folder = pathlib.Path(path) / "checkpoints"
  with checkpoint.Checkpoints(folder) as checkpoints:
    checkpoints.save(
        3, {"params": theirs, "averages": {"ema": state, "polyak": state}}
    )
  return path


@pytest.mark.slow
def test_a_run_of_other_classes(tmp_path):
  theirs, average = _params(1, num_classes=5), _params(2, num_classes=5)
  path = _run(tmp_path / "run", theirs, average)
  wanted = {"last": theirs, "ema": average, "polyak": average}
  for name, want in wanted.items():
    for place in (path, path / "checkpoints"):
      config = _config(place, params=name, reset=_HEAD)
      got, origin = restore_lib.initial_params(config.model, _params(3))
      assert _equal(got["conv_1"], want["conv_1"])
      assert (origin["format"], origin["params"]) == ("run", name)
  with pytest.raises(ValueError, match="one of last, ema, polyak in .*'best'"):
    restore_lib.initial_params(
        _config(path, params="best", reset=_HEAD).model, _params(3)
    )


def test_a_run_that_trained_a_part(tmp_path):
  theirs, average = _params(1), _params(2)
  head = {"linear": average["linear"]}
  path = _run(tmp_path / "run", theirs, head)
  got, _ = restore_lib.initial_params(_config(path).model, _params(3))
  assert _equal(got, theirs | head)


def test_a_damaged_run_is_not_read(tmp_path):
  path = _run(tmp_path / "run", _params(1), _params(1))
  # The record says what the bits were; the bits say otherwise.
  record = next((path / "checkpoints/3/record").glob("metadata"))
  text = record.read_text()
  record.write_text(text.replace("[10]", "[11]", 1))
  with pytest.raises(ValueError, match="must hold a readable checkpoint"):
    restore_lib.initial_params(_config(path).model, _params(3))


def test_a_file_of_haikus_names(tmp_path):
  shapes = nnx.eval_shape(
      lambda: models.build("wide_resnet", rngs=nnx.Rngs(0), depth=10, width=1)
  )
  rng = np.random.default_rng(0)
  theirs = jax.tree.map(
      lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
      nnx.to_pure_dict(nnx.state(shapes, nnx.Param)),
  )
  table = haiku.names("wide_resnet", theirs)
  flat = saved.flatten(theirs)
  path = _npz(tmp_path / "a.npz", **{table[k]: v for k, v in flat.items()})
  config = _config(path)
  config.model.name = "wide_resnet"
  got, origin = restore_lib.initial_params(
      config.model, jax.tree.map(np.zeros_like, theirs)
  )
  assert _equal(got, theirs) and origin["format"] == "haiku"
  config.model.restore.format = "npz"
  with pytest.raises(ValueError, match="missing and wide_res_net"):
    restore_lib.initial_params(config.model, theirs)


def _write(path, content):
  path.write_bytes(content)
  return path


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: p / "none.npz", "no regular file"),
        (lambda p: p, "must hold a run's checkpoint"),
        (lambda p: _write(p / "a.dill", b"\x80\x04."), "never a pickle"),
        (lambda p: _write(p / "a.npz", b"PK\x03\x04"), "readable .npz file"),
        (lambda p: _npz(p / "a.npz"), "conv_0.bias.*missing"),
        (
            lambda p: _npz(p / "a.npz", _params(1), more=np.zeros(3)),
            "got none missing and more unknown",
        ),
        (
            lambda p: _npz(p / "a.npz", _params(1), **{"linear/w": np.ones(1)}),
            "to take Haiku's parameters, got 'cnn_small'",
        ),
    ],
)
def test_what_cannot_be_restored_is_refused(make, message, tmp_path):
  config = _config(make(tmp_path))
  with pytest.raises(ValueError, match=message) as raised:
    restore_lib.initial_params(config.model, _params(1))
  fuzz.assert_clear(raised.value)


class _Program:
  """What a pickle may hold: it would run."""

  def __reduce__(self):
    return (pytest.fail, ("it was unpickled",))


def test_objects_in_an_archive_are_never_unpickled(tmp_path):
  flat = jax.device_get(saved.flatten(_params(1)))
  flat["linear.bias"] = np.array([_Program()], object)
  path = tmp_path / "a.npz"
  np.savez(path, **flat)
  with pytest.raises(ValueError, match="'linear.bias' of .* must be"):
    restore_lib.initial_params(_config(path).model, _params(1))


def _recipe(arg="smoke=True", **fields):
  """The recipe in small, with a model that compiles in no time."""
  config = launch.config("digits_finetune", arg, **fields)
  with config.unlocked():
    config.model.name = "cnn_small"
    config.model.options = {"channels": (4, 4)}
  return config


def _pretrained(path, seed=0):
  config = _recipe("stage=pretrain,smoke=True", seed=seed)
  params = plain.pretrain(config)
  assert 0 <= final.of_params(config, params)["accuracy"] <= 1
  plain.save(path, params)
  return params


@pytest.mark.slow
def test_the_whole_way(tmp_path, capsys):
  path = tmp_path / "digits_0_to_4.npz"
  theirs = _pretrained(path)
  # The recipe's own smoke run begins afresh, so that it needs no file.
  fine = _recipe(model__restore__path=str(path))
  experiment = experiment_lib.build(fine)
  assert _equal(experiment.model.params["conv_0"], theirs["conv_0"])
  summary = launch.run(fine, tmp_path / "run")
  assert summary["restored_from"] == experiment.restored_from
  assert summary["restored_from"]["path"] == path.name
  capsys.readouterr()
  summary_lib.show(summary)
  assert "began with the parameters of digits_0_to_4" in capsys.readouterr().out
  assert budget.main(["report", str(tmp_path / "run")]) == 0
  report = capsys.readouterr().out
  assert "training began with parameters from elsewhere" in report
  assert summary["restored_from"]["sha256"] in report
  _refuses_another_start(fine, path, tmp_path / "run")


def _refuses_another_start(config, path, run):
  """A run's steps are not taken again from other parameters."""
  path.unlink()
  with pytest.raises(ValueError, match="model.restore: path must be"):
    experiment_lib.build(config)
  _pretrained(path, seed=1)
  other = experiment_lib.build(config)
  workdir = workdir_lib.Workdir(run)
  with pytest.raises(workdir_lib.WorkdirError, match="which began with others"):
    train.fit(other, workdir)
  for step in workdir.checkpoints.iterdir():
    step.rename(run / f"lost_{step.name}")
  with checkpoint.Checkpoints(workdir.checkpoints) as checkpoints:
    with pytest.raises(workdir_lib.WorkdirError, match="twice"):
      resume.start(other, workdir, checkpoints)
    # Fresh parameters are a function of the seed: these may be taken again.
    fresh = dataclasses.replace(other, restored_from=None)
    resume.start(fresh, workdir, checkpoints)


def test_private_and_public_training_are_not_taken_for_each_other(tmp_path):
  public = _recipe("stage=pretrain,smoke=True")
  with pytest.raises(ValueError, match="dp.epsilon or dp.noise_multiplier"):
    experiment_lib.build(public)
  private = _recipe()
  with pytest.raises(ValueError, match="dp.epsilon must be None for training"):
    plain.pretrain(private)
  with pytest.raises(ValueError, match="must be a new .npz file"):
    plain.check_output(str(_npz(tmp_path / "a.npz")))


@pytest.mark.slow
def test_pretraining_tests_crops_at_the_test_split_s_own_size():
  config = launch.config(
      "imagenet_nf_resnet",
      dp__epsilon=None,
      dp__noise_multiplier=None,
      train__num_steps=1,
      model__name="cnn_small",
      model__options={},
  )
  with config.unlocked():  # Fully convolutional but for its head: one size.
    config.data.test_options = {
        "image_shape": (19, 19, 3),
        "crop_size": (16,) * 2,
    }
  assert 0 <= final.of_params(config, plain.pretrain(config))["accuracy"] <= 1
  with config.unlocked():
    config.train.batch_size_schedule = ((0.0, 1.0),)
  with pytest.raises(ValueError, match="batch_size_schedule must be ()"):
    plain.pretrain(config)
