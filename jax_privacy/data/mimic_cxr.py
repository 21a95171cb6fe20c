"""MIMIC-CXR-JPG: chest radiographs of 14 observations each, from its own files.

Invariant: the splits are the release's; it is checked that a patient is in one
of them only. An image is read from inside the folder only.

The folder is the release's: mimic-cxr-2.0.0-split.csv, -metadata.csv and
-chexpert.csv, each also as .csv.gz, and the images in
files/p10/p10000032/s50414267/DICOM.jpg. Labels are of a study, which may have
several images; images of a study without labels are left out.

The unit of privacy is an image, and a patient has several: an epsilon of a run
on all images does not hold for a patient. Grouping images by the column
"patient" makes it hold, and so does `one_image_per_patient`.

Source: Johnson et al. 2019 (1901.07042). What is done with labels is read in
the code of jax_privacy 1.0, `image_data/mimic_cxr.py`, which Berrada et al.
2023 (2308.10888) used.

>>> load_mimic_cxr(path="no")
Traceback (most recent call last):
...
ValueError: no/mimic-cxr-2.0.0-split.csv must be a CSV file, got no regular \
file.
"""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax_privacy.data import (
    bounded,
    csv_table,
    encoded,
    radiograph_columns,
    radiographs,
    source,
)

_PREFIX = "mimic-cxr-2.0.0"
_SPLITS = {"train": "train", "validate": "valid", "test": "test"}
_FRONTAL = ("AP", "PA")
_PATIENT = re.compile(r"\d{8}", re.ASCII)
_STUDY = re.compile(r"\d{8}", re.ASCII)
_DICOM = re.compile(r"[0-9a-z]{1,16}(-[0-9a-z]{1,16}){0,7}", re.ASCII)


class _Listed(NamedTuple):
  """A row of the table of splits."""

  dicom: str
  study: str
  patient: str
  split: str


def load_mimic_cxr(
    *,
    split: str = "train",
    path: str | os.PathLike,
    uncertain: str = "zeros",
    frontal_only: bool = False,
    one_image_per_patient: bool = False,
    patients: str | os.PathLike | None = None,
    admissions: str | os.PathLike | None = None,
    image_size: Sequence[int] | None = None,
    crop: bool = False,
    channels: int = 1,
    num_examples: int | None = None,
) -> encoded.EncodedSource:
  """Loads a split.

  Args:
    split: Name: "train", "valid" (the release's "validate"), "train+valid" or
      "test".
    path: The folder with the tables and the folder "files".
    uncertain: Rule for uncertain labels: "zeros", "ones", "ignore" (-1,
      not counted) or "mixed" (1 for Atelectasis, Edema and Pleural Effusion, 0
      for the others). One that is not mentioned (blank) is always 0.
    frontal_only: Whether only views AP and PA are kept.
    one_image_per_patient: Whether one image of each patient is kept, so that
      an epsilon for an example is one for a patient.
    patients: MIMIC-IV's patients.csv or patients.csv.gz, for groups "sex" and
      "age" (at the time of the image); or None.
    admissions: MIMIC-IV's admissions.csv or admissions.csv.gz, for the group
      "race"; or None.
    image_size: Height and width to which images are resized, in pixels; None
      if all are of one size.
    crop: Whether an image that is resized is first cut to the largest centred
      part of that shape; else it is stretched, and nothing is lost.
    channels: Number of channels: 1 (grey) or 3 (grey, repeated).
    num_examples: The stated number of examples, or None where none is stated.

  Returns:
    A source of the labels `CHEXPERT_14`, in CheXpert's order.

  Raises:
    ValueError: If a file is missing or malformed (the text names file, line
      and rule), an image is listed twice, a patient is in two splits, or an
      option is wrong.
  """
  choices = ("train", "valid", "train+valid", "test")
  split = source.check_split(split, choices=choices)
  root = source.check_path(path)
  values = radiograph_columns.uncertain_values(uncertain)
  listed = _read_splits(csv_table.find(root, f"{_PREFIX}-split.csv"))
  images = _join(
      [row for row in listed if row.split in split.split("+")],
      metadata=_read_metadata(csv_table.find(root, f"{_PREFIX}-metadata.csv")),
      labels=_read_labels(
          csv_table.find(root, f"{_PREFIX}-chexpert.csv"), values
      ),
      people={} if patients is None else _read_patients(patients),
  )
  return radiographs.make_source(
      root,
      images,
      frontal_only=frontal_only,
      one_image_per_patient=one_image_per_patient,
      with_sex_and_age=patients is not None,
      race=None if admissions is None else _race(admissions),
      image_size=image_size,
      crop=crop,
      channels=channels,
      num_examples=num_examples,
  )


def _join(listed, *, metadata, labels, people) -> list[radiographs.Image]:
  """Returns the images that have labels; each must have metadata."""
  images = []
  for row in listed:
    if row.dicom not in metadata:
      raise ValueError(
          f"the table of metadata must hold every image, got no {row.dicom}."
      )
    is_frontal, year = metadata[row.dicom]
    if (row.patient, row.study) not in labels:
      continue
    sex, age, age_year = people.get(row.patient, (-1, -1, -1))
    known = min(age, age_year, year) >= 0
    folder = f"files/p{row.patient[:2]}/p{row.patient}/s{row.study}"
    images.append(
        radiographs.Image(
            patient=row.patient,
            file=f"{folder}/{row.dicom}.jpg",
            is_frontal=is_frontal,
            labels=labels[row.patient, row.study],
            sex=sex,
            age=max(0, age + year - age_year) if known else -1,
        )
    )
  return images


def _read_splits(path: pathlib.Path) -> list[_Listed]:
  splits = {}

  def parse(dicom, study, patient, split):
    _check("dicom_id", dicom, _DICOM)
    _check("study_id", study, _STUDY)
    _check("subject_id", patient, _PATIENT)
    if split not in _SPLITS:
      shown = bounded.short(repr(split))
      raise ValueError(f"split must be one of {list(_SPLITS)}, got {shown}.")
    if splits.setdefault(patient, split) != split:
      raise ValueError(
          f"a patient must be in one split, got {patient} in"
          f" {splits[patient]} and {split}."
      )
    return _Listed(dicom, study, patient, _SPLITS[split])

  names = ("dicom_id", "study_id", "subject_id", "split")
  # An image that is there twice would be two examples, and count twice.
  return csv_table.read_rows(
      path, columns=names, parse=parse, key=lambda row: row.dicom
  )


def _read_metadata(path: pathlib.Path) -> dict[str, tuple[bool, int]]:
  """Returns (whether frontal, year) of each image."""

  def parse(dicom, view, date):
    year = radiograph_columns.parse_whole("StudyDate", date)
    return dicom, (view in _FRONTAL, year if year < 0 else year // 10_000)

  names = ("dicom_id", "ViewPosition", "StudyDate")
  return _read_dict(path, names, parse)


def _read_labels(
    path: pathlib.Path, uncertain: Sequence[int]
) -> dict[tuple[str, str], tuple[int, ...]]:
  """Returns labels by (patient, study)."""

  def parse(patient, study, *texts):
    values = radiograph_columns.parse_labels(texts, uncertain=uncertain)
    return (patient, study), values

  names = ("subject_id", "study_id", *radiograph_columns.CHEXPERT_14)
  return _read_dict(path, names, parse)


def _read_patients(
    path: str | os.PathLike,
) -> dict[str, tuple[int, int, int]]:
  """Returns (sex, age, the year of that age) of each patient."""

  def parse(patient, sex, age, year):
    return patient, (
        radiograph_columns.parse_sex(sex),
        radiograph_columns.parse_whole("anchor_age", age),
        radiograph_columns.parse_whole("anchor_year", year),
    )

  path = source.check_path(path, name="patients")
  names = ("subject_id", "gender", "anchor_age", "anchor_year")
  return _read_dict(path, names, parse)


def _read_dict(path, names, parse) -> dict[Any, Any]:
  """Returns a table whose rows are parsed to (key, value), no key twice."""
  rows = csv_table.read_rows(
      path, columns=names, parse=parse, key=lambda row: row[0]
  )
  return dict(rows)


def _race(path: str | os.PathLike) -> dict[str, int]:
  path = source.check_path(path, name="admissions")
  names = ("subject_id", "race")
  rows = csv_table.read_rows(path, columns=names, parse=lambda *row: row)
  return radiograph_columns.race_codes(rows)


def _check(name: str, text: str, pattern: re.Pattern) -> None:
  if not pattern.fullmatch(text):
    shown = bounded.short(repr(text))
    raise ValueError(f"{name} must be as in MIMIC-CXR, got {shown}.")
