"""Evaluates sets of drawn images next to a run's real ones, and shows it.

Invariant: real images of the training split are read only if that is asked for,
and what they tell is marked private, on screen and in the file.
"""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.evaluation import saved
from experiments.metrics import estimate as estimate_lib
from experiments.run import workdir as workdir_lib
from experiments.synthetic import (
    classifiers,
    image_features,
    measures,
    reading,
)

_TRAIN = "training images (PRIVATE)"
Numbers = Mapping[str, estimate_lib.Estimate]


class Options(NamedTuple):
  """What to measure, and how.

  Attributes:
    kinds: Kinds of classifiers; see `classifiers.KINDS`.
    features: Name of the features; see `image_features.NAMES`.
    inception: Path of a program that computes features; None for none.
    private: Whether to read training images too.
    num_epochs: Number of epochs of networks.
    seed: Seed of the classifiers' training.
  """

  kinds: Sequence[str] = ("logistic", "mlp", "cnn")
  features: str = "scattering"
  inception: str | None = None
  private: bool = False
  num_epochs: int = 50
  seed: int = 0


def evaluate(
    run: saved.SavedRun,
    paths: Sequence[str],
    options: Options,
    *,
    json_file: str | None = None,
) -> None:
  """Measures sets of drawn images, and prints a table with a column each.

  Args:
    run: Saved run, whose split is what is real.
    paths: Folders that `experiments.generate` wrote, or .npz files.
    options: Options of what is measured.
    json_file: File to write all numbers to; None for no file.

  Raises:
    ValueError: If an option breaks its rule, or a set is not like the real
      images.
    OSError: If a file cannot be read or written.
  """
  classifiers.check_kinds(options.kinds)
  if options.num_epochs < 1:
    raise ValueError(f"epochs must be at least 1, got {options.num_epochs}.")
  if json_file and not pathlib.Path(json_file).absolute().parent.is_dir():
    raise ValueError(
        f"json must be in a folder that there is, got {json_file}."
    )
  real = reading.real(run.source, name=run.split)
  sets = _named([reading.read(path, like=real) for path in paths])
  features = image_features.build(
      options.features,
      image_shape=real.images.shape[1:],
      inception=options.inception,
  )
  train = _train(run, options, real)
  compared = [*sets, *([] if train is None else [train])]
  num = measures.num_images([*compared, real])
  columns = {
      one.name: _numbers(one, real, features, num, options) for one in compared
  }
  near = {
      one.name: measures.neighbours(one, real, train)
      for one in (sets if train is not None else ())
  }
  print(
      f"on {len(real.labels)} real images of {run.split}; distances are of"
      f" {num} images each, by {features.name}; +- is a standard error"
  )
  if run.is_private:
    print("These are training examples: the numbers are PRIVATE.")
  _show(columns)
  _show_near(near)
  for one in sets:
    print(f"{one.name}: {one.statement or 'without a statement'}")
  if json_file:
    record = _record(run, sets, columns, near, features, num)
    text = json.dumps(record, indent=2, allow_nan=False)
    pathlib.Path(json_file).write_text(text + "\n", encoding="utf-8")


def _named(sets: list[reading.ImageSet]) -> list[reading.ImageSet]:
  """Gives each set a name of its own."""
  names = [one.name for one in sets]
  return [
      one._replace(name=f"{one.name} ({i + 1})")
      if names.count(one.name) > 1
      else one
      for i, one in enumerate(sets)
  ]


def _train(run, options: Options, like) -> reading.ImageSet | None:
  if not options.private:
    return None
  source = run.task.load(run.config.data.train_split, for_evaluation=True)
  found = reading.real(source, name=_TRAIN)
  if found.images.shape[1:] != like.images.shape[1:]:
    raise ValueError(
        "private must be false for training images of another shape than the"
        f" test split's, got {found.images.shape[1:]}."
    )
  return found


def _numbers(one, real, features, num, options: Options) -> Numbers:
  found = classifiers.accuracies(
      one,
      real,
      kinds=options.kinds,
      seed=options.seed,
      num_epochs=options.num_epochs,
  )
  rows = {f"accuracy, {kind}": value for kind, value in found.items()}
  return rows | measures.distances(one, real, features, num_images=num)


def _cell(estimate: estimate_lib.Estimate) -> str:
  if math.isnan(estimate.value):
    return f"undefined ({estimate.why_undefined})"
  value = estimate_lib.shown(estimate.value, is_share=estimate.is_share)
  if math.isnan(estimate.standard_error):
    return value
  error = estimate_lib.shown(
      estimate.standard_error, is_share=estimate.is_share
  )
  return f"{value} +- {error}"


def _show(columns: Mapping[str, Numbers]) -> None:
  rows = [("", *columns)]
  for name in next(iter(columns.values())):
    rows.append((name, *(_cell(found[name]) for found in columns.values())))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  for row in rows:
    cells = (c.ljust(w) for c, w in zip(row, widths, strict=True))
    print("  ".join(cells).rstrip())


def _show_near(near: Mapping[str, measures.Neighbours]) -> None:
  for name, one in near.items():
    print(
        f"PRIVATE: to the nearest training image, {name} is {one.drawn:.4g} in"
        f" the median, test images {one.real:.4g}; {_cell(one.share_near)} are"
        " nearer than 1% of test images are"
    )


def _as_json(numbers: Numbers) -> dict[str, Any]:
  return {
      name: {
          "value": _finite(one.value),
          "standard_error": _finite(one.standard_error),
      }
      for name, one in numbers.items()
  }


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None


def _record(run, sets, columns, near, features, num) -> dict[str, Any]:
  found = {name: _as_json(one) for name, one in columns.items()}
  hidden = {
      name: {
          "median_distance": one.drawn,
          "median_distance_of_test": one.real,
          "share_near": one.share_near.value,
      }
      for name, one in near.items()
  }
  private: dict[str, Any] = {"neighbours": hidden} if hidden else {}
  if _TRAIN in found:
    private["training images"] = found.pop(_TRAIN)
  if run.is_private:
    private, found = {**private, **found}, {}
  return {
      "split": run.split,
      "features": features.name,
      "num_images": num,
      "sets": {
          one.name: {"sha256": one.sha256, "statement": one.statement}
          for one in sets
      },
      "numbers": found,
      **({workdir_lib.UNRELEASED_METRICS: private} if private else {}),
  }
