"""MIMIC-CXR-JPG from its own files: joins, splits, groups, hostile tables."""

import numpy as np
import pytest

from jax_privacy import data
from tests.support import fuzz
from tests.support import radiograph_sets as sets

_PREFIX = "mimic-cxr-2.0.0"
_ANN, _BEA, _CAT = "10000032", "10000764", "11000011"
# (patient, study, image, split, view, date)
_IMAGES = [
    (_ANN, "50414267", "02aa804e-bde0afdd", "train", "LATERAL", "21800506"),
    (_ANN, "50414267", "174413ec-4ec4c1f7", "train", "PA", "21800506"),
    (_BEA, "57375967", "096052b7-d256dc40", "validate", "AP", "21321016"),
    (_CAT, "51967283", "b1d6f8a6-2a8f1d3c", "test", "", "21500101"),
    (_ANN, "59999999", "c0ffee00-00000000", "train", "PA", "21810506"),
]
# The last study has none.
_LABELS = {
    (_ANN, "50414267"): ("1.0", "0.0", "-1.0"),
    (_BEA, "57375967"): ("", "1.0"),
    (_CAT, "51967283"): ("-1.0",) * 14,
}


def _tables(images=_IMAGES, labels=_LABELS):
  listed = [
      {"dicom_id": d, "study_id": s, "subject_id": p, "split": split}
      for p, s, d, split, _, _ in images
  ]
  metadata = [
      {"dicom_id": d, "Rows": "8", "ViewPosition": view, "StudyDate": date}
      for _, _, d, _, view, date in images
  ]
  observed = [
      # Their own order of columns.
      {"subject_id": p, "study_id": s}
      | dict(sorted(sets.observations(*values).items()))
      for (p, s), values in labels.items()
  ]
  return {"split": listed, "metadata": metadata, "chexpert": observed}


def _write(root, tables, suffix=".csv"):
  for name, rows in tables.items():
    sets.write_csv(root / f"{_PREFIX}-{name}{suffix}", rows)


def _file(root, image):
  patient, study, dicom, *_ = image
  return root / f"files/p{patient[:2]}/p{patient}/s{study}/{dicom}.jpg"


@pytest.fixture
def root(tmp_path):
  _write(tmp_path, _tables())
  for image in _IMAGES:
    sets.write_image(_file(tmp_path, image))
  return tmp_path


def _load(root, split="train", **options):
  return data.load("mimic_cxr", path=root, split=split, **options)


def test_images_get_the_labels_of_their_study_by_name(root):
  pixels = [sets.write_image(_file(root, image)) for image in _IMAGES[:2]]
  source = _load(root, num_examples=2)
  assert source.is_multi_label
  assert source.label_names == data.CHEXPERT_14
  assert source.num_examples == 2
  batch = source.as_arrays()
  np.testing.assert_array_equal(batch["image"][..., 0], pixels)
  # In CheXpert's order of labels, the first of which is "No Finding"; what is
  # uncertain is 0 by default, and so is what is blank.
  assert batch["label"].tolist() == [[1, *[0] * 13]] * 2


@pytest.mark.parametrize(
    ("split", "patients"),
    [
        ("train", [_ANN, _ANN]),
        ("valid", [_BEA]),
        ("test", [_CAT]),
        ("train+valid", [_ANN, _ANN, _BEA]),
    ],
)
def test_splits_are_those_of_the_table(root, split, patients):
  source = _load(root, split)
  assert [name.split("/p")[-1][:8] for name in source._descriptions] == patients


def test_gzipped_tables_give_the_same(root):
  want = _load(root).as_arrays()
  for name in ("split", "metadata", "chexpert"):
    (root / f"{_PREFIX}-{name}.csv").unlink()
  _write(root, _tables(), suffix=".csv.gz")
  got = _load(root).as_arrays()
  np.testing.assert_array_equal(got["image"], want["image"])
  np.testing.assert_array_equal(got["label"], want["label"])


@pytest.mark.parametrize(
    ("uncertain", "value"), [("zeros", 0), ("ones", 1), ("ignore", -1)]
)
def test_uncertain_labels_become_what_the_option_says(root, uncertain, value):
  labels = _load(root, "test", uncertain=uncertain).as_arrays()["label"]
  assert labels.tolist() == [[value] * 14]


def test_views_are_chosen(root):
  frontal = _load(root, frontal_only=True)
  assert [name[-21:-4] for name in frontal._descriptions] == [_IMAGES[1][2]]
  # The frontal one, though the lateral one is listed first.
  one = _load(root, one_image_per_patient=True)
  assert one._descriptions == frontal._descriptions
  # What user-level training groups images by.
  assert _load(root).column("patient").tolist() == [_ANN, _ANN]


def test_sex_and_age_come_from_the_table_of_patients(root):
  rows = [
      # 52 in 2180, the year of her images.
      {"subject_id": _ANN, "gender": "F", "anchor_age": "50",
       "anchor_year": "2178"},
      {"subject_id": _BEA, "gender": "M", "anchor_age": "81",
       "anchor_year": "2134"},
  ]  # fmt: skip
  path = sets.write_csv(root / "patients.csv.gz", rows)
  groups = _load(root, "train+valid", patients=path).groups
  assert groups["sex"].codes.tolist() == [0, 0, 1]
  assert groups["age"].codes.tolist() == [2, 2, 3]  # 81 two years later: 79.
  groups = _load(root, "test", patients=path).groups
  assert groups["sex"].codes.tolist() == [-1]
  assert groups["age"].codes.tolist() == [-1]
  assert _load(root).groups == {}


def test_race_comes_from_the_table_of_admissions(root):
  rows = [
      {"subject_id": _ANN, "hadm_id": "1", "race": "UNKNOWN"},
      {"subject_id": _ANN, "hadm_id": "2", "race": "ASIAN - CHINESE"},
      {"subject_id": _BEA, "hadm_id": "3", "race": "HISPANIC/LATINO - CUBAN"},
  ]
  path = sets.write_csv(root / "admissions.csv", rows)
  race = _load(root, "train+valid", admissions=path).groups["race"]
  assert race.codes.tolist() == [0, 0, 2]
  assert _load(root, "test", admissions=path).groups["race"].codes == [-1]


def _changed(table, row, **fields):
  tables = _tables()
  tables[table][row] |= fields
  return tables


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        (
            _changed("split", 4, split="test"),
            f"split.csv, line 6: a patient must be in one split, got {_ANN} in",
        ),
        (
            _changed("split", 2, split="valid"),
            "split.csv, line 4: split must be one of .* got 'valid'",
        ),
        (
            _changed("split", 1, dicom_id=_IMAGES[0][2]),
            "split.csv, line 3: '02aa804e-bde0afdd' must be there once",
        ),
        (
            _changed("split", 0, dicom_id="../../secret"),
            "split.csv, line 2: dicom_id must be as in MIMIC-CXR, got .../..",
        ),
        (
            _changed("split", 0, dicom_id="/etc/passwd"),
            "split.csv, line 2: dicom_id must be as in MIMIC-CXR",
        ),
        (
            _changed("split", 0, study_id="5041426/"),
            "split.csv, line 2: study_id must be as in MIMIC-CXR",
        ),
        (
            _changed("split", 0, subject_id="../00032"),
            "split.csv, line 2: subject_id must be as in MIMIC-CXR",
        ),
        (
            _changed("metadata", 1, dicom_id="other"),
            "metadata must hold every image, got no 174413ec-4ec4c1f7",
        ),
        (
            _changed("metadata", 1, dicom_id=_IMAGES[0][2]),
            "metadata.csv, line 3: '02aa804e-bde0afdd' must be there once",
        ),
        (
            _changed("metadata", 1, StudyDate="soon"),
            "metadata.csv, line 3: StudyDate must be a whole number or blank",
        ),
        (
            _changed("chexpert", 2, Edema="x"),
            "chexpert.csv, line 4: a label must be 1.0, 0.0, -1.0 or blank",
        ),
        (
            _changed("chexpert", 1, subject_id=_ANN, study_id="50414267"),
            "chexpert.csv, line 3: .* must be there once, got it twice",
        ),
    ],
)
def test_malformed_tables_are_named(tmp_path, tables, text):
  _write(tmp_path, tables)
  with pytest.raises(ValueError, match=text) as raised:
    _load(tmp_path)
  fuzz.assert_clear(raised.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"split": "validate"}, "split must be 'train', 'valid'"),
        ({"uncertain": "papers"}, "uncertain must be one of"),
        ({"patients": 5}, "patients must be a string or a path"),
        ({"admissions": "absent.csv"}, "absent.csv must be a CSV file"),
        ({"num_examples": 3}, "examples must be .* 2 .private.* got 3"),
        ({"one_image_per_patient": "no"}, "must be True or False"),
    ],
)
def test_wrong_options_are_refused(root, options, text):
  with pytest.raises(ValueError, match=text):
    _load(root, **options)
