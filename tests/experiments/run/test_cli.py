"""What a command line is refused for, and in which words.

In this process: flags and `sys.argv` are the test's own.
"""

import sys

import pytest
from absl import flags

from experiments.run import cli
from tests.support import launch

_CONFIG = "--config=configs/digits_cnn.py:smoke=True"
# ml_collections loads a recipe by a method that Python calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)
_COMMANDS = ("train", "evaluate", "audit", "pretrain")


@pytest.fixture
def run(monkeypatch, capsys):
  """Returns a function of arguments: the config, or the error's one line."""

  def call(*arguments):
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    monkeypatch.chdir(launch.ROOT)
    config = cli.define_config("A recipe.")
    for define, name, value in (
        (flags.DEFINE_string, "workdir", None),
        (flags.DEFINE_list, "labels", None),
        (flags.DEFINE_bool, "replay", False),
        (flags.DEFINE_multi_string, "each", None),
    ):
      define(name, value, name, flag_values=flags.FLAGS)
    try:
      cli.run(lambda: None)
    except SystemExit as error:
      assert error.code == 2
      said = capsys.readouterr().err
      assert said.count("\n") == 1 and said.startswith("error: "), said
      return said
    return config.value

  return call


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("workdir", ["--workdir=a", "--workdir=b"]),
        ("workdir", ["--workdir=a", "--workdir=a"]),
        ("workdir", ["-workdir", "a", "--workdir", "b"]),
        ("labels", ["--labels=a", "--labels=b"]),
        ("replay", ["--replay", "--noreplay"]),
        ("config", [_CONFIG]),
        ("config", [_CONFIG, "--config.seed=3"]),
        ("config.seed", ["--config.seed=3", "--config.seed=4"]),
        ("config.seed", ["--config.seed=3", "--config.seed=None"]),
        ("config.seed", ["--config.seed=None", "-config.seed=None"]),
        (
            "config.dp.secure_random",
            ["--config.dp.secure_random", "--noconfig.dp.secure_random"],
        ),
    ],
)
def test_a_flag_of_one_value_is_given_once(run, name, arguments):
  said = run(_CONFIG, *arguments)
  assert said.startswith(f"error: --{name} must be given once, got 2 of them")


def test_a_flag_that_is_neither_true_nor_false_is_named(run):
  said = run(_CONFIG, "--replay=maybe")
  assert said == "error: --replay must be true or false, got 'maybe'.\n"


def test_a_flag_file_counts(run, tmp_path):
  (tmp_path / "flags").write_text("--workdir=a\n")
  said = run(_CONFIG, f"--flagfile={tmp_path}/flags", "--workdir=b")
  assert "--workdir must be given once" in said


def test_flags_of_several_values_and_different_flags_are_taken(run):
  config = run(
      _CONFIG,
      "--each=a",
      "--each=b",
      "--workdir=a",
      "--config.seed=None",
      "--config.eval.labels=a",
      "--config.eval.labels=b",
  )
  assert config.seed is None and config.eval.labels == ("a", "b")
  assert flags.FLAGS.each == ["a", "b"]


def test_options_that_no_recipe_names_are_a_flag(run):
  config = run(_CONFIG, "--config.dp.sampling_options={'num_selected': 2}")
  assert config.dp.sampling_options.to_dict() == {"num_selected": 2}


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_parses_its_flags_here(name):
  text = (launch.ROOT / "experiments" / f"{name}.py").read_text()
  assert "cli.run(main)" in text and "app.run" not in text
  assert "DEFINE_config_file" not in text


@pytest.mark.parametrize(
    "field, value, message",
    [
        (
            "train.optimiser",
            "sgd",
            'got an unknown one: optimiser. Did you mean "optimizer"?',
        ),
        (
            "train.optimiser",
            "None",
            'got an unknown one: optimiser. Did you mean "optimizer"?',
        ),
        ("dp.zzzzz", "3", "got an unknown one: zzzzz\n"),
        ("optimiser.name", "sgd", "got an unknown one: optimiser\n"),
    ],
)
def test_an_unknown_field_is_named_as_it_was_typed(run, field, value, message):
  said = run(_CONFIG, f"--config.{field}={value}")
  assert said.endswith(message if message.endswith("\n") else message + "\n")
  assert "\\" not in said and "'" not in said


@pytest.mark.parametrize("rest", [[], ["--config.seed=3"]])
@pytest.mark.parametrize(
    "path, remedy",
    [
        ("configs/digits_cn.py", "Did you mean configs/digits_cnn.py"),
        ("digits_cnn:epsilon=3", "Did you mean configs/digits_cnn.py"),
        ("configs/xyz.py", "There are configs/breast_cancer.py, configs/"),
        ("configs", "There are configs/"),
        ("", "There are configs/"),
    ],
)
def test_a_missing_recipe_is_named_with_those_there_are(
    run, path, remedy, rest
):
  said = run(f"--config={path}", *rest)
  name = path.partition(":")[0]
  assert f"config must be a recipe's file, got {name!r}, which is no" in said
  assert remedy in said and "config_config" not in said
