"""Every recipe builds, runs in small, and says what it costs."""

import importlib
import json
import math

import pytest

import accounting
from configs import common
from experiments.plan import mechanism as mechanism_lib
from experiments.run import workdir as workdir_lib
from jax_privacy.data import radiograph_columns
from tests.support import launch

# De et al. 2022, CIFAR-10 from scratch: noise multiplier and steps of each row;
# epsilon by RDP and PLD as computed with dp-accounting 0.6.0.
_CIFAR10 = {
    1.0: (10, 875, 0.988, 0.904),
    2.0: (6, 1125, 2.000, 1.837),
    3.0: (5, 1593, 2.983, 2.748),
    4.0: (4, 1687, 3.996, 3.688),
    6.0: (3, 1843, 5.952, 5.507),
    8.0: (3, 2468, 7.05, 6.53),
}

_SUMMARY_KEYS = {
    "epsilon", "delta", "accountant", "neighboring_relation",
    "noise_multiplier", "sampling_prob", "num_steps", "num_examples",
    "expected_batch_size", "l2_clip_norm", "num_views", "num_parameters",
    "test_accuracy", "test_accuracy_ema", "train_seconds",
    "examples_per_second", "params_sha256", "seed", "versions",
}  # fmt: skip


# Their networks are compiled for other tests.
_NETWORKS_SEEN = ("digits_cnn", "digits_finetune", "mnist_cnn")
_NETWORKS_SEEN += ("fashion_mnist_cnn",)
# A test of their task trains each with a smaller network.
_LONG = ("copying", "digits_diffusion")


@pytest.mark.parametrize(
    "name", launch.configs(slow=(*launch.LARGE, *_NETWORKS_SEEN, *_LONG))
)
def test_runs_in_small(name, tmp_path):
  _check_run(name, launch.config(name), tmp_path)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", _NETWORKS_SEEN)
def test_all_but_the_network_runs_in_small(name, tmp_path):
  linear = {"model__name": "linear", "model__options": {}}
  _check_run(name, launch.config(name, **linear), tmp_path)


def _check_run(name, config, tmp_path):
  summary = launch.run(config, tmp_path / "run")
  drawn = config.task.name == "diffusion"  # There is nothing to be right of.
  keys = {key for key in _SUMMARY_KEYS if "accuracy" not in key or not drawn}
  assert keys <= set(summary)
  written = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert written == summary
  assert summary["num_steps"] == 3
  assert 0 < summary["epsilon"] <= summary["epsilon_target"]
  stored = json.loads((tmp_path / "run" / "config.json").read_text())
  assert stored["name"] == name
  if drawn:
    # Denoisers begin with D = c_skip y, whose weighted loss is about 1.
    assert 0 < summary["test_loss"]["last"] < 10
    return
  reached = summary["test_accuracy"]
  if reached is None:  # Of examples with many labels.
    reached = summary["test_macro_auc"]["last"]
  assert 0 <= reached <= 1


@pytest.mark.parametrize("name", launch.CONFIGS)
def test_opens_with_result_and_command(name):
  module = importlib.import_module(f"configs.{name}")
  assert f"--config=configs/{name}.py" in module.__doc__
  assert "easured" in module.__doc__ and "Arguments: " in module.__doc__


@pytest.mark.parametrize("epsilon", sorted(_CIFAR10))
def test_cifar10_rows_cost_what_they_state(epsilon):
  noise_multiplier, num_steps, by_rdp, by_pld = _CIFAR10[epsilon]
  config = launch.config("cifar10_wrn", f"epsilon={epsilon}")
  assert config.dp.noise_multiplier == noise_multiplier
  assert config.train.num_steps == num_steps
  mechanism = accounting.Mechanism.for_batch_size(
      noise_multiplier=config.dp.noise_multiplier,
      num_steps=config.train.num_steps,
      expected_batch_size=config.train.expected_batch_size,
      num_examples=config.data.num_examples,
  )
  for accountant, want in (("rdp", by_rdp), ("pld", by_pld)):
    got = accounting.epsilon(
        mechanism, delta=config.dp.delta, accountant=accountant
    )
    # The table has two or three decimals.
    assert math.isclose(got, want, abs_tol=6e-3)
    assert got <= epsilon + 6e-3


# Noise multiplier and steps of De et al.'s published configs. Epsilon by RDP as
# computed here; the papers state 1 and 8, with their own RDP orders.
@pytest.mark.parametrize(
    "name, num_examples, noise_multiplier, num_steps, stated, by_rdp",
    [
        ("cifar_wrn_finetune", 50_000, 21.1, 250, 1.0, 0.998),
        ("imagenet_nf_resnet", 1_271_167, 2.5, 71_589, 8.0, 8.000),
    ],
)
# The second paper's delta, 8e-7, is above 1 / num_examples.
@pytest.mark.filterwarnings("ignore::accounting.LargeDeltaWarning")
def test_paper_rows_cost_what_they_state(
    name, num_examples, noise_multiplier, num_steps, stated, by_rdp
):
  config = launch.config(name, "")
  assert config.dp.noise_multiplier == noise_multiplier
  assert config.train.num_steps == num_steps
  assert config.dp.epsilon == stated
  plan = mechanism_lib.build_plan(config.dp, config.train, num_examples)
  assert plan.mechanism.num_steps == num_steps  # By PLD, nothing is cut off.
  got = accounting.epsilon(
      plan.mechanism, delta=config.dp.delta, accountant="rdp"
  )
  assert math.isclose(got, by_rdp, abs_tol=1e-3)


def test_chexpert_reports_the_five_labels():
  # Written in the config, which imports no JAX, and with the source.
  labels = launch.config("chexpert_nfnet", "").eval.labels
  assert tuple(labels) == radiograph_columns.CHEXPERT_5


def test_cifar10_arguments():
  config = launch.config("cifar10_wrn", "depth=40,width=2,views=3,epsilon=1")
  assert config.model.options.depth == 40 and config.model.options.width == 2
  assert config.augment.num_views == 3 and config.train.learning_rate == 2.0
  with pytest.raises(ValueError, match=r"epsilon must be one of \[1.0.*got 5"):
    launch.config("cifar10_wrn", "epsilon=5")


@pytest.mark.parametrize(
    "arg, message",
    [
        ("epslon=3", "must be one of epsilon, smoke, got 'epslon'"),
        ("epsilon=3,epsilon=4", "epsilon must be given once"),
        ("epsilon=low", "epsilon must be of type float, got 'low'"),
        ("smoke=maybe", "smoke must be of type bool, got 'maybe'"),
        ("epsilon", "epsilon must be of type float, got ''"),
    ],
)
def test_bad_arguments_are_named(arg, message):
  with pytest.raises(ValueError, match=message):
    common.parse_arg(arg, epsilon=3.0, smoke=False)


def test_arguments_take_the_type_of_their_default():
  got = common.parse_arg("a=1,b=2,c=true,d=x=y", a=0.5, b=1, c=False, d="")
  assert got == {"a": 1.0, "b": 2, "c": True, "d": "x=y"}
  assert isinstance(got["a"], float) and isinstance(got["b"], int)


def test_unknown_fields_are_refused():
  config = launch.config()
  with pytest.raises(AttributeError, match="lerning_rate"):
    config.train.lerning_rate = 0.1


def test_config_survives_json(tmp_path):
  workdir = workdir_lib.Workdir(tmp_path / "run")
  for name in launch.CONFIGS:
    config = launch.config(name)
    path = tmp_path / name
    workdir = workdir_lib.Workdir(path)
    workdir.claim(config)
    workdir.check(config)  # The same config is known again.
