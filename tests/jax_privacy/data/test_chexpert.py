"""CheXpert from its own files: splits, labels, groups, and hostile tables."""

import os
import pathlib
import pickle

import hypothesis
import numpy as np
import PIL.Image
import pytest
from hypothesis import strategies as st

from jax_privacy import data
from jax_privacy.data import radiographs
from tests.support import fuzz
from tests.support import radiograph_sets as sets

_FILES = [
    sets.chexpert_file("train", 1, 1, "view1_frontal"),
    sets.chexpert_file("train", 1, 1, "view2_lateral"),
    sets.chexpert_file("train", 2, 3, "view1_frontal"),
]
_ROWS = [
    sets.chexpert_row(_FILES[0], "1.0", "0.0", "-1.0", sex="Female", age="90"),
    sets.chexpert_row(_FILES[1], "0.0", "1.0", "1.0", "-1.0", view="Lateral"),
    sets.chexpert_row(_FILES[2], *["-1.0"] * 14, sex="Unknown", age=""),
]
_TEST_FILE = sets.chexpert_file("valid", 99)
_TEST_ROW = sets.chexpert_row(_TEST_FILE, *["1.0", "0.0"] * 7)


@pytest.fixture
def root(tmp_path):
  for file in (*_FILES, _TEST_FILE):
    sets.write_image(tmp_path / file)
  sets.write_csv(tmp_path / "train.csv", _ROWS)
  sets.write_csv(tmp_path / "valid.csv", [_TEST_ROW])
  return tmp_path


def _load(root, split="train+valid", **options):
  return data.load("chexpert", path=root, split=split, **options)


def test_images_and_labels_in_the_order_of_the_table(root):
  pixels = [sets.write_image(root / file) for file in _FILES]
  source = _load(root, num_examples=3)
  assert source.is_multi_label
  assert source.label_names == data.CHEXPERT_14
  assert source.image_shape == (8, 8, 1)
  assert source.num_examples == 3
  batch = source[np.array([2, 0, -1])]
  np.testing.assert_array_equal(batch["image"][0, ..., 0], pixels[2])
  np.testing.assert_array_equal(batch["image"][1, ..., 0], pixels[0])
  assert not batch["image"][2].any()
  assert batch["label"][2].tolist() == [-1] * 14
  assert batch["label"].dtype == np.int32
  labels = source.as_arrays()["label"]
  # Blank is 0; what is uncertain, by the default rule, 1 for three of them.
  assert labels[0].tolist() == [1, *[0] * 13]
  assert labels[1].tolist() == [0, 1, 1, *[0] * 11]
  ones = {data.CHEXPERT_14[i] for i in np.flatnonzero(labels[2])}
  assert ones == {"Atelectasis", "Edema", "Pleural Effusion"}


def test_the_names_are_those_of_the_columns_and_five_are_reported():
  assert len(data.CHEXPERT_14) == 14
  assert set(data.CHEXPERT_5) < set(data.CHEXPERT_14)
  assert len(data.CHEXPERT_5) == 5


@pytest.mark.parametrize(
    ("uncertain", "value"), [("zeros", 0), ("ones", 1), ("ignore", -1)]
)
def test_uncertain_labels_become_what_the_option_says(root, uncertain, value):
  labels = _load(root, uncertain=uncertain).as_arrays()["label"]
  assert labels[2].tolist() == [value] * 14
  assert labels[0].tolist() == [1, 0, value, *[0] * 11]


def test_columns_are_found_by_name(root):
  rows = [dict(reversed(row.items())) | {"more": "1"} for row in _ROWS]
  want = _load(root).as_arrays()
  sets.write_csv(root / "train.csv", rows)
  got = _load(root).as_arrays()
  np.testing.assert_array_equal(got["label"], want["label"])
  np.testing.assert_array_equal(got["image"], want["image"])


def test_grey_images_become_three_equal_channels(root):
  images = _load(root, channels=3, image_size=(5, 6)).as_arrays()["image"]
  assert images.shape == (3, 5, 6, 3)
  assert (images == images[..., :1]).all()


def test_an_image_is_stretched_or_cut(root):
  """A ramp from left to right keeps its ends, or loses them."""
  ramp = np.tile(np.arange(0, 256, 8, np.uint8), (8, 1))
  for file in _FILES:
    PIL.Image.fromarray(ramp).save(root / file, quality=95)
  stretched, cut = (
      _load(root, image_size=(8, 8), crop=crop).as_arrays()["image"][0, 4, :, 0]
      for crop in (False, True)
  )
  assert stretched[0] < 30 < 210 < stretched[-1]
  assert 80 < cut[0] < cut[-1] < 170


def test_sex_and_age_are_groups(root):
  groups = _load(root).groups
  assert set(groups) == {"sex", "age"}
  assert groups["sex"].names == ("Female", "Male")
  assert groups["sex"].codes.tolist() == [0, 1, -1]
  assert groups["age"].names == ("0-19", "20-39", "40-59", "60-79", "80+")
  assert groups["age"].codes.tolist() == [4, 2, -1]


@pytest.mark.parametrize(
    ("age", "code"), [("0", 0), ("19", 0), ("20", 1), ("79", 3), ("80", 4)]
)
def test_ages_at_the_edges_of_their_groups(root, age, code):
  sets.write_csv(root / "valid.csv", [_TEST_ROW | {"Age": age}])
  assert _load(root, "test").groups["age"].codes.tolist() == [code]


def test_race_comes_from_the_table_of_demographics(root):
  rows = [
      {"PATIENT": "patient00001", "PRIMARY_RACE": "White, non-Hispanic"},
      {"PATIENT": "patient00002", "PRIMARY_RACE": "Patient Refused"},
      {"PATIENT": "patient00099", "PRIMARY_RACE": "Black"},
  ]
  path = sets.write_csv(root / "demographics.csv", rows)
  race = _load(root, demographics=path).groups["race"]
  assert race.names == ("Asian", "Black", "Hispanic", "White", "Other")
  assert race.codes.tolist() == [3, 3, -1]
  assert _load(root, "test", demographics=path).groups["race"].codes == [1]


def test_a_patient_of_two_races_is_of_none(root):
  rows = [
      {"PATIENT": "patient00001", "PRIMARY_RACE": race}
      for race in ("Asian", "WHITE", "Asian", "Unknown")
  ] + [{"PATIENT": "patient00002", "PRIMARY_RACE": "Pacific Islander"}]
  path = sets.write_csv(root / "demographics.csv", rows)
  race = _load(root, demographics=path).groups["race"]
  assert race.codes.tolist() == [-1, -1, 4]


def test_lateral_images_are_left_out_if_asked(root):
  source = _load(root, frontal_only=True)
  assert len(source) == 2
  assert source.as_arrays()["label"][0, 0] == 1
  assert source.groups["sex"].codes.tolist() == [0, -1]


def test_one_image_of_each_patient_is_the_first_frontal_one(root):
  first = _ROWS[0] | {"Path": _ROWS[0]["Path"].replace("study1", "study2")}
  sets.write_image(root / _FILES[0].replace("study1", "study2"))
  for rows in ([_ROWS[1], first, _ROWS[0], _ROWS[2]], [*_ROWS, first]):
    sets.write_csv(root / "train.csv", rows)
    source = _load(root, one_image_per_patient=True)
    assert len(source) == 2 == len({*source.column("patient")})
    want = _load(root)
    order = [row["Path"] for row in rows]
    np.testing.assert_array_equal(
        source.as_arrays()["image"],
        want[np.array([order.index(_ROWS[i]["Path"]) for i in (0, 2)])][
            "image"
        ],
    )
  sets.write_csv(root / "train.csv", _ROWS[1:])  # A lateral one, if no other.
  assert len(_load(root, one_image_per_patient=True)) == 2


def _patients(source):
  return {pathlib.PurePath(name).parts[-3] for name in source._descriptions}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
  """The tables of 400 patients of two images each."""
  root = tmp_path_factory.mktemp("large")
  files = [
      sets.chexpert_file("train", patient, study)
      for patient in range(1, 401)
      for study in (1, 2)
  ]
  sets.write_csv(root / "train.csv", [sets.chexpert_row(f) for f in files])
  test_row = sets.chexpert_row(sets.chexpert_file("valid", 999))
  sets.write_csv(root / "valid.csv", [test_row])
  return root


@pytest.mark.parametrize("test_fraction", [0.0, 0.2])
def test_a_patient_is_in_one_split_with_all_images(large, test_fraction):
  options = {"test_fraction": test_fraction, "image_size": (8, 8)}
  parts = {
      split: _load(large, split, **options)
      for split in ("train", "valid", "test", "train+valid")
  }
  patients = {split: _patients(source) for split, source in parts.items()}
  assert not patients["train"] & patients["valid"]
  assert not patients["train+valid"] & patients["test"]
  assert patients["train"] | patients["valid"] == patients["train+valid"]
  for split in ("train", "valid", "train+valid"):
    assert len(parts[split]) == 2 * len(patients[split])
  # Of 400 patients, binomially many: five standard deviations about 40 is 30,
  # about 80 is 40.
  assert abs(len(patients["valid"]) - 40) < 30
  if test_fraction:
    assert abs(len(patients["test"]) - 80) < 40
    assert len(patients["train+valid"] | patients["test"]) == 400
  else:
    assert patients["test"] == {"patient00999"}


def test_the_split_of_a_patient_depends_on_the_id_alone():
  """Fixed for good: another rule would move private examples to "valid"."""
  splits = [
      radiographs.split_of(
          f"patient{i:05}", valid_fraction=0.3, test_fraction=0.3
      )
      for i in range(1, 11)
  ]
  # sha256(b"split of patient00001"), its first six bytes over 2^48, and so on:
  # computed by `printf "split of patient00001" | sha256sum`.
  train, valid, test = "train", "valid", "test"
  assert splits[:5] == [train, test, train, train, test]
  assert splits[5:] == [valid, valid, valid, train, valid]


def test_a_patient_in_both_tables_is_refused(root):
  row = _TEST_ROW | {"Path": _ROWS[0]["Path"].replace("train/", "valid/")}
  sets.write_csv(root / "valid.csv", [row])
  for split in ("train", "valid", "train+valid", "test"):
    with pytest.raises(ValueError, match="in one of .* got patient00001 in bo"):
      _load(root, split)


_HOSTILE_PATHS = [
    "CheXpert-v1.0-small/../secret/patient00001/study1/view1.jpg",
    "CheXpert-v1.0-small/train/../patient00001/study1/view1.jpg",
    "CheXpert-v1.0-small/train/patient00001/../view1.jpg",
    "CheXpert-v1.0-small/train/patient00001/study1/...jpg",
    "CheXpert-v1.0-small/train/patient00001/study1/../../x.jpg",
    "/train/patient00001/study1/view1.jpg",
    "/etc/CheXpert-v1.0/train/patient00001/study1/view1.jpg",
    "../train/patient00001/study1/view1.jpg",
    "CheXpert-v1.0-small\\train\\patient00001\\study1\\view1.jpg",
    "CheXpert-v1.0-small/train/patient٣/study1/view1.jpg",
    "CheXpert-v1.0-small/train/patient00001/study1/view1.jpg\n",
    "",
]


@pytest.mark.parametrize("path", _HOSTILE_PATHS)
def test_a_path_that_leads_elsewhere_is_refused(root, path):
  sets.write_csv(root / "train.csv", [*_ROWS, _ROWS[0] | {"Path": path}])
  with pytest.raises(ValueError, match=r"train.csv, line 5: ") as raised:
    _load(root)
  fuzz.assert_clear(raised.value)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Sex": "X"}, "sex must be one of .* got 'X'"),
        ({"Age": "-1"}, "Age must be a whole number or blank, got '-1'"),
        ({"Age": "nan"}, "Age must be a whole number or blank, got 'nan'"),
        ({"Age": "9" * 99}, "Age must be a whole number or blank"),
        ({"Frontal/Lateral": ""}, "must be Frontal or Lateral, got ''"),
        ({"Edema": "2.0"}, "a label must be 1.0, 0.0, -1.0 .* got '2.0'"),
        ({"Edema": "nan"}, "a label must be 1.0, 0.0, -1.0 .* got 'nan'"),
        ({"Edema": "x" * 999}, "a label must be 1.0"),
        ({}, "view1_frontal.jpg' must be there once, got it twice"),
    ],
)
def test_a_malformed_row_is_named(root, fields, text):
  sets.write_csv(root / "train.csv", [*_ROWS, _ROWS[0] | fields])
  with pytest.raises(
      ValueError, match=f"train.csv, line 5: .*{text}"
  ) as raised:
    _load(root)
  fuzz.assert_clear(raised.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"uncertain": "papers"}, "uncertain must be one of zeros, ones, ign"),
        ({"uncertain": None}, "uncertain must be one of"),
        ({"valid_fraction": 1.0}, r"valid_fraction must be in \[0, 1\), got 1"),
        ({"valid_fraction": float("nan")}, "valid_fraction must be in"),
        ({"test_fraction": True}, "test_fraction must be in .* got True"),
        (
            {"valid_fraction": 0.5, "test_fraction": 0.5},
            "must leave patients to train on, got 0.5 and 0.5",
        ),
        ({"frontal_only": "no"}, "frontal_only must be True or False"),
        ({"one_image_per_patient": 1}, "one_image_per_patient must be True or"),
        ({"demographics": 5}, "demographics must be a string or a path"),
        ({"demographics": "absent.csv"}, "absent.csv must be a CSV file"),
        ({"channels": 2}, "channels must be 1 or 3"),
        ({"crop": True}, "crop must be true or false, and false without"),
        ({"num_examples": 4}, "examples must be .* 3 .private.* got 4"),
        ({"split": "validate"}, "split must be 'train', 'valid', 'train.val"),
        (
            {"valid_fraction": 0.0, "split": "valid"},
            "must hold an image of the split",
        ),
    ],
)
def test_wrong_options_are_refused(root, options, text):
  with pytest.raises(ValueError, match=text):
    _load(root, **options)


def test_workers_can_be_given_the_source(root):
  source = _load(root)
  copy = pickle.loads(pickle.dumps(source))
  indices = np.array([2, -1])
  for key, want in source[indices].items():
    np.testing.assert_array_equal(copy[indices][key], want)


@pytest.mark.parametrize("make_fn", [None, os.mkfifo, os.mkdir])
def test_an_image_that_is_no_file_is_named_when_it_is_read(root, make_fn):
  (root / _FILES[2]).unlink()
  if make_fn:
    make_fn(root / _FILES[2])
  source = _load(root)
  assert source[np.array([0])]["label"].shape == (1, 14)
  # Opening a pipe waits for whoever writes to it.
  error = fuzz.returns(lambda: source[np.array([2])])
  assert isinstance(error, data.ImageError)
  assert "study3/view1_frontal.jpg must be a file, got none" in str(error)


@fuzz.SHORT
@hypothesis.given(st.data())
def test_a_damaged_table_is_read_or_refused_clearly(tmp_path, draw):
  path = sets.write_csv(tmp_path / "train.csv", _ROWS)
  sets.write_csv(tmp_path / "valid.csv", [_TEST_ROW])
  content = draw.draw(fuzz.damaged(path.read_bytes()))
  path.write_bytes(content)
  try:
    source = _load(tmp_path, image_size=(4, 4))
  except ValueError as error:
    fuzz.assert_clear(error)
    return
  for name in source._descriptions:
    inside = pathlib.Path(name).resolve().is_relative_to(tmp_path.resolve())
    assert inside
