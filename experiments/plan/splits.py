"""Loads the splits of a config's data set.

The invariant: the test split shares no example with the training split, and is
of the same labels.
"""

from collections.abc import Sequence

import ml_collections

from experiments.plan import features, fields
from jax_privacy import data
from jax_privacy.data import source as source_lib


def load(
    data_config: ml_collections.ConfigDict,
    *,
    augment_config: ml_collections.ConfigDict,
    eval_config: ml_collections.ConfigDict,
) -> tuple[data.Source, data.Source]:
  """Loads the training and the test split, and checks that they are a pair.

  Args:
    data_config: A config's section.
    augment_config: The section that some kinds of data restrict.
    eval_config: The section that names the labels to report.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """
  if share_examples(data_config.test_split, data_config.train_split):
    raise ValueError(
        "data.test_split must share no example with data.train_split,"
        f" {data_config.train_split!r} (what it gives is released), got"
        f" {data_config.test_split!r}."
    )
  with fields.named("data.train_split"):
    train_source = build_source(
        data_config,
        data_config.train_split,
        augment_config=augment_config,
        num_examples=data_config.num_examples,
    )
  with fields.named("data.test_split"):
    test_source = build_source(
        data_config,
        data_config.test_split,
        augment_config=augment_config,
        for_evaluation=True,
    )
  with fields.named("eval.labels"):
    reported(test_source, eval_config.labels)
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
  if train_source.is_multi_label != test_source.is_multi_label:
    raise ValueError(
        "data.test_split must have as many labels an example as the training"
        " split, got several for one of them alone."
    )
  return train_source, test_source


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

  Raises:
    ValueError: If a field breaks its rule.
  """
  taken = ("name", "split", "num_examples")
  options = fields.options("data.options", data_config.options, taken=taken)
  if for_evaluation:
    options |= fields.options(
        "data.test_options", data_config.test_options, taken=taken
    )
    options.pop("crop_size", None)  # For `_augment`.
  source = data.load(
      data_config.source, split=split, num_examples=num_examples, **options
  )
  return features.extract(data_config, source, augment_config=augment_config)


def share_examples(split: str, other: str) -> bool:
  """Returns whether two splits of a data set have examples in common.

  Args:
    split: A name, such as "test", or several joined by "+" as in "train+valid",
      which is also written "train_valid".
    other: Likewise.
  """
  return bool(source_lib.split_parts(split) & source_lib.split_parts(other))


def reported(source: data.Source, labels: Sequence[str]) -> list[int]:
  """Returns the numbers of the labels to report.

  Args:
    source: What the labels are of.
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
