"""Every field of a config, with every kind of wrong value: named, in one line.

A value is put past ml_collections' own checks, as a config file that anyone
may have written can do.
"""

import json
import re

import hypothesis
import ml_collections
import pytest
from hypothesis import strategies as st

from configs import common
from experiments.plan import experiment as experiment_lib
from experiments.plan import fields
from tests.support import fuzz, launch

_NAN, _INF = float("nan"), float("inf")
# What no field of the kind may hold.
_WRONG = {
    bool: [None, 1, 0, _NAN, "true", (), {"x": 1}],
    float: [_NAN, _INF, -_INF, "1", True, (), {"x": 1}, 10**400, 1e300],
    int: [_NAN, 1.5, 1.0, "1", True, (), {"x": 1}],
    str: [None, 1, _NAN, True, (), {"x": 1}],
    tuple: [None, 1, _NAN, "x", True, {"x": 1}, (_NAN,), (1e39,)],
    ml_collections.ConfigDict: [
        *[None, 1, _NAN, "x", True, ()],
        *[{"x": _NAN}, {"x": {"y": _INF}}, {"x": [10**400]}],
    ],
}
# Of the right kind, and still against the field's own rule.
_OUTSIDE = {
    "seed": [-1, 2**128],
    "task.name": ["", "regression", "multi_label"],
    "task.options": [{"colour": 1}],
    "data.source": ["", "mnist"],
    "data.options": [{"colour": 1}, {"split": "train"}, {"image_shape": "abc"}],
    "data.train_split": ["", "../train"],
    "data.test_split": ["", "train/", "train"],
    "data.test_options": [
        *[{"colour": 1}, {"split": "train"}, {"image_shape": "abc"}],
        *[{"crop_size": "abc"}, {"crop_size": (9, 8)}],
    ],
    "data.num_workers": [-1, 10**6],
    "data.prefetch": [-1, 10**6],
    "data.num_examples": [0, -1, 1000, 2**70],
    "data.mean": [(0.1, 0.2), ("a",), ()],
    "data.features.name": ["wavelets", "Scattering"],
    "data.features.options": [{"num_angles": 8}, {"image_shape": (8, 8, 1)}],
    "data.std": [(0.0,), (-1.0,), (1e-60,), ("a",)],
    "model.name": ["", "cnn"],
    "model.options": [{"colour": 1}, {"rngs": 0}, {"channels": (-1,)}],
    "model.restore.path": ["", "/nowhere/a.npz"],
    "model.restore.reset": [("(",), (1,), ("head",)],
    "model.restore.format": ["", "pickle"],
    "augment.names": [("rotate",), (1,)],
    "augment.options": [{"pad": 1}, {"names": ()}, {"crop_size": (4, 4)}],
    "augment.num_views": [0, -1, 2],
    "loss.name": ["", "hinge", "sigmoid"],  # Digits are of one class each.
    "loss.label_smoothing": [-0.1, 1.0],
    "loss.invariance_weight": [-1.0, 0.5],  # There is one view.
    "dp.epsilon": [0.0, -1.0],
    "dp.delta": [0.0, 1.0, -1e-5],
    "dp.accountant": ["", "moments"],
    "dp.neighboring_relation": ["", "any"],
    "dp.noise_multiplier": [0.0, -1.0],
    "dp.auto_tune": ["", "noise", "batch_size", "num_steps"],
    "dp.sampling": ["", "shuffled"],
    "dp.max_batch_size": [0, 5],
    "dp.sampling_options": [{"k": 4}],
    "dp.l2_clip_norm": [0.0, -1.0],
    "dp.clipping": ["", "auto"],
    "dp.clipping_options": [{"stability": 0.1}],  # Of standard clipping.
    "train.expected_batch_size": [0.0, -1.0, 5000.0],
    "train.batch_size_schedule": [
        *[(1.0,), ((0.0, 1.0, 2.0),), (("0", "1"),), ((0.5, 1.0),)],
        *[((0.0, 1.0), (0.0, 2.0)), ((0.0, 1.0), (1.0, 2.0))],
        *[((0.0, 0.0),), ((0.0, -1.0),), ((0.0, 1e6),)],
        *[((0.0, 1.0), (0.1, 2.0), (0.2, 3.0)), ((0.0, 1e-320),)],
    ],
    "train.num_steps": [0, -1, 2**60],
    "train.num_epochs": [1.0],  # Beside num_steps.
    "physical_batch_size": [0, -1, 1438],
    "train.optimizer": ["", "sdg", "__doc__"],
    "train.optimizer_options": [{"momentun": 0.9}, {"learning_rate": 1.0}],
    "train.learning_rate": [0.0, -1.0],
    "train.schedule": ["", "step", "warmup"],
    "train.schedule_options": [{"warmup": 0.1}, {"end_value": 1.0}],
    "train.weight_decay": [-1e-4],
    "train.weight_decay_on": ["", "kernels"],
    "train.agc_clipping": [0.0, -0.01],
    "train.train_only": ["", "head", "linear", "(", "linear.kernel.x"],
    "train.ema_decays": [(), (-0.1,), (1.0,), ("a",), (0.9, 0.9), (True,)],
    "train.polyak_start": [-0.1, 1.0],
    "eval.batch_size": [0, -1],
    "eval.num_examples": [0, -1],
    "eval.labels": [("0",)],
    "eval.params": ["", "best", "polyak", "ema_0.5"],
    "mesh.data": [0, -1, 10**6],
    "mesh.fsdp": [0, -1, 10**6],
    "dp.grid_scale": [0, -4, 2**70],
    "log_every": [0, -1],
    "save_every": [0, -1],
}
_FIELDS = {
    name: (kind, optional)
    for name, kind, optional in fields.leaves(common.base())
}
_CASES = [
    (name, value)
    for name, (kind, optional) in _FIELDS.items()
    for value in (
        [wrong for wrong in _WRONG[kind] if wrong is not None]
        + ([] if optional else [None])
        + _OUTSIDE.get(name, [])
    )
]


def _with(name, value):
  """A config of which one field is set, whatever its type says."""
  plain = json.loads(
      launch.config(dp__epsilon=None, dp__noise_multiplier=2.0).to_json()
  )
  *parents, last = name.split(".")
  section = plain
  for parent in parents:
    section = section[parent]
  section[last] = value
  return ml_collections.ConfigDict(plain)


def _names(name, value):
  """What the error must hold: the field's name, or that of the wrong option."""
  is_option = name.endswith("options") and isinstance(value, dict)
  return next(iter(value)) if is_option else name.split(".")[-1]


@pytest.mark.parametrize("name, value", _CASES, ids=lambda x: f"{x!r:.30}")
def test_a_wrong_value_is_named_before_anything_is_trained(name, value):
  with pytest.raises(ValueError) as raised:
    experiment_lib.build(_with(name, value))
  if value in ({"x": _NAN}, {"x": {"y": _INF}}, {"x": [10**400]}):
    fuzz.assert_clear(raised.value, name)
  else:
    fuzz.assert_clear(raised.value, _names(name, value))


@pytest.mark.parametrize(
    "name, value",
    [
        ("dp.epsilon", -1.0),
        ("dp.epsilon", 0.0),
        ("dp.delta", 1.0),
        ("dp.noise_multiplier", -0.5),
        ("dp.l2_clip_norm", 0.0),
        ("train.num_steps", 0),
        ("train.expected_batch_size", -2),
        ("data.num_examples", 0),
    ],
)
def test_a_budget_that_no_run_has_is_named_before_data_are_read(name, value):
  with pytest.raises(ValueError, match=rf"^{re.escape(name)} must be .*got"):
    fields.check(_with(name, value))


def test_every_field_has_wrong_values_here():
  assert set(_OUTSIDE) <= set(_FIELDS)
  assert {name for name, _ in _CASES} == set(_FIELDS)


@pytest.mark.parametrize("name", sorted(_FIELDS))
def test_a_field_that_is_missing_is_named(name):
  config = _with(name, 1)
  *parents, last = name.split(".")
  section = config
  for parent in parents:
    section = section[parent]
  del section[last]
  with pytest.raises(ValueError, match=f"{name} must be given, got no such"):
    fields.check(config)


def _check_any(name, value):
  """Any value at all: it passes, and is of the field's kind, or is named."""
  try:
    config = _with(name, value)
  except (TypeError, ValueError):
    return  # ml_collections has no such dict: a key with a dot, say.
  kind, optional = _FIELDS[name]
  try:
    fields.check(config)
  except ValueError as error:
    fuzz.assert_clear(error, name)
    return
  if kind is ml_collections.ConfigDict:
    assert isinstance(value, dict)
  elif value is None:
    assert optional
  else:
    allowed = {float: (float, int), tuple: (list, tuple)}.get(kind, (kind,))
    assert type(value) in allowed


_ANY = (st.sampled_from(sorted(_FIELDS)), fuzz.JSON)


@fuzz.SHORT
@hypothesis.given(*_ANY)
def test_any_value_passes_or_is_named(name, value):
  _check_any(name, value)


@pytest.mark.slow
@fuzz.LONG
@hypothesis.given(*_ANY)
def test_any_value_passes_or_is_named_at_length(name, value):
  _check_any(name, value)


def _check_stored(stored):
  """Any config.json: a config whose fields are right, or a clear error."""
  try:
    config = fields.from_json(stored)
  except ValueError as error:
    fuzz.assert_clear(error)
    return
  fields.check(config)


_STORED = st.dictionaries(
    st.sampled_from(
        ["data", "dp", "train", "eval", "model", "seed", "x", "a.b"]
    ),
    fuzz.JSON
    | st.dictionaries(
        st.sampled_from(["options", "mean", "epsilon", "num_steps", "name"]),
        fuzz.JSON,
        max_size=2,
    ),
    max_size=3,
)


@fuzz.SHORT
@hypothesis.given(_STORED)
def test_any_stored_config_is_read_or_refused(stored):
  _check_stored(stored)


@pytest.mark.slow
@fuzz.LONG
@hypothesis.given(_STORED)
def test_any_stored_config_is_read_or_refused_at_length(stored):
  _check_stored(stored)


def test_a_stored_config_of_an_older_version_is_read():
  config = launch.config()
  stored = json.loads(config.to_json())
  del stored["train"]["schedule"]
  got = fields.from_json(stored)
  assert got.train.schedule == common.base().train.schedule
  assert got.model.options.to_dict() == {"channels": [16, 32]}
