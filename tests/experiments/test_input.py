"""How examples reach the devices changes no bit of a run.

Encoded images, on the devices or not, in workers or not: all runs that should
be the same run are compared by the digest of their parameters.
"""

import io

import launch
import numpy as np
import PIL.Image
import pytest

from jax_privacy import data


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
  """An archive of 80 encoded digits to train on, and 20 to test on."""
  source = data.load("digits", split="train")
  files, labels = [], []
  for i in range(100):
    example = source[np.array([i])]
    file = io.BytesIO()
    PIL.Image.fromarray(example["image"][0, ..., 0]).save(file, "PNG")
    files.append(file.getvalue())
    labels.append(example["label"][0])
  path = tmp_path_factory.mktemp("archive") / "digits.npz"
  np.savez(
      path,
      bytes=np.frombuffer(b"".join(files), np.uint8),
      offsets=np.cumsum([0, *map(len, files)]),
      labels=np.array(labels),
      is_test=np.arange(100) >= 80,
  )
  return path


@pytest.fixture
def config(archive):
  """A config on it, with fields set by dotted name."""

  def make(**fields):
    options = {"path": str(archive), "channels": 1}
    return launch.config(
        **{
            "data__source": "npz",
            "data__options": options,
            "data__num_examples": 80,
            **fields,
        }
    )

  return make


def _digest(value, path):
  return launch.run(value, path)["params_sha256"]


def test_on_the_device_or_decoded_ahead_is_the_same_run(config, tmp_path):
  want = _digest(config(), tmp_path / "plain")
  for name, fields in {
      "on_device": {"data__on_device": True},
      "thread": {"data__prefetch": 2},
      "workers": {"data__num_workers": 2, "data__prefetch": 1},
      "decoded once": {"data__on_device": True, "data__num_workers": 1},
  }.items():
    assert _digest(config(**fields), tmp_path / name) == want, name
  # What a digest would tell: another order of examples.
  assert _digest(config(seed=1), tmp_path / "other") != want
