"""The columns of tables of chest radiographs, and what their texts mean.

Invariant: a text that is not one of those listed is a ValueError, never a
guess.

>>> parse_labels(("1.0", "-1.0", ""), uncertain=(0, 1, 0))
(1, 1, 0)
>>> parse_sex("Unknown"), parse_whole("Age", "90")
(-1, 90)
"""

import re
from collections.abc import Iterable, Sequence

from jax_privacy.data import bounded

CHEXPERT_14 = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The observations, in the order of CheXpert's columns."""

CHEXPERT_5 = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Pleural Effusion",
)
"""The observations that Irvin et al. 2019 and Berrada et al. 2023 report."""

# What jax_privacy 1.0 maps to 1; see `uncertain_values`.
_MIXED_TO_ONE = ("Atelectasis", "Edema", "Pleural Effusion")
_UNCERTAIN = {
    "zeros": (0,) * len(CHEXPERT_14),
    "ones": (1,) * len(CHEXPERT_14),
    "ignore": (-1,) * len(CHEXPERT_14),
    "mixed": tuple(int(name in _MIXED_TO_ONE) for name in CHEXPERT_14),
}
_LABELS = {"1.0": 1, "1": 1, "0.0": 0, "0": 0, "": 0, "-1.0": -1, "-1": -1}
SEX_NAMES = ("Female", "Male")
_SEXES = {"Female": 0, "F": 0, "Male": 1, "M": 1, "Unknown": -1, "": -1}
AGE_NAMES = ("0-19", "20-39", "40-59", "60-79", "80+")  # Twenty years each.
RACE_NAMES = ("Asian", "Black", "Hispanic", "White", "Other")
_RACE_UNKNOWN = ("UNKNOWN", "REFUSED", "DECLINED", "UNABLE")


def uncertain_values(rule: str) -> tuple[int, ...]:
  """Returns what an uncertain label becomes, for each of the 14.

  Args:
    rule: Name: "zeros", "ones", "ignore" (-1, not counted), or "mixed": 1 for
      Atelectasis, Edema and Pleural Effusion, and 0 for the others.

  Returns:
    14 values.

  Raises:
    ValueError: If the rule is no such name.

  Source: "zeros", "ones" and "ignore" are Irvin et al. 2019's (1901.07031)
    U-Zeros, U-Ones and U-Ignore. "mixed" is read in jax_privacy 1.0's
    `image_data/chexpert.py`, which also smooths such a target to 0.8 or 0.2:
    here labels are whole.
  """
  if not isinstance(rule, str) or rule not in _UNCERTAIN:
    raise ValueError(
        f"uncertain must be one of {', '.join(_UNCERTAIN)}, got {rule!r}."
    )
  return _UNCERTAIN[rule]


def parse_labels(
    texts: Sequence[str], *, uncertain: Sequence[int]
) -> tuple[int, ...]:
  """Returns labels of 1, 0 and -1; blank (not mentioned) is 0.

  Args:
    texts: Texts: "1.0", "0.0", "-1.0" (uncertain) or "" each; ".0" may be
      missing.
    uncertain: Label for an uncertain text, one for each text.

  Returns:
    A label for each text.

  Raises:
    ValueError: If a text is any other.
  """
  try:
    values = [_LABELS[text] for text in texts]
  except KeyError as error:
    shown = bounded.short(repr(error.args[0]))
    raise ValueError(
        f"a label must be 1.0, 0.0, -1.0 or blank, got {shown}."
    ) from None
  pairs = zip(values, uncertain, strict=True)
  return tuple(other if value == -1 else value for value, other in pairs)


def parse_sex(text: str) -> int:
  """Returns the code of a sex, -1 for an unknown one.

  Args:
    text: Text: "Female", "F", "Male", "M", "Unknown" or "".

  Returns:
    0 for female, 1 for male, -1.

  Raises:
    ValueError: If it is any other text.
  """
  if text not in _SEXES:
    shown = bounded.short(repr(text))
    raise ValueError(f"sex must be one of {list(_SEXES)}, got {shown}.")
  return _SEXES[text]


def parse_whole(name: str, text: str) -> int:
  """Returns a whole number of at most ten digits, -1 for a blank.

  Args:
    name: Name of the column, for the error text.
    text: The digits.

  Returns:
    The number.

  Raises:
    ValueError: If it is any other text.
  """
  if text == "":
    return -1
  if not re.fullmatch("[0-9]{1,10}", text):
    shown = bounded.short(repr(text))
    raise ValueError(f"{name} must be a whole number or blank, got {shown}.")
  return int(text)


def race_codes(rows: Iterable[tuple[str, str]]) -> dict[str, int]:
  """Returns each patient's code of a race, as a form that has many names.

  A text that begins with one of Asian, Black, Hispanic or White, in any case,
  is of that group; one that says that it is unknown, refused or declined, or is
  blank, of none; and others of "Other". A patient with two is of none.

  Args:
    rows: Pairs of a patient and a text; a patient may have several.

  Returns:
    Codes by patient, -1 where unknown.
  """
  codes = {}
  for patient, text in rows:
    code = _race_code(text.upper())
    if code is not None:
      codes[patient] = code if codes.get(patient, code) == code else -1
  return codes


def _race_code(text: str) -> int | None:
  if not text or any(word in text for word in _RACE_UNKNOWN):
    return None
  *named, other = range(len(RACE_NAMES))
  starts = [i for i in named if text.startswith(RACE_NAMES[i].upper())]
  return starts[0] if starts else other
