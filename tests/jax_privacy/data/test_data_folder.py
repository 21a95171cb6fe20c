"""Folders of images: order, classes, sizes, and what is not an image."""

import numpy as np
import PIL.Image
import pytest

from jax_privacy import data

_RNG = np.random.default_rng(0)


def _save(path, image=None, *, mode=None):
  """Writes an image, and returns its pixels."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if image is None:
    image = _RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
  picture = PIL.Image.fromarray(image)
  (picture.convert(mode) if mode else picture).save(path)
  return image


@pytest.fixture
def root(tmp_path):
  for split in ("train", "test"):
    for name in ("bee", "ant"):
      for i in (1, 0):
        _save(tmp_path / split / name / f"{i}.png")
  return tmp_path


def test_examples_in_order_of_class_and_file(tmp_path):
  expected = [
      _save(tmp_path / "train" / name)
      for name in ("ant/0.png", "ant/1.PNG", "bee/0.png", "cow/0.png")
  ]
  source = data.load("folder", path=tmp_path, num_examples=4)
  assert source.label_names == ("ant", "bee", "cow")
  assert source.image_shape == (5, 4, 3)
  batch = source.as_arrays()
  np.testing.assert_array_equal(batch["image"], expected)
  assert batch["label"].tolist() == [0, 0, 1, 2]


def test_jpeg_is_decoded_as_pillow_does(tmp_path):
  _save(tmp_path / "train" / "a" / "0.jpg")
  _save(tmp_path / "train" / "a" / "1.jpeg")
  source = data.load("folder", path=tmp_path)
  for i, name in enumerate(("0.jpg", "1.jpeg")):
    with PIL.Image.open(tmp_path / "train" / "a" / name) as image:
      expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(source[np.array([i])]["image"][0], expected)


def test_images_are_decoded_when_read_and_not_before(root):
  (root / "train" / "bee" / "0.png").write_bytes(b"no image")
  source = data.load("folder", path=root)
  assert source[np.array([0, 1, 3])]["label"].tolist() == [0, 0, 1]
  with pytest.raises(ValueError, match="bee/0.png must be a JPEG or PNG image"):
    source[np.array([2])]


def test_a_split_without_a_class_numbers_the_others_as_train_does(root):
  """Sorted on its own, "bee" would become class 0 of the test split."""
  for file in (root / "test" / "ant").iterdir():
    file.unlink()
  (root / "test" / "ant").rmdir()
  source = data.load("folder", path=root, split="test")
  assert source.label_names == ("ant", "bee")
  assert source.as_arrays()["label"].tolist() == [1, 1]


def test_a_class_that_train_does_not_know_is_refused(root):
  _save(root / "test" / "cow" / "0.png")
  with pytest.raises(ValueError, match="cow must be a class of .*train"):
    data.load("folder", path=root, split="test")


def test_other_files_are_left_out(root):
  (root / "train" / "notes.txt").write_text("no class")
  (root / "train" / "ant" / "notes.txt").write_text("no image")
  (root / "train" / "ant" / "._0.png").write_text("no image")
  _save(root / "train" / ".cache" / "0.png")
  source = data.load("folder", path=root)
  assert len(source) == 4
  assert source.label_names == ("ant", "bee")


def test_another_size_is_refused_by_name_unless_resized(root):
  wide = np.full((5, 9, 3), 77, np.uint8)
  _save(root / "train" / "bee" / "1.png", wide)
  source = data.load("folder", path=root)
  with pytest.raises(
      ValueError, match="bee/1.png must be of size 5x4 .* got 5x9: give image_"
  ):
    source.as_arrays()
  source = data.load("folder", path=root, image_size=(6, 3))
  assert source.image_shape == (6, 3, 3)
  images = source.as_arrays()["image"]
  assert images.shape == (4, 6, 3, 3)
  np.testing.assert_array_equal(images[3], 77)


def test_height_comes_before_width(root):
  source = data.load("folder", path=root, image_size=[2, 7])
  assert source[np.array([0])]["image"].shape == (1, 2, 7, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_kind_of_8_bit_image_is_converted(tmp_path, mode):
  path = tmp_path / "train" / "a" / "0.png"
  _save(path, mode=mode)
  for channels, target in ((1, "L"), (3, "RGB")):
    source = data.load("folder", path=tmp_path, channels=channels)
    with PIL.Image.open(path) as image:
      expected = np.asarray(image.convert(target)).reshape(5, 4, channels)
    np.testing.assert_array_equal(source.as_arrays()["image"][0], expected)


def test_16_bit_images_are_refused(tmp_path):
  """Pillow would clip every value above 255 to white."""
  image = np.full((5, 4), 300, np.uint16)
  _save(tmp_path / "train" / "a" / "0.png", image)
  with pytest.raises(ValueError, match="a/0.png must have at most 8 bits"):
    data.load("folder", path=tmp_path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
  _save(tmp_path / "train" / "a" / "0.png")
  # 20 pixels: above the limit is a warning in Pillow, twice that an error.
  for limit in (15, 5):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match="0.png must be a readable.*bomb"):
      data.load("folder", path=tmp_path)


def test_a_truncated_image_is_named(root):
  path = root / "train" / "ant" / "0.png"
  # The last 20 bytes hold no pixel: Pillow reads the image without them.
  path.write_bytes(path.read_bytes()[:-21])
  with pytest.raises(ValueError, match="ant/0.png must be a readable image"):
    data.load("folder", path=root)


def test_another_format_under_the_name_of_one_is_refused(root):
  path = root / "train" / "ant" / "0.png"
  PIL.Image.new("RGB", (4, 5)).save(path, "GIF")
  with pytest.raises(ValueError, match="ant/0.png must be a JPEG or PNG image"):
    data.load("folder", path=root)


def test_missing_or_empty_folders_are_refused(tmp_path):
  with pytest.raises(ValueError, match="folder of a split, got no .*train"):
    data.load("folder", path=tmp_path)
  (tmp_path / "train").mkdir()
  with pytest.raises(ValueError, match="train must hold a folder for each"):
    data.load("folder", path=tmp_path)
  (tmp_path / "train" / "ant").mkdir()
  with pytest.raises(ValueError, match="ant must hold at least one image"):
    data.load("folder", path=tmp_path)


@pytest.mark.parametrize("split", ["", ".", "..", "../x", "a/b", "/"])
def test_a_split_is_the_name_of_a_folder(root, split):
  with pytest.raises(ValueError, match="split must be the name of a folder"):
    data.load("folder", path=root, split=split)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"image_size": (8,)}, r"image_size must be \(height, width\)"),
        ({"image_size": 8}, r"image_size must be \(height, width\)"),
        ({"image_size": (8, 0)}, "image_size must be an integer of at least 1"),
        (
            {"image_size": (8, 2.5)},
            "image_size must be an integer of at least 1",
        ),
        ({"channels": 4}, "channels must be 1 or 3, got 4"),
        ({"channels": True}, "channels must be 1 or 3, got True"),
        ({"num_examples": 5}, "examples must be .* 4 .private.* got 5"),
    ],
)
def test_wrong_options_are_refused(root, options, text):
  with pytest.raises(ValueError, match=text):
    data.load("folder", path=root, **options)
