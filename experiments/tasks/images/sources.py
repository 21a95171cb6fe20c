"""Loads a split of labelled images, and checks that two of them are a pair.

Invariant: a source is read as its section of the config says and no other, and
training and test images are of the same labels.
"""

from collections.abc import Sequence

import ml_collections

from experiments.tasks import imported, sections
from experiments.tasks.images import features
from jax_privacy import data


def build_source(
    data_config: ml_collections.ConfigDict,
    split: str,
    *,
    augment_config: ml_collections.ConfigDict,
    num_examples: int | None = None,
    for_evaluation: bool = False,
) -> data.Source:
  """Loads a split.

  Args:
    data_config: A config's section.
    split: Its name.
    augment_config: The section that some kinds of data restrict.
    num_examples: Stated, for one that is accounted with.
    for_evaluation: Whether to read it with `data.test_options`.

  Returns:
    The split.

  Raises:
    ValueError: If a field breaks its rule.
  """
  taken = ("name", "split", "num_examples")
  options = sections.options("data.options", data_config.options, taken=taken)
  if for_evaluation:
    options |= sections.options(
        "data.test_options", data_config.test_options, taken=taken
    )
    options.pop("crop_size", None)  # For `augment.test_crop_size`.
  name = imported.resolve(
      "data.source",
      data_config.source,
      takes=("split", "num_examples"),
      what="a function that loads a source",
  )
  source = data.load(name, split=split, num_examples=num_examples, **options)
  return features.extract(data_config, source, augment_config=augment_config)


def check_pair(
    data_config: ml_collections.ConfigDict,
    train_source: data.Source,
    test_source: data.Source,
) -> None:
  """Checks that a training and a test split are of the same kind.

  Args:
    data_config: A config's section, which may say that test images differ.
    train_source: Source of the training split.
    test_source: Source of the test split.

  Raises:
    ValueError: If labels differ, or shapes without `data.test_options`.
  """
  if train_source.label_names != test_source.label_names:
    raise ValueError(
        "data.test_split must have the training split's labels, got"
        f" {test_source.label_names} for {train_source.label_names}."
    )
  same_shape = train_source.image_shape == test_source.image_shape
  if not same_shape and not data_config.test_options:
    raise ValueError(
        "data.test_split must have images of the training split's shape where"
        f" no data.test_options say theirs, got {test_source.image_shape} for"
        f" {train_source.image_shape}."
    )


def reported(source: data.Source, labels: Sequence[str]) -> list[int]:
  """Returns the numbers of the labels to report.

  Args:
    source: Source that has the labels.
    labels: Their names; all if empty.

  Raises:
    ValueError: If one is not the source's or is there twice, or the source's
      examples have one class each.
  """
  if labels and not source.is_multi_label:
    raise ValueError(
        "labels must be empty where an example has one class, got"
        f" {','.join(labels)}."
    )
  if unknown := [name for name in labels if name not in source.label_names]:
    raise ValueError(
        f"labels must be among {', '.join(source.label_names)}, got"
        f" {unknown[0]!r}."
    )
  if len(set(labels)) != len(labels):
    raise ValueError(f"labels must be different, got {','.join(labels)}.")
  return [source.label_names.index(x) for x in labels or source.label_names]
