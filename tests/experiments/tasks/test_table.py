"""The task of tables: losses, predictions in units, metrics, refusals."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from configs import families
from experiments.plan import fields
from experiments.tasks import registry
from experiments.tasks import task as task_lib
from experiments.tasks.tables import loss as table_loss
from jax_privacy.data import tables

_COLUMNS = {
    "x": {"kind": "number", "bounds": [-2, 2], "outside": "clamp"},
    "job": {"kind": "category", "values": ["a", "b", "c"]},
    "rich": {"kind": "category", "values": ["no", "yes"]},
    "count": {"kind": "number", "bounds": [0, 10]},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  rng = np.random.default_rng(0)
  lines = ["x,job,rich,count"]
  for _ in range(60):
    row = rng.normal(), rng.choice(list("abc")), rng.choice(["no", "yes"])
    lines.append(",".join(map(str, (*row, rng.integers(0, 11)))))
  path = tmp_path_factory.mktemp("table") / "people.csv"
  path.write_text("\n".join(lines) + "\n")
  return str(path)


def _config(path, target, loss="softmax", **changes):
  config = families.table(epsilon=3.0)
  config.data.source, config.loss.name = "table", loss
  options = {
      "path": path,
      "test_path": path,
      "target": target,
      "schema": {"columns": _COLUMNS},
  }
  with config.unlocked():
    config.data.options = options
    config.update_from_flattened_dict(
        {key.replace("__", "."): value for key, value in changes.items()}
    )
  return config


def _built(path, target, loss="softmax", **changes):
  """Returns a task and its training source."""
  config = _config(path, target, loss, **changes)
  task = registry.build(**fields.task_sections(config))
  return task, task.load("train", num_examples=60)


_CASES = [
    ("rich", "softmax"),
    ("job", "softmax"),
    ("count", "squared"),
    ("count", "absolute"),
    ("count", "poisson"),
]


def _closed_form(loss, outputs, target):
  if loss == "softmax":
    logits = outputs if len(outputs) > 1 else np.append(0.0, outputs)
    return np.log(np.exp(logits).sum()) - logits[target]
  f, y = outputs[0], (target - 5) / 5
  return {
      "squared": (f - y) ** 2 / 2,
      "absolute": abs(f - y),
      "poisson": np.exp(f) - target / 5 * f,
  }[loss]


def _units(loss, outputs):
  f = outputs[:, 0]
  return np.exp(f) * 5 if loss == "poisson" else f * 5 + 5


@pytest.mark.parametrize("target, loss", _CASES)
def test_loss_and_prediction_are_their_closed_forms(path, target, loss):
  task, source = _built(path, target, loss)
  model = task.build_model(source, jax.random.key(0))
  rng = np.random.default_rng(1)
  params = jax.tree.map(
      lambda p: rng.normal(0.0, 0.5, p.shape).astype(np.float32), model.params
  )
  batch = source[np.arange(4)]
  numbers = batch["numbers"] @ params["numbers"]["kernel"]
  offsets = np.cumsum([0, *source.category_sizes[:-1]])
  ids = batch["categories"] + offsets
  embedded = params["categories"]["embedding"][ids].sum(axis=1)
  outputs = np.float64(numbers + embedded + params["bias"])
  loss_fn = jax.jit(model.loss_fn)
  for i in range(4):
    found = loss_fn(params, task_lib.take(batch, i), jax.random.key(0))
    wanted = _closed_form(loss, outputs[i], batch["target"][i])
    # Float32: roundings of 2^-24 of terms of order 10.
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  predictor = task.build_predictor(source, model)
  assert jax.tree.map(jnp.shape, predictor.params) == jax.tree.map(
      jnp.shape, params
  )
  found = predictor.predict_fn(params, batch)
  if loss != "softmax":
    outputs = np.clip(_units(loss, outputs), 0, 10)
  np.testing.assert_allclose(found, outputs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target, loss", _CASES)
def test_numbers_are_those_of_scikit_learn(path, target, loss):
  task, source = _built(path, target, loss)
  batch, rng = source[np.arange(60)], np.random.default_rng(2)
  if loss != "softmax":
    predictions = rng.uniform(0, 10, 60)
    found = task.overall(source, task.outcomes(source, batch, predictions))
    y = batch["target"]
    wanted = {
        "rmse": metrics.root_mean_squared_error(y, predictions),
        "mae": metrics.mean_absolute_error(y, predictions),
        "r2": metrics.r2_score(y, predictions),
    }
  else:
    logits = rng.normal(size=(60, 1 if target == "rich" else 3))
    found = task.overall(source, task.outcomes(source, batch, logits))
    logits = np.float64(table_loss.logits_of(np.float32(logits)))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = batch["target"]
    scores = probs[:, 1] if target == "rich" else probs
    wanted = {
        "accuracy": metrics.accuracy_score(y, probs.argmax(axis=1)),
        "log_loss": metrics.log_loss(y, probs),
        "auc": metrics.roc_auc_score(y, scores, multi_class="ovr"),
    }
  assert tuple(found) == tuple(task.metrics)
  for name, value in wanted.items():
    np.testing.assert_allclose(found[name].value, value, rtol=1e-6)
  assert all(estimate.standard_error > 0 for estimate in found.values())


def test_groups_are_compared_by_the_first_number(path):
  task, source = _built(path, "count", "absolute")
  batch = source[np.arange(60)]
  outcomes = task.outcomes(source, batch, np.full(60, 5.0))
  rows = np.flatnonzero(batch["categories"][:, 1] == 1)
  found = task.group_metric(source, outcomes)(rows)
  wanted = np.sqrt(np.mean((batch["target"][rows] - 5.0) ** 2))
  np.testing.assert_allclose(found.value, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "target, loss, text",
    [
        ("rich", "squared", "loss.name must be one of softmax, or .*a binary"),
        ("job", "poisson", "loss.name must be one of softmax, or .*a class"),
        ("count", "softmax", "must be one of absolute, poisson, squared, or"),
        ("x", "poisson", "bounds of target 'x' must be at least 0 for .*, got"),
    ],
)
def test_a_target_of_the_wrong_kind_is_refused(path, target, loss, text):
  with pytest.raises(ValueError, match=text):
    _built(path, target, loss)


@pytest.mark.parametrize(
    "field, value, text",
    [
        ("data__mean", (0.5,), r"data.mean must be \(0.0,\) for task 'table'"),
        ("augment__num_views", 2, "augment.num_views must be 1 for task"),
        ("loss__label_smoothing", 0.1, "loss.label_smoothing must be 0.0"),
        ("eval__labels", ("a",), r"eval.labels must be \(\) for task 'table'"),
        ("data__source", "digits", "data.source must be one of breast_cancer"),
        ("model__name", "linear", "model.name must be one of table_linear"),
        ("loss__name", "sigmoid", "loss.name must be one of softmax, absolute"),
        (
            "model__options",
            {"width": 3},
            "model.options: an option of .*got 'width'",
        ),
        ("model__options", {"num_outputs": 3}, "no other field decides"),
    ],
)
def test_fields_that_do_not_fit_are_named(path, field, value, text):
  with pytest.raises(ValueError, match=text):
    task, source = _built(path, "rich", **{field: value})
    task.build_model(source, jax.random.key(0))


def test_images_and_tables_do_not_take_each_others_sources():
  config = families.table(epsilon=3.0)
  config.data.source, config.task.name = "wine", "classification"
  with pytest.raises(ValueError, match="data.source must be one of arrays"):
    registry.build(**fields.task_sections(config))


def test_splits_of_other_columns_are_refused(path):
  other = {"schema": {"columns": _COLUMNS | {"x": _COLUMNS["count"]}}}
  other["schema"]["columns"]["x"] = {"kind": "number", "bounds": [-9, 9]}
  config = _config(path, "rich", data__test_options=other)
  task = registry.build(**fields.task_sections(config))
  sources = (
      task.load("train", num_examples=60),
      task.load("test", for_evaluation=True),
  )
  task.check_splits(sources[0], sources[0])
  with pytest.raises(ValueError, match="the training split's schema_sha256"):
    task.check_splits(*sources)


def test_a_number_of_rows_that_nobody_stated_is_asked_for(path):
  task, _ = _built(path, "rich")
  source = task.load("train")
  with pytest.raises(ValueError, match="num_examples must be stated.*60 rows"):
    _ = source.num_examples


@pytest.mark.parametrize("target, loss", [("job", "softmax"), ("x", "squared")])
def test_input_canaries_are_test_rows_with_wrong_targets(path, target, loss):
  task, source = _built(path, target, loss)
  model = task.build_model(source, jax.random.key(0))
  predictor = task.build_predictor(source, model)
  found = task.input_canaries(
      source, source, predictor, num_canaries=30, seed=3
  )
  real = source[np.arange(30) * 2]
  np.testing.assert_array_equal(found.rows["numbers"], real["numbers"])
  assert found.rows["target"].dtype == real["target"].dtype
  assert (found.rows["target"] != real["target"]).all()
  losses = found.losses_fn(model.params, found.rows)
  wanted = np.log(3) if target == "job" else found.rows["target"] ** 2
  np.testing.assert_allclose(losses, np.broadcast_to(wanted, 30), rtol=1e-5)
  with pytest.raises(ValueError, match="at most the number of test rows"):
    task.input_canaries(source, source, predictor, num_canaries=61, seed=3)


@pytest.mark.parametrize("target, loss", _CASES)
def test_a_users_rows_are_predicted_without_a_target(
    path, target, loss, tmp_path
):
  task, source = _built(path, target, loss)
  rows = tmp_path / "new.csv"
  lines = [line.split(",") for line in open(path).read().splitlines()]
  kept = [i for i, name in enumerate(lines[0]) if name != target]
  rows.write_text(
      "\n".join(",".join(line[i] for i in kept) for line in lines) + "\n"
  )
  described = json.loads(json.dumps(task.input_description(source)))
  like = task.from_description(described)
  assert like.describe() == source.describe()
  inputs = task.read_inputs(str(rows), like)
  predictor = task.build_predictor(inputs)
  params = task.build_model(source, jax.random.key(0)).params
  batch = inputs[np.arange(60)]
  outputs = np.asarray(predictor.predict_fn(params, batch))
  columns = task.columns(inputs, outputs)
  assert list(columns)[0] == target and len(columns[target]) == 60
  if loss == "softmax":
    names = source.target.label_names
    assert list(columns)[1:] == [f"probability of {name}" for name in names]
    np.testing.assert_allclose(sum(list(columns.values())[1:]), 1.0)
    assert set(columns[target]) <= set(names)
  else:
    assert (columns[target] == 5.0).all()  # The middle: parameters are 0.
  with pytest.raises(ValueError, match="new.csv: column '.*' must be in the"):
    missing = tmp_path / "new.csv"
    missing.write_text("y\n1\n")
    task.read_inputs(str(missing), like)


def test_rows_of_a_bundled_table_are_read_by_its_own_schema(tmp_path):
  config = families.table(epsilon=3.0)
  config.data.source = "wine"
  task = registry.build(**fields.task_sections(config))
  source = tables.load("wine", split="test")
  names = source.number_names
  path = tmp_path / "new.csv"
  values = ["13", "2", "2", "20", "100", *["0.5"] * 8]
  values[names.index("proline")] = "500"
  values[names.index("color_intensity")] = "5"
  values[-2] = "2"
  path.write_text(",".join(names) + "\n" + ",".join(values) + "\n")
  assert len(task.read_inputs(str(path), source)) == 1
