"""Small folders in the layouts of CheXpert and MIMIC-CXR-JPG."""

import csv
import gzip
import pathlib

import numpy as np
import PIL.Image

from jax_privacy import data

_RNG = np.random.default_rng(0)


def write_csv(path, rows):
  """Writes dicts as a CSV file, gzipped if its name says so."""
  path = pathlib.Path(path)
  opener = gzip.open if path.suffix == ".gz" else open
  with opener(path, "wt", newline="") as file:
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  return path


def write_image(path, size=(8, 8)):
  """Writes a grey JPEG, and returns its pixels as Pillow decodes them."""
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = _RNG.integers(0, 256, size, np.uint8)
  PIL.Image.fromarray(pixels).save(path)
  with PIL.Image.open(path) as image:
    return np.asarray(image)


def observations(*values):
  """The 14 columns: the first have these texts, the others are blank."""
  texts = [*values, *[""] * (14 - len(values))]
  return dict(zip(data.CHEXPERT_14, texts, strict=True))


def chexpert_row(file, *values, sex="Male", age="41", view="Frontal"):
  """A row as CheXpert has it."""
  return {
      "Path": f"CheXpert-v1.0-small/{file}",
      "Sex": sex,
      "Age": age,
      "Frontal/Lateral": view,
      "AP/PA": "AP" if view == "Frontal" else "",
      **observations(*values),
  }


def chexpert_file(split, patient, study=1, view="view1_frontal"):
  """The path of an image in the folder."""
  return f"{split}/patient{patient:05}/study{study}/{view}.jpg"


def make_chexpert(root, *, num_patients):
  """Writes a whole folder, of one image a patient and two to test on."""
  tables = {"train": [], "valid": []}
  for patient in range(1, num_patients + 3):
    split = "train" if patient <= num_patients else "valid"
    file = chexpert_file(split, patient)
    write_image(root / file)
    values = [("1.0", "0.0", "-1.0", "")[(patient + i) % 4] for i in range(14)]
    sex = ("Male", "Female")[patient % 2]
    age = str(7 * patient % 100)
    tables[split].append(chexpert_row(file, *values, sex=sex, age=age))
  for split, rows in tables.items():
    write_csv(root / f"{split}.csv", rows)
  return root
