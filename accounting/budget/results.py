"""What a run reached on its test split, as its summary has it.

Invariant: a number is shown under the name that the summary has for it, and
only if it can be what it is called: a share is in [0, 1], and a name holds
nothing but letters, digits and underscores. The result is the number of the
parameters that `eval.params` chose beforehand, and says of which it is.

Example:
  >>> check({"headline": {}, "test_rmse": {"last": 2.5, "ema": None}})
  {'test_rmse last': 2.5}
  >>> check({"headline": {}, "test_auc": {"last": 2.5}})
  Traceback (most recent call last):
  ...
  ValueError: test_auc last must be a number in [0, 1], got 2.5.
  >>> result({"eval_params": "ema", "headline": {
  ...     "metric": "RMSE", "is_share": False, "values": {"ema": 2.5}}})
  ('result: RMSE of the ema parameters (eval.params)', 2.5)
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from accounting import _validate
from accounting.budget import records

ACCURACIES = ("test_accuracy", "test_accuracy_ema")
# By name of the parameters. An area replaces an accuracy of None, where an
# example has many labels.
_BY_PARAMS = (
    *("test_accuracies", "test_top5_accuracy"),
    *("test_micro_auc", "test_macro_auc", "test_auc"),
)
_SHARES = (*ACCURACIES, *_BY_PARAMS)
# Of examples that have one class each.
_ALWAYS_DEFINED = (*ACCURACIES, "test_accuracies", "test_top5_accuracy")
_NOT_METRICS = ("test_examples",)
_MAX_NAME = 60
_METRIC_NAME = re.compile(r"test_[a-z0-9_]{1,60}")
_PARAMS_NAME = re.compile(r"[a-z0-9_.+-]{1,60}")


def required(summary: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the keys of results that the summary must have.

  Args:
    summary: Values of the summary's keys, as read.
  """
  return () if "headline" in summary else ACCURACIES


def check(summary: Mapping[str, Any]) -> dict[str, float]:
  """Returns what the run reached on its test split, checked.

  Args:
    summary: Values of the summary's keys, as read.

  Returns:
    Numbers by name of the metric and of the parameters; those that the examples
    do not define are left out.

  Raises:
    ValueError: If a share is outside [0, 1], another number is not finite, or
      none replaces the accuracy of a run that has none.
  """
  has_auc = "test_macro_auc" in summary
  results = {key: summary[key] for key in ACCURACIES if key in summary}
  result(summary)
  for key in _keys(summary):
    by_params = summary.get(key)
    if by_params is None and has_auc:
      continue
    if not isinstance(by_params, Mapping) or not by_params:
      _validate.fail(key, "numbers by name of the parameters", by_params)
    for name, value in by_params.items():
      if not _PARAMS_NAME.fullmatch(name):
        _validate.fail(key, "by names of parameters", records.short(name))
      results[f"{key} {name}"] = value
  for key, value in results.items():
    metric = key.partition(" ")[0]
    if value is None and (has_auc or metric not in _ALWAYS_DEFINED):
      continue
    if metric in _SHARES:
      _share(key, value)
    else:
      _validate.real(key, value)
  return {key: value for key, value in results.items() if value is not None}


def _share(name: str, value: Any) -> float:
  return _validate.real(name, value, low=0, high=1, low_ok=True, high_ok=True)


def result(summary: Mapping[str, Any]) -> tuple[str, float | None] | None:
  """Returns the one number that sums up a run, with its name, checked.

  Args:
    summary: Values of the summary's keys, as read.

  Returns:
    The name, which says of which parameters it is; and the number, None where
    the examples do not define it. None of a summary that names no result.

  Raises:
    ValueError: If it is of other parameters than `eval_params`, or a share
      outside [0, 1].
  """
  head = summary.get("headline")
  if not isinstance(head, Mapping) or "values" not in head:
    return None
  chosen, values = summary.get("eval_params"), head["values"]
  if not isinstance(chosen, str) or not isinstance(values, Mapping):
    _validate.fail("headline.values", "numbers by name of the parameters", head)
  if chosen not in values or head.get("params", chosen) != chosen:
    rule = f"of eval_params, {records.short(chosen)}"
    _validate.fail("headline", rule, records.short(head.get("params", values)))
  value, metric = values[chosen], head.get("metric")
  if head.get("value", value) != value:
    _validate.fail("headline.value", f"headline.values' {value}", head["value"])
  if not isinstance(metric, str) or not metric.isprintable():
    _validate.fail("headline.metric", "a printable name", records.short(metric))
  if value is not None:
    check = _share if head.get("is_share") is True else _validate.real
    check("headline.value", value)
  metric = metric[:_MAX_NAME]
  return f"result: {metric} of the {chosen} parameters (eval.params)", value


def without_repeats(
    summary: Mapping[str, Any], found: Mapping[str, float]
) -> dict[str, float]:
  """Returns the results without those that `test_accuracies` names as well.

  Args:
    summary: Values of the summary's keys, as read.
    found: Results that `check` returned.
  """
  is_named = "headline" in summary and summary.get("test_accuracies")
  repeated = ACCURACIES if is_named else ()
  return {key: value for key, value in found.items() if key not in repeated}


def _keys(summary: Mapping[str, Any]) -> Iterator[str]:
  """Yields the keys of metrics by parameters: known ones, then others."""
  yield from (key for key in _BY_PARAMS if key in summary)
  if "headline" not in summary:
    return
  known = {*_SHARES, *_NOT_METRICS}
  for key in summary:
    if key.startswith("test_") and key not in known:
      if not _METRIC_NAME.fullmatch(key):
        raise ValueError(
            "summary.json must name metrics by small letters, digits and"
            f" underscores, got {records.short(key)}."
        )
      yield key
