"""What the sources of chest radiographs share: labels, patients, groups.

Invariant: a patient's images are all in one split, which depends on that
patient's id alone.

The unit of privacy is one example, an image. A patient has several, so an
epsilon for examples does not hold for patients, unless `one_image_per_patient`
keeps one image of each. The chosen image depends on that patient's own rows
alone, and so does all that a run can learn of the patient.

>>> split_of("patient00001", valid_fraction=0.0, test_fraction=0.0)
'train'
"""

import hashlib
import math
import numbers
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jax_privacy.data import columns as columns_lib
from jax_privacy.data import encoded, labels, source
from jax_privacy.data import radiograph_columns as columns


class Image(NamedTuple):
  """A row of a table of images.

  Attributes:
    patient: Patient of the image.
    file: Path in the root, with "/".
    is_frontal: Whether it was taken from the front or the back.
    labels: Labels of the 14 observations, 1, 0 or -1.
    sex: Code of `columns.SEX_NAMES`, or -1.
    age: Age in years, or -1.
  """

  patient: str
  file: str
  is_frontal: bool
  labels: tuple[int, ...]
  sex: int
  age: int


def check_fractions(valid_fraction: float, test_fraction: float) -> None:
  """Checks the shares of patients that are held out.

  Args:
    valid_fraction: The share of the split "valid".
    test_fraction: The share of the split "test".

  Raises:
    ValueError: If one is no number in [0, 1), or both leave none.
  """
  pairs = {"valid_fraction": valid_fraction, "test_fraction": test_fraction}
  for name, value in pairs.items():
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (is_number and 0 <= value < 1):  # NaN fails.
      raise ValueError(f"{name} must be in [0, 1), got {value!r}.")
  if math.fsum(pairs.values()) >= 1:
    raise ValueError(
        "valid_fraction and test_fraction must leave patients to train on, got"
        f" {valid_fraction} and {test_fraction}."
    )


def split_of(
    patient: str, *, valid_fraction: float, test_fraction: float
) -> str:
  """Returns a patient's split: "train", "valid" or "test".

  A hash of the id is a number in [0, 1), the same on every machine: below
  `valid_fraction` is "valid", below the sum of both "test".

  Args:
    patient: The id.
    valid_fraction: The expected share of "valid".
    test_fraction: The expected share of "test".

  Returns:
    The split.
  """
  digest = hashlib.sha256(f"split of {patient}".encode()).digest()
  place = int.from_bytes(digest[:6], "big") / 2**48
  if place < valid_fraction:
    return "valid"
  return "test" if place < valid_fraction + test_fraction else "train"


def make_source(
    root: pathlib.Path,
    images: Sequence[Image],
    *,
    frontal_only: bool,
    one_image_per_patient: bool,
    with_sex_and_age: bool,
    race: Mapping[str, int] | None,
    image_size: Sequence[int] | None,
    crop: bool,
    channels: int,
    num_examples: int | None,
) -> encoded.EncodedSource:
  """Makes the source of a split.

  Args:
    root: The folder of the images.
    images: Those of the split, in the order of examples, none twice.
    frontal_only: Whether lateral images are left out.
    one_image_per_patient: Whether only one image of each patient is kept: the
      first frontal one in the order of paths, or the first, where none is.
    with_sex_and_age: Whether these are groups.
    race: Codes by patient, from `race_codes`; or None, where it is no group.
    image_size: Height and width; see `EncodedSource`, and for all below.
    crop: Whether images keep their proportions.
    channels: Number of channels, 1 or 3.
    num_examples: Stated number of examples.

  Returns:
    A source of the 14 labels.

  Raises:
    ValueError: If no image is left, or an option is wrong.
  """
  labels.check_flag("frontal_only", frontal_only)
  labels.check_flag("one_image_per_patient", one_image_per_patient)
  if frontal_only:
    images = [image for image in images if image.is_frontal]
  if one_image_per_patient:
    images = _one_of_each_patient(images)
  if not images:
    raise ValueError(f"{root} must hold an image of the split, got none.")
  files = [f"{root}/{image.file}" for image in images]
  return encoded.EncodedSource(
      files,
      files,
      np.array([image.labels for image in images], np.int32),
      channels=channels,
      image_size=image_size,
      crop=crop,
      label_names=columns.CHEXPERT_14,
      num_examples=num_examples,
      groups=_groups(images, with_sex_and_age, race),
      read_column=columns_lib.held(
          {"patient": [image.patient for image in images]}
      ),
  )


def _one_of_each_patient(images: Sequence[Image]) -> list[Image]:
  chosen = {}
  for image in images:
    other = chosen.setdefault(image.patient, image)
    if (not image.is_frontal, image.file) < (not other.is_frontal, other.file):
      chosen[image.patient] = image
  return list(chosen.values())


def _groups(images, with_sex_and_age, race) -> dict[str, source.Group]:
  groups = {}
  if with_sex_and_age:
    ages = np.array([image.age for image in images])
    last = len(columns.AGE_NAMES) - 1
    codes = np.where(ages < 0, -1, np.minimum(ages // 20, last))
    groups["sex"] = source.Group(
        names=columns.SEX_NAMES, codes=np.array([image.sex for image in images])
    )
    groups["age"] = source.Group(names=columns.AGE_NAMES, codes=codes)
  if race is not None:
    codes = np.array([race.get(image.patient, -1) for image in images])
    groups["race"] = source.Group(names=columns.RACE_NAMES, codes=codes)
  return groups
