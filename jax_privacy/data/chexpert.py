"""CheXpert: chest radiographs of 14 observations each, from its own files.

Invariant: a patient is in one split only, which is checked, and an image is
read from inside the folder only.

The folder is the release's, such as CheXpert-v1.0-small: train.csv and
valid.csv, and the images in train/patient00001/study1/view1_frontal.jpg.

The unit of privacy is an image, and a patient has several: CheXpert has
224,316 images of 65,240 patients. An epsilon of a run on all images does not
hold for a patient. Grouping images by the column "patient" makes it hold, and
so does `one_image_per_patient`.

Source: Irvin et al. 2019 (1901.07031). Berrada et al. 2023 (2308.10888) train
on the 14 labels and report `CHEXPERT_5`. What is done with labels and splits is
read in the code of jax_privacy 1.0, `image_data/chexpert.py`.

>>> load_chexpert(path="no/such/folder")
Traceback (most recent call last):
...
ValueError: no/such/folder/train.csv must be a CSV file, got no regular file.
"""

import os
import re
from collections.abc import Sequence

from jax_privacy.data import (
    bounded,
    csv_table,
    encoded,
    radiograph_columns,
    radiographs,
    source,
)

_COLUMNS = (
    "Path",
    "Sex",
    "Age",
    "Frontal/Lateral",
    *radiograph_columns.CHEXPERT_14,
)
_VIEWS = {"Frontal": True, "Lateral": False}
# Names only: nothing that leads out of the folder. The first is the release's.
_PATH = re.compile(
    r"CheXpert-v1\.0[\w-]*/"
    r"((?:train|valid|test)/(patient\d{1,9})/study\d{1,9}/[\w-]{1,99}\.jpg)",
    re.ASCII,
)
_PATIENT = re.compile(r"patient\d{1,9}", re.ASCII)
_SPLITS = ("train", "valid", "train+valid", "test")


def load_chexpert(
    *,
    split: str = "train",
    path: str | os.PathLike,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.0,
    uncertain: str = "mixed",
    frontal_only: bool = False,
    one_image_per_patient: bool = False,
    demographics: str | os.PathLike | None = None,
    image_size: Sequence[int] | None = None,
    crop: bool = False,
    channels: int = 1,
    num_examples: int | None = None,
) -> encoded.EncodedSource:
  """Loads a split.

  Args:
    split: Name: "train", "valid", "train+valid" or "test". The patients of
      train.csv are split by a hash of their ids; with the defaults "valid" has
      about a tenth of them, and "test" is valid.csv (234 images).
    path: The folder with train.csv.
    valid_fraction: The expected share of train.csv's patients in "valid".
    test_fraction: The expected share of train.csv's patients in "test", for a
      larger one than valid.csv, which is then not read; or 0.
    uncertain: Rule for uncertain labels: "zeros", "ones", "ignore" (-1, not
      counted) or "mixed" (1 for Atelectasis, Edema and Pleural Effusion, 0 for
      the others). A label that is not mentioned (blank) is always 0.
    frontal_only: Whether lateral images are left out; the papers keep them.
    one_image_per_patient: Whether one image of each patient is kept, so that
      an epsilon for an example is one for a patient.
    demographics: A CSV file with columns PATIENT and PRIMARY_RACE (the
      release's table of demographics, saved as CSV), for the group "race"; or
      None.
    image_size: Height and width to which images are resized, in pixels; None
      if all are of one size.
    crop: Whether an image that is resized is first cut to the largest centred
      part of that shape; else it is stretched, and nothing is lost.
    channels: Number of channels: 1 (grey) or 3 (grey, repeated).
    num_examples: The stated number of examples, or None where none is stated.

  Returns:
    A source of the labels `CHEXPERT_14`, with groups "sex" and "age".

  Raises:
    ValueError: If a file is missing or malformed (the text names file, line
      and rule), a path leads elsewhere, an image is listed twice, a patient is
      in two splits, or an option is wrong.
  """
  split = source.check_split(split, choices=_SPLITS)
  root = source.check_path(path)
  radiographs.check_fractions(valid_fraction, test_fraction)
  values = radiograph_columns.uncertain_values(uncertain)
  train = _read(root / "train.csv", values)
  if test_fraction:
    images = _part(train, split, valid_fraction, test_fraction)
  else:
    test = _read(root / "valid.csv", values)
    _check_apart(train, test)
    is_test = split == "test"
    images = test if is_test else _part(train, split, valid_fraction, 0.0)
  return radiographs.make_source(
      root,
      images,
      frontal_only=frontal_only,
      one_image_per_patient=one_image_per_patient,
      with_sex_and_age=True,
      race=None if demographics is None else _race(demographics),
      image_size=image_size,
      crop=crop,
      channels=channels,
      num_examples=num_examples,
  )


def _part(images, split, valid_fraction, test_fraction):
  """Returns the images whose patients are of the split."""
  return [
      image
      for image in images
      if radiographs.split_of(
          image.patient,
          valid_fraction=valid_fraction,
          test_fraction=test_fraction,
      )
      in split.split("+")
  ]


def _read(path, uncertain: Sequence[int]) -> list[radiographs.Image]:
  def parse(text, sex, age, view, *observations):
    found = _PATH.fullmatch(text)
    if not found:
      raise ValueError(
          "Path must be CheXpert-v1.0.../train/patient1/study1/name.jpg, got"
          f" {bounded.short(repr(text))}."
      )
    if view not in _VIEWS:
      shown = bounded.short(repr(view))
      raise ValueError(
          f"Frontal/Lateral must be Frontal or Lateral, got {shown}."
      )
    return radiographs.Image(
        patient=found[2],
        file=found[1],
        is_frontal=_VIEWS[view],
        labels=radiograph_columns.parse_labels(
            observations, uncertain=uncertain
        ),
        sex=radiograph_columns.parse_sex(sex),
        age=radiograph_columns.parse_whole("Age", age),
    )

  # An image that is there twice would be two examples, and count twice.
  return csv_table.read_rows(
      path, columns=_COLUMNS, parse=parse, key=lambda image: image.file
  )


def _check_apart(train, test) -> None:
  if both := {i.patient for i in train} & {i.patient for i in test}:
    raise ValueError(
        "a patient must be in one of train.csv and valid.csv, got"
        f" {min(both)} in both."
    )


def _race(path: str | os.PathLike) -> dict[str, int]:
  def parse(patient, race):
    if not _PATIENT.fullmatch(patient):
      shown = bounded.short(repr(patient))
      raise ValueError(f"PATIENT must be as patient00001, got {shown}.")
    return patient, race

  path = source.check_path(path, name="demographics")
  rows = csv_table.read_rows(
      path, columns=("PATIENT", "PRIMARY_RACE"), parse=parse
  )
  return radiograph_columns.race_codes(rows)
