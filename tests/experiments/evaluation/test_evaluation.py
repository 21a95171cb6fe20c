"""Evaluations: every example once, alone or beside a twin, and all told."""

import io
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
from sklearn import metrics

from experiments.evaluation import outcomes, results, tables
from experiments.plan import fields, splits
from experiments.tasks import registry
from experiments.tasks import task as task_lib
from experiments.tasks.images import sources
from jax_privacy import data
from tests.support import launch

_CLASSES = 12


def _source(num_examples=23, **options):
  """Images whose first pixel is the label, its second the row."""
  labels = np.arange(num_examples) % 3
  images = np.zeros((num_examples, 2, 2, 1), np.uint8)
  images[:, 0, 0, 0] = labels
  images[:, 0, 1, 0] = np.arange(num_examples)
  return data.ArraySource(images, labels, num_classes=_CLASSES, **options)


def _model_of(logits_fn):
  return task_lib.Predictor(
      params=jnp.float32(1),
      predict_fn=lambda params, batch: params
      * logits_fn(batch["image"].astype(jnp.float32)),
  )


def _task(source, labels=()):
  kind = {"task__name": "classification"}
  if source.is_multi_label:
    kind = {"task__name": "multi_label", "loss__name": "sigmoid"}
  config = launch.config(eval__labels=labels, **kind)
  return registry.build(**fields.task_sections(config))


def _sections(found, source, rows, labels=()):
  return results.sections(_task(source, labels), found, source, rows)


def _predicting(predict):
  def logits(images):
    label = predict(images[:, 0, 0, 0])
    is_label = label[:, None] == jnp.arange(float(_CLASSES))[None]
    return is_label.astype(jnp.float32)

  return _model_of(logits)


def _collect(model, source, *, batch_size=5, num_examples=None):
  rows = outcomes.chosen_rows(source, num_examples)
  found = outcomes.collect(
      _task(source), model, model.params, source, rows, batch_size=batch_size
  )
  return found, rows


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_counts_every_example_once(batch_size):
  # Class 2 is taken for 0; classes 0 and 1 are right; others have no example.
  model, source = _predicting(lambda x: jnp.where(x == 2, 0, x)), _source()
  found, rows = _collect(model, source, batch_size=batch_size)
  overall, classes = _sections(found, source, rows)
  assert overall.rows["accuracy"].num_examples == 23
  assert overall.rows["accuracy"].value == pytest.approx(16 / 23)
  # Of class 2 the logit ties with all but the first: it is the third.
  assert overall.rows["top5_accuracy"].value == 1.0
  assert list(classes.rows) == [str(i) for i in range(_CLASSES)]
  assert [classes.rows[k].value for k in "012"] == [1.0, 1.0, 0.0]
  assert classes.rows["3"].why_undefined == "no example"
  assert classes.notes == ("left out: 3, 4, 5, 6, 7, 8, 9, 10, 11",)
  facts = classes.facts
  assert facts["worst"] == "2"
  assert facts["absolute_disparity"] == pytest.approx(-16 / 23)
  assert facts["relative_disparity"] == pytest.approx(1 / (7 / 23))


def test_a_part_evenly_spaced():
  source = _source()
  found, rows = _collect(
      _predicting(jnp.zeros_like), source, batch_size=4, num_examples=7
  )
  assert rows.tolist() == [0, 3, 6, 9, 13, 16, 19]
  # Four of them are of class 0.
  overall = _task(source).overall(source, found)
  assert overall["accuracy"].value == pytest.approx(4 / 7)


@pytest.mark.parametrize(
    "split, other, want",
    [
        ("test", "train", False),
        ("train", "train", True),
        ("valid", "train+valid", True),
        ("valid", "train_valid", True),
        ("train+valid", "train", True),
        ("valid", "train", False),
        ("test_set", "train_set", False),
    ],
)
def test_splits_that_share_examples(split, other, want):
  assert splits.share_examples(split, other) is want
  assert splits.share_examples(other, split) is want


_LABEL_NAMES = ("ant", "bee", "cow", "dog")


def _multi_label(num_examples=60, **options):
  rng = np.random.default_rng(0)
  labels = rng.choice([1, 0, -1], (num_examples, 4), p=[0.4, 0.4, 0.2])
  labels[:, 3] = np.minimum(labels[:, 3], 0)  # Nobody has it.
  images = rng.integers(0, 256, (num_examples, 2, 2, 1), np.uint8)
  return data.ArraySource(images, labels, label_names=_LABEL_NAMES, **options)


def _pixels():
  return _model_of(lambda images: images.reshape(len(images), 4))


def _sex(codes):
  return {"sex": data.Group(names=("F", "M", "X"), codes=np.array(codes))}


def test_areas_of_labels_and_of_groups():
  codes = [0] * 30 + [1] * 25 + [2] * 3 + [-1] * 2
  source = _multi_label(groups=_sex(codes))
  found, rows = _collect(_pixels(), source, batch_size=7)
  overall, labels, sex = _sections(found, source, rows)
  arrays = source.as_arrays()
  scores = arrays["image"].reshape(60, 4).astype(float)

  def auc(i, at):
    label = arrays["label"][at, i]
    return metrics.roc_auc_score(label[label >= 0], scores[at, i][label >= 0])

  everyone = np.arange(60)
  want = [auc(i, everyone) for i in range(3)]
  got = [labels.rows[name].value for name in _LABEL_NAMES[:3]]
  assert got == pytest.approx(want)
  assert labels.rows["dog"].why_undefined == "no example with it"
  assert labels.notes == ("left out: dog",)
  assert overall.rows["macro_auc"].value == pytest.approx(np.mean(want))
  counted = arrays["label"] >= 0
  micro = metrics.roc_auc_score(arrays["label"][counted], scores[counted])
  assert overall.rows["micro_auc"].value == pytest.approx(micro)
  # Groups are told of the three labels that anyone has.
  for name, at in (("F", everyone[:30]), ("M", everyone[30:55])):
    mean = np.mean([auc(i, at) for i in range(3)])
    assert sex.rows[name].value == pytest.approx(mean)
  small = sex.rows["X"]
  assert math.isnan(small.value) and small.num_examples == 3
  assert small.why_undefined.startswith("too small: no example with")
  assert sex.facts["largest_gap"] == pytest.approx(
      abs(sex.rows["F"].value - sex.rows["M"].value)
  )
  assert {sex.facts["highest"], sex.facts["lowest"]} == {"F", "M"}
  assert sex.notes == ("of unknown group: 2 examples",)


def test_some_labels_alone():
  source = _multi_label()
  found, rows = _collect(_pixels(), source)
  whole = _sections(found, source, rows)[1].rows
  overall, labels = _sections(found, source, rows, labels=("cow", "ant"))
  assert list(labels.rows) == ["cow", "ant"]
  want = (whole["cow"].value + whole["ant"].value) / 2
  assert overall.rows["macro_auc"].value == pytest.approx(want)


@pytest.mark.parametrize(
    "make, labels, message",
    [
        (
            _multi_label,
            ("emu",),
            "labels must be among ant, bee, cow, dog, got",
        ),
        (_multi_label, ("ant", "ant"), "labels must be different, got ant,ant"),
        (
            _source,
            ("0",),
            "labels must be empty where an example has one class",
        ),
    ],
)
def test_labels_that_there_are_not(make, labels, message):
  with pytest.raises(ValueError, match=message):
    sources.reported(make(), labels)


def test_groups_of_one_class_each_and_their_intersections():
  # Men of class 2, and nobody else, are taken for 0.
  sex = np.arange(23) % 2
  age = np.arange(23) // 12
  groups = {
      "sex": data.Group(names=("F", "M"), codes=sex),
      "age": data.Group(names=("young", "old"), codes=age),
  }
  source = _source(groups=groups)

  def logits(images):
    label, row = images[:, 0, 0, 0], images[:, 0, 1, 0]
    label = jnp.where((label == 2) & (row % 2 == 1), 0, label)
    return (label[:, None] == jnp.arange(12.0)[None]).astype(jnp.float32)

  found, rows = _collect(_model_of(logits), source)
  right = ~((np.arange(23) % 3 == 2) & (sex == 1))
  _, _, by_sex, by_age, both = _sections(found, source, rows)
  assert [s.title for s in (by_sex, by_age, both)] == [
      "sex",
      "age",
      "sex x age",
  ]
  assert by_sex.rows["F"].value == 1.0
  assert by_sex.rows["M"].value == pytest.approx(right[sex == 1].mean())
  assert by_age.rows["old"].value == pytest.approx(right[age == 1].mean())
  cell = both.rows["M, old"]
  assert cell.value == pytest.approx(right[(sex == 1) & (age == 1)].mean())
  assert cell.num_examples == ((sex == 1) & (age == 1)).sum()
  # Of a part of the rows, the codes of those rows.
  found, rows = _collect(_model_of(logits), source, num_examples=7)
  by_sex = _sections(found, source, rows)[2]
  want = right[rows][sex[rows] == 1].mean()
  assert by_sex.rows["M"].value == pytest.approx(want)


def _printed(ours, twins=None, *, terminal=False):
  file = io.StringIO()
  console = rich.console.Console(
      file=file, width=120, force_terminal=terminal, highlight=False
  )
  tables.show(console, ours, twins)
  return file.getvalue()


@pytest.mark.few(1)
@pytest.mark.parametrize("terminal", [False, True])
def test_everything_is_printed(terminal):
  codes = [0] * 30 + [1] * 25 + [2] * 3 + [-1] * 2
  source = _multi_label(groups=_sex(codes))
  found, rows = _collect(_pixels(), source)
  told = _sections(found, source, rows)
  twin, _ = _collect(_model_of(lambda x: -x.reshape(len(x), 4)), source)
  twins = _sections(twin, source, rows)
  text = _printed(told, twins, terminal=terminal)
  macro = told[0].rows["macro_auc"]
  assert f"{macro.value:.2%} +- {macro.standard_error:.2%}" in text
  # All scores are turned round: an area A is 1 - A, and what is won 2 A - 1.
  assert f"{2 * macro.value - 1:+.2%} +- {2 * macro.standard_error:.2%}" in text
  for word in (*_LABEL_NAMES, "F", "M", "X", "too small", "left out: dog"):
    assert word in text
  assert "unknown group: 2" in text and "twin's largest gap" in text
  assert ("\x1b" in text) == terminal and ("┃" in text) == terminal
  # JSON has the same numbers, and no NaN.
  written = json.loads(json.dumps(results.as_json(told), allow_nan=False))
  assert written["overall"]["rows"]["macro_auc"]["value"] == macro.value
  assert written["label"]["rows"]["dog"]["value"] is None
  gone = results.differences_as_json(told, twins)["overall"]["macro_auc"]
  assert gone["value"] == pytest.approx(2 * macro.value - 1)


def test_names_are_no_markup():
  groups = {"[red]": data.Group(names=("[b]", "M"), codes=np.zeros(23, int))}
  source = _source(groups=groups)
  found, rows = _collect(_predicting(lambda x: x), source)
  for terminal in (False, True):
    text = _printed(_sections(found, source, rows), terminal=terminal)
    assert "[b]" in text and "[red]" in text
