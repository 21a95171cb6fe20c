"""The commands as typed: exit codes, what they print, one line for mistakes."""

import json
import os
import stat

import numpy as np
import PIL.Image
import pytest

from jax_privacy import data
from tests.support import launch

_CONFIG = "--config=configs/digits_cnn.py:smoke=True"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run's folder, and what was printed."""
  path = tmp_path_factory.mktemp("run") / "digits"
  before = os.umask(0)  # The process inherits it.
  try:
    process = launch.command(
        "experiments.train",
        _CONFIG,
        f"--workdir={path}",
        "--config.log_every=1",
    )
  finally:
    os.umask(before)
  assert process.returncode == 0, process.stderr
  return path, process.stdout


def test_train_prints_the_result_and_the_guarantee(finished):
  path, printed = finished
  summary = json.loads((path / "summary.json").read_text())
  assert f"test accuracy {summary['test_accuracy_ema']:.2%}" in printed
  assert "0.0001)-DP for add or remove one example, by PLD" in printed
  assert printed.count("(private, not for release)") == 3
  # Rounded up: the bar's last number is that of the result.
  assert "step 3/3: epsilon 3.000" in printed and "(3.000, 0.0001)" in printed
  assert "The seed was fixed (0)" in printed
  assert "\x1b" not in printed  # No terminal, no escape codes.


def test_nobody_else_can_read_the_run(finished):
  """The key in its checkpoints, and losses; though the umask was 0."""
  path, _ = finished
  modes = {e: stat.S_IMODE(e.stat().st_mode) for e in [path, *path.rglob("*")]}
  assert sum("checkpoints" in str(entry) for entry in modes) > 20
  for entry, mode in modes.items():
    assert mode == (0o700 if entry.is_dir() else 0o600), f"{entry} {mode:o}"


def test_a_finished_run_is_told_again_and_not_run_again(finished):
  path, printed = finished
  before = (path / "summary.json").stat().st_mtime_ns
  process = launch.command(
      "experiments.train", _CONFIG, f"--workdir={path}", "--config.log_every=1"
  )
  assert process.returncode == 0
  assert process.stdout in printed and "step" not in process.stdout[:5]
  assert (path / "summary.json").stat().st_mtime_ns == before


def test_evaluate_agrees_with_the_summary_and_tells_classes(finished):
  path, _ = finished
  summary = json.loads((path / "summary.json").read_text())
  accuracies = summary["headline"]["values"]
  cases = {"ema": [], "last": ["--params=last"]}
  for key, flags in cases.items():
    process = launch.command(
        "experiments.evaluate", f"--workdir={path}", *flags
    )
    assert process.returncode == 0, process.stderr
    assert f"accuracy {accuracies[key]:.2%}" in process.stdout
    assert all(f"\n  {label}: " in process.stdout for label in range(10))
  process = launch.command(
      "experiments.evaluate", f"--workdir={path}", "--split=train"
  )
  assert "training examples: the numbers are PRIVATE" in process.stdout


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "flags, message",
    [
        ([_CONFIG, "--config.lr=3"], "unknown one: lr"),
        ([_CONFIG, "--config.dp.epsilon=low"], "config.dp.epsilon"),
        ([_CONFIG, "--no_such_flag=1"], "no_such_flag"),
        ([_CONFIG, "config.seed=3"], "must be flags, --name=value, got"),
        # Of these the rule itself is tested elsewhere, without a process each.
        *(
            pytest.param([*flags], message, marks=pytest.mark.slow)
            for *flags, message in [
                ("--config=configs/digits_cnn.py:epslon=3", "got 'epslon'"),
                (_CONFIG, "--config.dp.lr=None", "lr"),
                (_CONFIG, "--config.dp.l2_clip_norm=-1", "l2_clip_norm must"),
                ("--config=configs/mnist_cnn.py:path=no.npz", "no.npz"),
            ]
        ),
    ],
    ids=lambda x: x[-1] if isinstance(x, list) else "",
)
def test_mistakes_are_one_line_and_exit_code_2(flags, message, tmp_path):
  process = launch.command(
      "experiments.train", *flags, f"--workdir={tmp_path}/run"
  )
  assert process.returncode == 2
  assert process.stderr.startswith("error: ") and message in process.stderr
  assert process.stderr.count("\n") == 1, process.stderr
  assert not (tmp_path / "run").exists()


def test_another_config_is_refused(finished):
  path, _ = finished
  process = launch.command(
      "experiments.train", _CONFIG, f"--workdir={path}", "--config.seed=3"
  )
  assert process.returncode == 2
  assert "differs in log_every, seed" in process.stderr


def test_a_number_can_be_set_to_none(tmp_path):
  process = launch.command(
      "experiments.train",
      launch.linear_recipe(tmp_path),
      f"--workdir={tmp_path}/run",
      "--config.seed=None",
      "--config.dp.epsilon=None",
      "--config.dp.noise_multiplier=2.0",
  )
  assert process.returncode == 0, process.stderr
  assert "The seed was fixed" not in process.stdout
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert summary["seed"] is None and summary["epsilon_target"] is None
  assert summary["noise_multiplier"] == 2.0


def test_help_and_missing_flags():
  process = launch.command("experiments.train", "--help")
  assert "--workdir: The run's folder." in process.stdout
  process = launch.command("experiments.train")
  assert process.returncode == 2 and process.stderr.count("\n") == 1


@pytest.mark.slow
def test_evaluate_refuses_two_folders(tmp_path):
  process = launch.command("experiments.evaluate", "--workdir=a", "--workdir=b")
  assert process.returncode == 2 and process.stderr.count("\n") == 1
  assert "--workdir must be given once" in process.stderr


def test_evaluate_needs_a_run(tmp_path):
  process = launch.command("experiments.evaluate", f"--workdir={tmp_path}")
  assert process.returncode == 2
  assert "workdir must hold a run" in process.stderr


def _folder_of_digits(path):
  """Twenty real images, two classes, as PNG files."""
  source = data.load("digits")
  arrays = source.as_arrays()
  for split in ("train", "test"):
    for label in (0, 1):
      folder = path / split / f"digit_{label}"
      folder.mkdir(parents=True)
      for i in np.flatnonzero(arrays["label"] == label)[:10]:
        image = PIL.Image.fromarray(arrays["image"][i, ..., 0])
        image.save(folder / f"{i}.png")


def _folder_recipe(path, root):
  """A recipe of the user's own, outside the checkout."""
  recipe = path / "mine.py"
  recipe.write_text(f"""
from configs import digits_cnn

def get_config(arg=None):
  config = digits_cnn.get_config("smoke=True")
  config.data.source = "folder"
  config.data.options = {{"path": {str(root)!r}, "channels": 1}}
  config.data.num_examples = 20
  config.dp.delta = 1e-2
  config.train.expected_batch_size = 15
  return config
""")
  return recipe


@pytest.mark.slow
def test_a_folder_of_images_by_a_recipe_of_ones_own(tmp_path):
  root = tmp_path / "images"
  _folder_of_digits(root)
  flags = [
      f"--config={_folder_recipe(tmp_path, root)}",
      f"--workdir={tmp_path}/run",
  ]
  process = launch.command("experiments.train", *flags)
  assert process.returncode == 0, process.stderr
  process = launch.command("experiments.evaluate", f"--workdir={tmp_path}/run")
  assert "  digit_0: " in process.stdout and "on 20 examples" in process.stdout


@pytest.mark.slow
def test_an_unreadable_image_is_named_when_it_is_drawn(tmp_path):
  root = tmp_path / "images"
  _folder_of_digits(root)
  images = sorted((root / "train" / "digit_1").iterdir())
  for image in images:
    image.write_bytes(b"no image")
  process = launch.command(
      "experiments.train",
      f"--config={_folder_recipe(tmp_path, root)}",
      f"--workdir={tmp_path}/run",
  )
  assert process.returncode == 2
  last = process.stderr.strip().splitlines()[-1]
  assert last.startswith("error: ") and "must be a JPEG or PNG image" in last
  assert any(str(image) in last for image in images)
