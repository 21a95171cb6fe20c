"""From a private run to a folder of images, by the commands."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.run import workdir
from tests.support import launch

_FLAGS = ("--num_images=30", "--num_steps=2", "--batch_size=8")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The flag of a small finished run."""
  path = tmp_path_factory.mktemp("run")
  launch.run(launch.diffusion(), path)
  return f"--workdir={path}"


def _files(path):
  return {
      str(p.relative_to(path)): p.read_bytes()
      for p in path.rglob("*")
      if p.is_file()
  }


@pytest.fixture(scope="module")
def images(run, tmp_path_factory):
  """The folder of images, and what was printed."""
  path = tmp_path_factory.mktemp("images")
  done = launch.command("experiments.generate", run, f"--out={path}", *_FLAGS)
  assert done.returncode == 0, done.stderr
  return path, done.stdout


def test_two_commands_make_a_folder_of_images_with_a_statement(images):
  path, printed = images
  manifest = json.loads((path / "manifest.json").read_text())
  statement = manifest["privacy"]["statement"]
  assert "differentially private for add or remove one example" in statement
  assert "post-processing" in statement and statement in printed
  assert set(manifest["counts"].values()) == {3}
  pngs = list((path / "images").rglob("*.png"))
  assert len(pngs) == len(manifest["images"]) == 30
  assert (path / "grid.png").is_file()


@pytest.mark.slow
def test_images_do_not_depend_on_who_draws_them(run, images, tmp_path):
  out = f"--out={tmp_path / 'again'}"
  done = launch.process("experiments.generate", run, out, *_FLAGS)
  assert done.returncode == 0, done.stderr
  assert _files(tmp_path / "again") == _files(images[0])
  # Told again, and not drawn again.
  done = launch.command("experiments.generate", run, out, *_FLAGS)
  assert done.returncode == 0 and "30 images in" in done.stdout
  done = launch.command("experiments.generate", run, out, *_FLAGS, "--seed=1")
  assert done.returncode == 2
  assert "got" in done.stderr and "whose seed is another" in done.stderr


@pytest.mark.slow
def test_killed_while_it_draws_and_typed_again(run, tmp_path):
  flags = (*_FLAGS[:1], "--num_steps=400", "--batch_size=1")
  out = [tmp_path / name for name in ("whole", "killed")]
  done = launch.command("experiments.generate", run, f"--out={out[0]}", *flags)
  assert done.returncode == 0, done.stderr
  command = [sys.executable, "-m", "experiments.generate", run, *flags]
  with subprocess.Popen(
      [*command, f"--out={out[1]}"], cwd=launch.ROOT, stderr=subprocess.DEVNULL
  ) as process:
    while len(list((out[1] / ".parts").glob("[0-9]*.npy"))) < 3:
      assert process.poll() is None
      time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
  assert not (out[1] / "manifest.json").exists()
  done = launch.command("experiments.generate", run, f"--out={out[1]}", *flags)
  assert done.returncode == 0, done.stderr
  assert _files(out[1]) == _files(out[0])


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--counts=0=1", "--num_images=3"], "num_images must be none with c"),
        (["--counts=12=1"], "counts must be name=count, each of 0, 1, 2"),
        (["--churn=1"], "churn must be 0 for a sampler other than heun"),
        (["--churn_range=1"], "churn_range must be two numbers"),
        (["--num_images=0"], "num_images must be in [1, 10000000], got 0"),
    ],
)
@pytest.mark.slow
def test_wrong_flags_are_one_line(run, flags, text, tmp_path):
  done = launch.command(
      "experiments.generate", run, f"--out={tmp_path / 'x'}", *flags
  )
  assert done.returncode == 2 and text in done.stderr
  assert done.stderr.count("\n") == 1
  assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_counts_are_the_users(run, tmp_path):
  done = launch.command(
      "experiments.generate", run, f"--out={tmp_path / 'x'}",
      "--counts=3=2,7=1", "--num_steps=2", "--sampler=heun", "--churn=1",
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  with np.load(tmp_path / "x" / "images.npz") as arrays:
    assert arrays["labels"].tolist() == [3, 3, 7]


@pytest.mark.slow
def test_images_are_evaluated(run, images, tmp_path):
  path, file = images[0], tmp_path / "found.json"
  done = launch.command(
      "experiments.evaluate", run, f"--synthetic={path}", f"--json={file}",
      "--classifiers=logistic", "--private",
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert "accuracy, chosen by drawn images" in done.stdout
  assert "training images (PRIVATE)" in done.stdout
  assert "FID" not in done.stdout
  found = json.loads(file.read_text())
  assert set(found["numbers"]) == {path.name}
  digest = hashlib.sha256((path / "images.npz").read_bytes()).hexdigest()
  assert found["sets"][path.name]["sha256"] == digest
  # Nothing of a training image is outside of the part that says so.
  hidden = found.pop(workdir.UNRELEASED_METRICS)
  released = json.dumps(found)
  assert "training images" not in released and "neighbours" not in released
  assert hidden["training images"]["accuracy, logistic"]["value"] > 0.85
  done = launch.command(
      "experiments.evaluate", run, f"--synthetic={path}", "--twin=x"
  )
  assert done.returncode == 2
  assert "twin must be none with synthetic, got x" in done.stderr
