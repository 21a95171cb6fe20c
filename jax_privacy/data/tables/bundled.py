"""The tables that scikit-learn bundles: breast_cancer and wine.

Invariant: bounds are round numbers around the ranges that the sets' published
descriptions give; none is read off the rows.

>>> source = load_wine(split="test")
>>> len(source), source.target.label_names
(36, ('class_0', 'class_1', 'class_2'))
"""

from typing import Any

import numpy as np

from jax_privacy import _extras
from jax_privacy.data import source as source_lib
from jax_privacy.data.tables import source as table_source
from jax_privacy.data.tables import splits

# The upper bound of each measurement: of its mean, its error and its worst.
# The lower ones are 0.
_CELLS = {
    "radius": (30.0, 3.0, 40.0),
    "texture": (40.0, 5.0, 50.0),
    "perimeter": (200.0, 25.0, 300.0),
    "area": (2600.0, 600.0, 4500.0),
    "smoothness": (0.2, 0.04, 0.25),
    "compactness": (0.4, 0.15, 1.2),
    "concavity": (0.5, 0.4, 1.3),
    "concave points": (0.25, 0.06, 0.3),
    "symmetry": (0.4, 0.1, 0.7),
    "fractal dimension": (0.1, 0.03, 0.25),
}
_WINE = {
    "alcohol": (11.0, 15.0),
    "malic_acid": (0.5, 6.0),
    "ash": (1.0, 3.5),
    "alcalinity_of_ash": (10.0, 30.0),
    "magnesium": (70.0, 165.0),
    "total_phenols": (0.5, 4.0),
    "flavanoids": (0.0, 5.5),
    "nonflavanoid_phenols": (0.0, 0.7),
    "proanthocyanins": (0.0, 4.0),
    "color_intensity": (1.0, 13.0),
    "hue": (0.4, 1.8),
    "od280/od315_of_diluted_wines": (1.0, 4.0),
    "proline": (250.0, 1700.0),
}
# One in five of each class, in their order, is of the test split.
_HELD_OUT_EVERY = 5
# Public: the sets' published sizes.
_NUM_EXAMPLES = {
    "breast_cancer": {"train": 455, "test": 114},
    "wine": {"train": 142, "test": 36},
}


def load_breast_cancer(
    *, split: str = "train", num_examples: int | None = None
) -> table_source.TableSource:
  """Loads 30 measurements of 569 samples, malignant or benign.

  Args:
    split: Name of the split, "train" (455) or "test" (114).
    num_examples: Stated number of rows; None for the published one.

  Returns:
    The source.

  Raises:
    ImportError: If scikit-learn is not installed.
    ValueError: If an option breaks its rule.

  Source: Wolberg, Street and Mangasarian 1995, UCI; bundled by scikit-learn.
  """
  names = (
      [f"mean {name}" for name in _CELLS]
      + [f"{name} error" for name in _CELLS]
      + [f"worst {name}" for name in _CELLS]
  )
  highs = [high for i in range(3) for high in (of[i] for of in _CELLS.values())]
  bounds = {k: (0.0, high) for k, high in zip(names, highs, strict=True)}
  return _load("breast_cancer", bounds, split, num_examples)


def load_wine(
    *, split: str = "train", num_examples: int | None = None
) -> table_source.TableSource:
  """Loads 13 measurements of 178 wines of three cultivars.

  Args:
    split: Name of the split, "train" (142) or "test" (36).
    num_examples: Stated number of rows; None for the published one.

  Returns:
    The source.

  Raises:
    ImportError: If scikit-learn is not installed.
    ValueError: If an option breaks its rule.

  Source: Aeberhard and Forina 1992, UCI; bundled by scikit-learn.
  """
  return _load("wine", _WINE, split, num_examples)


def _load(name: str, bounds, split, num_examples) -> table_source.TableSource:
  split = source_lib.check_split(split)
  with _extras.needed("data"):
    from sklearn import datasets
  bundle: Any = getattr(datasets, f"load_{name}")()
  labels = [str(label) for label in bundle.target_names]
  columns = {
      column: {"kind": "number", "bounds": list(of)}
      for column, of in bounds.items()
  }
  columns["target"] = {"kind": "category", "values": labels}
  rows = np.zeros(
      len(bundle.target),
      [*((column, np.float64) for column in bounds), ("target", "U16")],
  )
  for i, column in enumerate(bounds):
    rows[column] = bundle.data[:, i]
  rows["target"] = np.array(labels)[bundle.target]
  is_test = np.zeros(len(rows), bool)
  order = np.argsort(bundle.target, kind="stable")
  is_test[order[::_HELD_OUT_EVERY]] = True
  return splits.from_frame(
      rows[is_test == (split == "test")],
      schema={"columns": columns},
      target="target",
      num_examples=(
          _NUM_EXAMPLES[name][split] if num_examples is None else num_examples
      ),
  )
