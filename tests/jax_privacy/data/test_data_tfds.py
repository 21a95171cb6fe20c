"""Sets that TFDS has prepared: which examples, how they are read, what fails.

Whole sets are played by `tfds.testing.mock_data`; small ones are really written
in TFDS's format, by its own builder and writer.
"""

import io
import pickle
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets

from configs import common
from experiments.plan import fields
from experiments.tasks.images import sources
from jax_privacy import data
from jax_privacy.data import published
from tests.support import launch, tfds_sets

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
  return tfds_sets.Records(
      info.num_examples,
      lambda i: {"image": image, "label": (file.skip + i) % num_classes},
  )


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


def test_images_are_cut_and_resized_on_request(load):
  source = load("test", image_size=(14, 20))
  assert source.image_shape == (14, 20, 1)
  resized = source[np.array([5])]["image"][0, :, :, 0]
  image = PIL.Image.fromarray(load("test")[np.array([5])]["image"][0, :, :, 0])
  # 28 wide and 28 x 14 / 20 = 19 high, of 9 rows too many 4 at the top.
  box = (0, 4, 28, 23)
  expected = image.crop(box).resize((20, 14), PIL.Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(resized, np.asarray(expected))


@pytest.mark.parametrize(
    ("shape", "size", "rows", "columns"),
    [
        ((4, 12), (4, 4), slice(0, 4), slice(4, 8)),
        ((12, 4), (4, 4), slice(4, 8), slice(0, 4)),
        ((6, 18), (4, 4), slice(0, 6), slice(6, 12)),
        ((5, 4), (4, 4), slice(0, 4), slice(0, 4)),  # The odd row at the end.
        ((6, 9), (4, 6), slice(0, 6), slice(0, 9)),
        ((1, 50), (8, 1), slice(0, 1), slice(24, 25)),
    ],
)
def test_an_image_of_another_shape_keeps_its_centre(shape, size, rows, columns):
  """All outside the centre is white: none of it may come in."""
  image = np.full((*shape, 3), 255, np.uint8)
  image[rows, columns] = 7
  record = {"image": tfds_sets.png(image), "label": 0}
  source = tfds_sets.source(record, image_shape=(*size, 3), resize=True)
  np.testing.assert_array_equal(source[np.array([2])]["image"][0], 7)


def test_a_config_names_it(load, small):
  config = common.base()
  config.data.source = "tfds:fashion_mnist"
  config.data.options = {"data_dir": str(small[0])}
  with pytest.raises(ValueError, match="^model.name must be"):
    fields.check(config)  # The source is accepted; there is no model yet.
  source = sources.build_source(
      config.data,
      "train_valid",
      augment_config=config.augment,
      num_examples=40,
  )
  assert source.num_examples == 40
  with pytest.raises(
      ValueError, match="examples must be .* 30 .private.* got 40"
  ):
    sources.build_source(
        config.data,
        "train",
        augment_config=config.augment,
        num_examples=40,
    )


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


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"split": "validation"},
            "split must be 'train', 'valid', 'train.valid' or 'test', got",
        ),
        ({"split": ["train"]}, r"split must be .* got \['train'\]"),
        ({"data_dir": 3}, "data_dir must be a string or a path, got 3"),
        ({"image_size": (0, 3)}, "image_size must be an integer of at least 1"),
        ({"num_examples": 29}, "examples must be .* 30 .private.* got 29"),
        ({"path": "x"}, "option of 'tfds:fashion_mnist' must be .*got 'path'"),
    ],
)
def test_wrong_tfds_options_are_refused(load, options, text):
  with pytest.raises(ValueError, match=text):
    load(**options)
