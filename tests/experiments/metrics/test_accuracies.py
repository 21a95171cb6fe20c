"""Accuracies, areas, groups and their errors, against slow oracles."""

import doctest
import math

import numpy as np
import pytest

from experiments.evaluation import groups as groups_lib
from experiments.metrics import accuracies, estimate, roc


@pytest.mark.parametrize("module", [accuracies, estimate, roc, groups_lib])
def test_doctests(module):
  assert doctest.testmod(module).failed == 0


def _logits(seed, shape, *, levels):
  """Few levels, so that there are many ties."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, levels, shape).astype(np.float32)


@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_ranks_are_places_in_a_stable_sort(levels):
  logits = _logits(0, (40, 6), levels=levels)
  labels = np.random.default_rng(1).integers(0, 6, 40)
  got = accuracies.ranks(labels, logits)
  for row, label, rank in zip(logits, labels, got, strict=True):
    in_order = sorted(range(6), key=lambda c: (-row[c], c))
    assert in_order.index(label) == rank
  np.testing.assert_array_equal(got == 0, logits.argmax(axis=1) == labels)


def test_a_model_that_gives_nan_is_not_right():
  # argmax would take the NaN for class 0, and no logit is above NaN.
  logits = np.array([[math.nan] * 3, [1.0, math.nan, 0.0], [math.inf, 0, 0]])
  got = accuracies.ranks(np.array([0, 0, 0]), logits)
  assert got.tolist() == [3, 3, 0]
  assert accuracies.accuracy(got, top=3).value == pytest.approx(1 / 3)


@pytest.mark.parametrize("num_right", [0, 1, 7, 20])
def test_the_error_of_an_accuracy_is_the_binomial_one(num_right):
  ranks = np.array([0] * num_right + [1] * (20 - num_right))
  got = accuracies.accuracy(ranks)
  p = num_right / 20
  assert got.value == p and got.num_examples == 20
  assert got.standard_error == pytest.approx(math.sqrt(p * (1 - p) / 20))


def test_the_error_of_a_difference_is_a_paired_one():
  # Ten examples; two models that differ on three of them, two to one.
  first = accuracies.accuracy(np.array([0] * 6 + [1, 1, 1, 1]))
  second = accuracies.accuracy(np.array([0] * 4 + [1, 1, 0, 1, 1, 1]))
  got = first.minus(second)
  each = np.array([0] * 4 + [1, 1, -1, 0, 0, 0])
  assert got.value == pytest.approx(each.mean())
  assert got.standard_error == pytest.approx(each.std() / math.sqrt(10))
  assert first.minus(first).standard_error == 0
  # Taken for independent, the two would be far further from sure.
  apart = math.hypot(first.standard_error, second.standard_error)
  assert got.standard_error < apart


@pytest.mark.parametrize(
    "per_class, overall, want",
    [
        ({"a": 0.9, "b": 0.5}, 0.7, (-0.2, 0.5 / 0.3, "b")),
        ({"a": 1.0, "b": 1.0}, 1.0, (0.0, 1.0, "a")),
        ({"a": 0.0, "b": 0.0}, 0.0, (0.0, 1.0, "a")),
        # Every class beyond the whole cannot be; the formulas still hold.
        ({"a": 0.8, "b": 0.9}, 0.5, (0.0, 1.0, "a")),
        ({"a": 0.5, "b": math.nan}, 0.5, (0.0, 1.0, "a")),
    ],
)
def test_disparities_of_known_accuracies(per_class, overall, want):
  got = accuracies.disparity(per_class, overall=overall)
  assert (got.absolute, got.relative) == pytest.approx(want[:2])
  assert got.worst == want[2]
  assert got.left_out == tuple(k for k, v in per_class.items() if v != v)


def test_disparity_of_no_class_is_refused():
  with pytest.raises(ValueError, match="per_class must have a class with exam"):
    accuracies.disparity({"a": math.nan}, overall=0.5)


def _slow_auc(labels, scores):
  positive = scores[labels == 1][:, None]
  negative = scores[labels == 0][None, :]
  pairs = (positive > negative) + 0.5 * (positive == negative)
  return float(np.mean(pairs)) if pairs.size else math.nan


def _examples(seed, shape=(60,), levels=8):
  """Labels of three kinds, with scores that tell of them a little."""
  rng = np.random.default_rng(seed)
  labels = rng.choice([1, 0, -1], shape, p=[0.3, 0.5, 0.2])
  scores = rng.integers(0, levels, shape) + 2.0 * (labels == 1)
  return labels, scores.astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_the_share_of_pairs_in_order(seed):
  labels, scores = _examples(seed)
  got = roc.auc(labels, scores)
  assert got.value == pytest.approx(_slow_auc(labels, scores))
  assert got.num_examples == (labels >= 0).sum()
  assert got.num_positive == (labels == 1).sum()
  # Any increasing scale will do, infinite ends included.
  scaled = np.where(scores == scores.max(), np.inf, np.exp(scores))
  assert roc.auc(labels, scaled).value == pytest.approx(got.value)


def test_influences_are_what_leaving_out_would_move():
  # With one of m positives left out, the mean over the others moves by
  # (A - V_i) / (m - 1): the influence is that, times -(m - 1) / m.
  labels, scores = _examples(5)
  got = roc.auc(labels, scores)
  for i in range(len(labels)):
    same_kind = (labels == labels[i]).sum()
    without = _slow_auc(np.delete(labels, i), np.delete(scores, i))
    want = (got.value - without) * (same_kind - 1) / same_kind
    want = 0.0 if labels[i] == -1 else want
    assert got.influence[i] == pytest.approx(want, abs=1e-12)


def _bootstrap(estimate_fn, num_examples, *, repeats=200):
  rng = np.random.default_rng(0)
  draws = rng.integers(0, num_examples, (repeats, num_examples))
  return np.std([estimate_fn(rows) for rows in draws])


@pytest.mark.parametrize("kind", ["label", "macro", "micro"])
def test_errors_of_areas_are_those_of_a_bootstrap(kind):
  # The bootstrap's own error is 1 / sqrt(2 * 200) = 5%, to 4 sigma 20%; with
  # 300 examples the two differ by some percent more. Labels that share
  # examples: taken for independent, the macro mean's error would be smaller by
  # sqrt(3), for the three columns are copies but for a little noise.
  labels, scores = _examples(7, (300, 1), levels=12)
  rng = np.random.default_rng(8)
  labels = np.repeat(labels, 3, axis=1)
  scores = np.repeat(scores, 3, axis=1) + rng.random((300, 3)) / 9

  def slow(rows):
    if kind == "micro":
      return _slow_auc(labels[rows].ravel(), scores[rows].ravel())
    columns = range(1 if kind == "label" else 3)
    return np.mean(
        [_slow_auc(labels[rows, i], scores[rows, i]) for i in columns]
    )

  each = [roc.auc(labels[:, i], scores[:, i]) for i in range(3)]
  got = {
      "label": each[0],
      "macro": roc.macro(each),
      "micro": roc.micro(labels, scores),
  }[kind]
  want = _bootstrap(slow, 300)
  assert got.standard_error == pytest.approx(want, rel=0.25)
  assert got.num_examples == (
      300 if kind != "label" else (labels >= 0).sum() / 3
  )


def test_macro_and_micro_are_those_of_their_definition():
  labels, scores = _examples(9, (50, 4))
  labels[:, 2] = -1
  each = [roc.auc(labels[:, i], scores[:, i]) for i in range(4)]
  slow = [_slow_auc(labels[:, i], scores[:, i]) for i in (0, 1, 3)]
  assert roc.macro(each).value == pytest.approx(np.mean(slow))
  got = roc.micro(labels, scores)
  assert got.value == pytest.approx(_slow_auc(labels.ravel(), scores.ravel()))
  nothing = roc.macro(each[2:3])
  assert math.isnan(nothing.value) and nothing.why_undefined


@pytest.mark.parametrize(
    "labels, scores, why",
    [
        ([0, 0, -1], [1.0, 2.0, 3.0], "no example with it"),
        ([1, 1, -1], [1.0, 2.0, 3.0], "no example without it"),
        ([], [], "no example with it"),
        ([1, 0], [math.nan, 1.0], "NaN among the scores"),
    ],
)
def test_an_area_that_is_not_defined_is_said_to_be(labels, scores, why):
  got = roc.auc(np.array(labels, int), np.array(scores, float))
  assert got.why_undefined == why
  assert math.isnan(got.value) and math.isnan(got.standard_error)


def test_labels_of_another_kind_are_refused():
  with pytest.raises(ValueError, match="labels must be 1, 0 or -1, got"):
    roc.auc(np.array([0, 2]), np.zeros(2))


def test_splits_hold_every_example_once_or_as_unknown():
  rng = np.random.default_rng(0)
  names = {"sex": ("F", "M"), "age": ("young", "old", "very"), "site": ("A",)}
  codes = {k: rng.integers(-1, len(v), 50) for k, v in names.items()}
  found = list(groups_lib.splits(codes, names))
  assert [s.column for s in found] == [
      *names, "sex x age", "sex x site", "age x site",
  ]  # fmt: skip
  for split in found:
    rows = np.concatenate(list(split.rows.values()))
    assert len(set(rows)) == len(rows)
    assert len(rows) + split.num_unknown == 50
  got = found[3].rows["M, very"]
  want = [i for i in range(50) if codes["sex"][i] == 1 and codes["age"][i] == 2]
  assert got.tolist() == want and len(want)


def test_what_is_too_much_to_tell_is_named():
  many = tuple(map(str, range(20)))
  codes = {k: np.zeros(3, int) for k in ("a", "b")}
  *_, pair = groups_lib.splits(codes, {"a": many, "b": many})
  assert pair.column == "a x b" and not pair.rows
  assert "400 groups, of which at most 200" in pair.left_out
  codes = {str(i): np.zeros(3, int) for i in range(20)}
  *told, last = groups_lib.splits(codes, {k: ("x",) for k in codes})
  assert len(told) == 60 and all(split.rows for split in told)
  assert last.column == "150 more pairs of columns" and last.left_out


def _estimate(num_right, n):
  return accuracies.accuracy(np.array([0] * num_right + [1] * (n - num_right)))


def test_the_largest_gap_names_its_groups():
  groups = {
      "A": _estimate(7, 10),
      "B": _estimate(9, 10),
      "nobody": _estimate(0, 0),
      "C": _estimate(4, 10),
  }
  gap = groups_lib.largest_gap(groups)
  assert (gap.highest, gap.lowest) == ("B", "C")
  assert gap.value == pytest.approx(0.5)
  assert gap.standard_error == pytest.approx(math.sqrt((0.09 + 0.24) / 10))
  same = groups_lib.largest_gap({"A": _estimate(5, 10), "B": _estimate(5, 10)})
  assert same.value == 0 and same.highest != same.lowest
  assert groups_lib.largest_gap({"A": _estimate(5, 10)}) is None
