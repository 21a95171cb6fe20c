"""Sets of TFDS that cannot be read: what is said, and what to do about it."""

import json
import shlex
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets

from jax_privacy import data
from jax_privacy.data import published
from tests.support import launch, tfds_sets

_TALL = tfds_sets.png(np.zeros((5, 4, 3), np.uint8))
_WIDE = tfds_sets.png(np.zeros((4, 5, 3), np.uint8))


def _command(error):
  """Returns the Python program that an error tells to run."""
  words = shlex.split(str(error.value).splitlines()[-1])
  assert words[:2] == ["python", "-c"] and len(words) == 3
  return words[2]


@pytest.mark.parametrize("folder", ["plain", 'it\'s "here" ü \\'])
def test_a_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path, folder):
  data_dir = str(tmp_path / folder)
  with pytest.raises(
      ValueError, match="tfds:svhn_cropped must be prep"
  ) as error:
    data.load("tfds:svhn_cropped", data_dir=data_dir)
  assert 'jax-privacy-toolkit[tfds-prepare]"' in str(error.value)
  with mock.patch("tensorflow_datasets.builder") as builder:
    exec(_command(error), {})
  builder.assert_called_once_with(
      "svhn_cropped", data_dir=data_dir, file_format="array_record"
  )
  builder.return_value.download_and_prepare.assert_called_once_with()


def test_a_set_in_another_format_is_prepared_beside_it(tmp_path):
  """TFDS refuses to write a second format into the folder of the first."""
  sizes = {"train": 60_000, "test": 10_000}
  tfds_sets.describe("mnist", tmp_path, sizes)
  (path,) = tmp_path.glob("mnist/*/dataset_info.json")
  info = json.loads(path.read_text())
  path.write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
  with pytest.raises(
      ValueError, match="must be prepared as array_rec"
  ) as error:
    data.load("tfds:mnist", data_dir=tmp_path)
  assert f'data_dir="{tmp_path}_array_record"' in _command(error)


def test_the_default_folder_is_named(tmp_path, monkeypatch):
  constants = tensorflow_datasets.core.constants
  monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))
  with pytest.raises(
      ValueError, match="must be prepared as array_rec"
  ) as error:
    data.load("tfds:mnist")
  assert f'data_dir="{tmp_path}"' in _command(error)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"train": 59_999, "test": 10_000}, "60000 .* 'train', .* got 59999"),
        ({"train": 60_001, "test": 10_000}, "60000 .* 'train', .* got 60001"),
        ({"test": 10_000}, "60000 examples in 'train', .* got 0 in"),
    ],
)
def test_another_set_under_its_name_is_refused(tmp_path, sizes, text):
  tfds_sets.describe("mnist", tmp_path, sizes)
  for split in ("train", "valid", "train+valid"):
    with pytest.raises(ValueError, match=text):
      data.load("tfds:mnist", data_dir=tmp_path, split=split)


def test_a_broken_description_is_refused(tmp_path):
  tfds_sets.describe("mnist", tmp_path, {"train": 60_000, "test": 10_000})
  (path,) = tmp_path.glob("mnist/*/dataset_info.json")
  path.write_text("{")
  with pytest.raises(ValueError, match="tfds:mnist must be readable in"):
    data.load("tfds:mnist", data_dir=tmp_path)


def test_missing_records_are_an_error_of_the_example(tmp_path):
  """It is raised in training, where the loop marks it as private."""
  tfds_sets.describe("mnist", tmp_path, {"train": 60_000, "test": 10_000})
  source = data.load("tfds:mnist", data_dir=tmp_path)
  with pytest.raises(data.ImageError, match="'train' must have readable rec"):
    source[np.array([7])]


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"image": _TALL, "label": 2}, r"label in \[0, 2\), got 2"),
        ({"image": _TALL, "label": -1}, r"label in \[0, 2\), got -1"),
        ({"image": _WIDE, "label": 0}, "be of size 5x4 .* got 4x5"),
        ({"image": _TALL[:30], "label": 0}, "be a JPEG or PNG image"),
        ({"image": b"", "label": 0}, "be a JPEG or PNG image"),
    ],
)
def test_a_broken_example_is_named(record, text):
  with pytest.raises(
      data.ImageError, match=f"example 1 of tfds:x, 'train' must .*{text}"
  ):
    tfds_sets.source(record)[np.array([-1, 1])]
  # A source of three such records is fine until one of them is drawn.
  assert not tfds_sets.source(record)[np.array([-1])]["image"].any()


def test_images_of_many_shapes_need_a_size(tmp_path):
  sizes = {"train": 1_281_167, "validation": 50_000}
  tfds_sets.describe("imagenet2012", tmp_path, sizes)
  with pytest.raises(ValueError, match="image_size must be given for 'tfds:im"):
    data.load("tfds:imagenet2012", data_dir=tmp_path)


def test_other_names_are_refused():
  with pytest.raises(
      ValueError, match="name must be one of .* got 'tfds:cats'"
  ):
    data.load("tfds:cats")
  with pytest.raises(ValueError, match="name must be one of cifar10, .*'cats'"):
    published.size("cats", split="train")


@pytest.mark.parametrize("package", ["tensorflow_datasets", "array_record"])
def test_a_missing_package_says_what_to_install(monkeypatch, package):
  for name in [n for n in sys.modules if n.split(".")[0] == package]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(
      ImportError, match=r'pip install "jax-privacy-toolkit\[tfds\]'
  ):
    data.load("tfds:mnist")


@pytest.mark.slow
def test_importing_sources_does_not_import_tfds():
  program = "from jax_privacy import data; import sys; print(*sys.modules)"
  modules = subprocess.run(
      [sys.executable, "-c", program],
      capture_output=True,
      text=True,
      check=True,
      cwd=launch.ROOT,
  ).stdout.split()
  assert "jax_privacy.data.tfds" in modules
  assert "tensorflow_datasets" not in modules
