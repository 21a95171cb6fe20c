"""Sets that TFDS has prepared: which examples, how they are read, what fails.

Whole sets are played by `tfds.testing.mock_data`; small ones are really written
in TFDS's format, by its own builder and writer.
"""

import io
import json
import pickle
import shlex
import subprocess
import sys
from unittest import mock

import launch
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets
import tfds_sets

from configs import common
from experiments import _build, _fields
from jax_privacy import data
from jax_privacy.data import published
from jax_privacy.data import tfds as tfds_source

# Name: sizes of train, valid, test. Those of De et al. 2022, section 3 and
# appendix, and of their code; train and valid together are the sets' own
# training sets (50,000, 60,000, 1,281,167, 1,803,460 and 73,257 examples).
_SIZES = {
    "cifar10": (45_000, 5_000, 10_000),
    "cifar100": (45_000, 5_000, 10_000),
    "fashion_mnist": (50_000, 10_000, 10_000),
    "imagenet2012": (1_271_167, 10_000, 50_000),
    "mnist": (50_000, 10_000, 10_000),
    "places365_small": (1_793_460, 10_000, 36_500),
    "svhn_cropped": (68_257, 5_000, 26_032),
}
_OPTIONS = {"imagenet2012": {"image_size": (4, 6)}}


@pytest.fixture(autouse=True)
def no_tensorflow():
  """Fails where TensorFlow is imported; in CI it is not even installed."""
  yield
  assert "tensorflow" not in sys.modules


@pytest.fixture(scope="module")
def small(tmp_path_factory):
  """(data_dir, arrays) of a Fashion-MNIST of 40 and 12 examples."""
  data_dir = tmp_path_factory.mktemp("tfds")
  return data_dir, tfds_sets.prepare(
      "fashion_mnist", data_dir, train=40, test=12
  )


@pytest.fixture
def load(small, monkeypatch):
  """Loads a split of it, with published sizes to match: 30, 10 and 12."""
  cuts = published.Cuts(train=(0, 30), valid=(30, 40), test=12)
  monkeypatch.setattr(
      published, "SETS", {**published.SETS, "fashion_mnist": cuts}
  )

  def load_split(split="train", **options):
    options = {"data_dir": small[0], **options}
    return data.load("tfds:fashion_mnist", split=split, **options)

  return load_split


@pytest.mark.parametrize("name", sorted(_SIZES))
def test_sizes_are_the_published_ones(name):
  train, valid, test = _SIZES[name]
  sizes = [published.size(name, split=split) for split in published.SPLITS]
  assert sizes == [train, valid, train + valid, test]
  assert set(_SIZES) == set(published.SETS)


@pytest.mark.parametrize("name", sorted(_SIZES))
def test_whole_sets_are_cut_where_papers_cut_them(name, tmp_path):
  """Labels tell which position in TFDS's split a record was read from."""
  train, valid, test = _SIZES[name]
  large = name in ("imagenet2012", "places365_small")
  test_name = "validation" if large else "test"
  tfds_sets.describe(name, tmp_path, {"train": train + valid, test_name: test})
  # De et al. hold out the first examples of the large sets, else the last.
  start = valid if large else 0
  expected = {
      "train": ("train", start, train),
      "valid": ("train", 0 if large else train, valid),
      "train_valid": ("train", 0, train + valid),
      "test": (test_name, 0, test),
  }
  with tensorflow_datasets.testing.mock_data(
      as_data_source_fn=_fake_records, data_dir=str(tmp_path)
  ):
    for split, (tfds_split, first, size) in expected.items():
      options = _OPTIONS.get(name, {})
      source = data.load(f"tfds:{name}", split=split, **options)
      assert (len(source), source.num_examples) == (size, size)
      num_classes = source.num_classes
      assert num_classes == {"cifar100": 100, "imagenet2012": 1000}.get(
          name, 365 if large else 10
      )
      indices = np.array([size - 1, -1, 0])
      batch = source[indices]
      labels = [(first + size - 1) % num_classes, 0, first % num_classes]
      assert batch["label"].tolist() == labels
      assert batch["image"].shape == (3, *source.image_shape)
      value = 50 if tfds_split == "train" else 90
      means = batch["image"].mean(axis=(1, 2, 3))
      np.testing.assert_allclose(means, [value, 0, value], atol=2)  # JPEG.


def _fake_records(builder, split, *, decoders, **_):
  """What mock_data gives instead of records: one image, labels that count."""
  assert isinstance(
      decoders["image"], tensorflow_datasets.decode.SkipDecoding
  ), "images are Pillow's to decode"
  info = builder.info.splits[split]
  (file,) = info.file_instructions
  feature = builder.info.features["image"]
  height, width, channels = (size or 9 for size in feature.shape)
  is_train = split.startswith("train")
  pixels = np.full((height, width, channels), 50 if is_train else 90, np.uint8)
  encoded = io.BytesIO()
  PIL.Image.fromarray(pixels.squeeze()).save(encoded, "JPEG")
  image = encoded.getvalue()
  num_classes = builder.info.features["label"].num_classes
  return _Records(
      info.num_examples,
      lambda i: {"image": image, "label": (file.skip + i) % num_classes},
  )


class _Records:
  """A sequence of records that are made when they are read."""

  def __init__(self, length, record_fn):
    self._length, self._record_fn = length, record_fn

  def __len__(self):
    return self._length

  def __getitems__(self, indices):
    return [self._record_fn(i) for i in indices]


def test_a_prepared_set_gives_its_images_with_their_labels(load, small):
  for split, files in (("train+valid", "train"), ("test", "test")):
    images, labels = small[1][files]
    batch = load(split).as_arrays()
    rows = batch["image"][:, 0, 0, 0]
    # All of them, once each; and shuffled, as TFDS does when it writes.
    assert sorted(rows) == list(range(len(images)))
    assert sorted(rows) != list(rows)
    np.testing.assert_array_equal(batch["image"], images[rows][..., None])
    np.testing.assert_array_equal(batch["label"], labels[rows])
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32


def test_order_and_pixels_are_those_of_tfds(load, small):
  """Its own reader and decoder, one example after the other, is the oracle."""
  slow = tensorflow_datasets.data_source(
      "fashion_mnist", split="train", data_dir=small[0], download=False
  )
  batch = load("train+valid").as_arrays()
  assert len(slow) == 40
  for i, example in enumerate(slow):
    np.testing.assert_array_equal(batch["image"][i], example["image"])
    assert batch["label"][i] == example["label"]


def test_train_and_valid_are_the_whole_in_two(load):
  whole = load("train+valid").as_arrays()
  parts = [load(split).as_arrays() for split in ("train", "valid")]
  for key in ("image", "label"):
    joined = np.concatenate([part[key] for part in parts])
    np.testing.assert_array_equal(joined, whole[key])


def test_a_batch_is_read_by_index_with_padding(load):
  source = load("train")
  everything = source.as_arrays()
  indices = np.array([29, -1, 3, 3, 0, -1])
  batch = source[indices]
  real = indices >= 0
  for key in ("image", "label"):
    np.testing.assert_array_equal(
        batch[key][real], everything[key][indices[real]]
    )
    assert not batch[key][~real].any()
  empty = source[np.zeros(0, np.int64)]
  assert empty["image"].shape == (0, 28, 28, 1)
  assert source[np.full(2, -1)]["label"].tolist() == [0, 0]
  with pytest.raises(IndexError, match=r"in \[0, 30\), got 30"):
    source[np.array([30])]


def test_a_source_can_be_sent_to_a_worker_process(load):
  source = load("valid")
  source.as_arrays()  # With its files open.
  copy = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(
      copy.as_arrays()["image"], source.as_arrays()["image"]
  )
  assert (copy.num_examples, copy.label_names) == (10, source.label_names)


def test_description_is_what_tfds_says(load):
  source = load("test")
  assert source.image_shape == (28, 28, 1)
  assert source.num_examples == 12
  assert source.label_names[:2] == ("T-shirt/top", "Trouser")
  members = [name for name in vars(data.Source) if not name.startswith("_")]
  assert all(hasattr(source, name) for name in members) and members


def test_images_are_resized_on_request(load):
  source = load("test", image_size=(14, 20))
  assert source.image_shape == (14, 20, 1)
  small_image = source[np.array([5])]["image"][0, :, :, 0]
  image = PIL.Image.fromarray(load("test")[np.array([5])]["image"][0, :, :, 0])
  expected = image.resize((20, 14), PIL.Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(small_image, np.asarray(expected))


def test_a_config_names_it(load, small):
  config = common.base()
  config.data.source = "tfds:fashion_mnist"
  config.data.options = {"data_dir": str(small[0])}
  with pytest.raises(ValueError, match="^model.name must be"):
    _fields.check(config)  # The source is accepted; there is no model yet.
  source = _build.build_source(config, "train_valid", num_examples=40)
  assert source.num_examples == 40
  with pytest.raises(ValueError, match="num_examples must be .* 30, got 40"):
    _build.build_source(config, "train", num_examples=40)


@pytest.mark.slow
def test_the_launcher_trains_on_it(load, small, tmp_path):
  config = launch.config(
      data__source="tfds:fashion_mnist", data__train_split="train+valid"
  )
  with config.unlocked():
    config.data.options = {"data_dir": str(small[0])}
    config.eval.num_examples = None
  summary = launch.run(config, tmp_path / "run")
  assert (summary["num_examples"], summary["test_examples"]) == (40, 12)


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


def _source(record):
  return tfds_source.TfdsSource(
      _Records(3, lambda i: record),
      description="tfds:x, 'train'",
      image_shape=(5, 4, 3),
      resize=False,
      label_names=("a", "b"),
      num_examples=3,
  )


def _png(height, width):
  file = io.BytesIO()
  PIL.Image.new("RGB", (width, height)).save(file, "PNG")
  return file.getvalue()


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"image": _png(5, 4), "label": 2}, r"label in \[0, 2\), got 2"),
        ({"image": _png(5, 4), "label": -1}, r"label in \[0, 2\), got -1"),
        ({"image": _png(4, 5), "label": 0}, "be of size 5x4 .* got 4x5"),
        ({"image": _png(5, 4)[:30], "label": 0}, "be a readable image"),
        ({"image": b"", "label": 0}, "be a readable image"),
    ],
)
def test_a_broken_example_is_named(record, text):
  with pytest.raises(
      data.ImageError, match=f"example 1 of tfds:x, 'train' must .*{text}"
  ):
    _source(record)[np.array([-1, 1])]
  # A source of three such records is fine until one of them is drawn.
  assert not _source(record)[np.array([-1])]["image"].any()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"split": "validation"},
            "split must be 'train', 'valid', 'train.valid' or 'test', got",
        ),
        ({"split": ["train"]}, r"split must be .* got \['train'\]"),
        ({"data_dir": 3}, "data_dir must be a string or a path, got 3"),
        ({"image_size": (0, 3)}, "image_size must be a positive integer"),
        ({"num_examples": 29}, "num_examples must be .* 30, got 29"),
        ({"path": "x"}, "path is no option of 'tfds:fashion_mnist'"),
    ],
)
def test_wrong_tfds_options_are_refused(load, options, text):
  with pytest.raises(ValueError, match=text):
    load(**options)


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
      ImportError, match=r'install "jax-privacy-toolkit\[tfds\]'
  ):
    data.load("tfds:mnist")


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
