"""A finished run's summary and an audit of it, for the tests."""

import json

import accounting

_RUN = {
    "expected_batch_size": 100,
    "num_examples": 1000,
    "noise_multiplier": 2.0,
    "num_steps": 50,
}
_CONFIG = {"name": "small", "train": {"learning_rate": 0.5}, "seed": 0}


def summary(**changes):
  """What summary.json holds, with changes."""
  run = accounting.Mechanism.for_batch_size(**_RUN)
  return {
      "status": "finished",
      **run.to_dict(),
      "epsilon": accounting.epsilon(run, delta=1e-4),
      "epsilon_target": 5.0,
      "delta": 1e-4,
      "accountant": "pld",
      "expected_batch_size": 100.0,
      "l2_clip_norm": 1.0,
      "num_views": 1,
      "num_parameters": 10,
      "test_accuracy": 0.9,
      "test_accuracy_ema": 0.91,
      "test_accuracies": {"last": 0.9, "ema": 0.91},
      "train_seconds": 2.0,
      "examples_per_second": 2500.0,
      "params_sha256": "0" * 64,
      "seed": 0,
      "versions": {"jax": "0"},
  } | changes


def config(**changes):
  """What config.json says of `summary`, with changes of dotted fields."""
  found = {
      "name": "small",
      "seed": 0,
      "data": {"num_examples": None},
      "dp": {
          "epsilon": 5.0,
          "delta": 1e-4,
          "accountant": "pld",
          "neighboring_relation": "add_or_remove_one",
          "noise_multiplier": None,
          "auto_tune": None,
          "sampling": "poisson",
          "max_batch_size": None,
          "l2_clip_norm": 1.0,
          "secure_random": False,
          "grid_scale": None,
      },
      "train": {
          "expected_batch_size": 100.0,
          "batch_size_schedule": [],
          "num_steps": 50,
          "num_epochs": None,
      },
      "augment": {"num_views": 1},
      "eval": {"params": "ema"},
  }
  for field, value in changes.items():
    *folders, key = field.split(".")
    place = found
    for folder in folders:
      place = place[folder]
    place[key] = value
  return found


def audit(**changes):
  """What audit.json holds for it, with 200 canaries and changes."""
  whole = summary()
  kept = (
      *("noise_multiplier", "num_steps", "sampling_prob", "sampling"),
      *("max_batch_size", "neighboring_relation", "epsilon", "epsilon_target"),
      *("delta", "accountant", "l2_clip_norm", "status", "seed", "versions"),
  )
  return {
      **{key: whole[key] for key in kept},
      "name": "small",
      "generator": "threefry",
      "grid_scale": None,
      "num_examples": 1200,
      "expected_batch_size": 120.0,
      "canary": "dirac",
      "num_canaries": 200,
      "confidence": 0.95,
      "bounds": {
          "one_run": 0.5,
          "one_run_fdp": 0.75,
          "clopper_pearson": 0.25,
          "from_gdp": 1.0,
          "mean_difference": 1.25,
      },
      "bounds_jointly": {
          "one_run": 0.25,
          "one_run_fdp": 0.5,
          "clopper_pearson": 0.125,
          "from_gdp": 0.75,
          "mean_difference": 1.0,
      },
      "contradicts_claim": False,
      "train_seconds": 4.0,
      "audit_seconds": 0.25,
  } | changes


def write(folder, name, content, *, config=None):
  """Writes a record, and config.json beside it if one is given."""
  folder.mkdir(exist_ok=True)
  text = content if isinstance(content, str) else json.dumps(content)
  (folder / name).write_text(text)
  if config is not None:
    (folder / "config.json").write_text(json.dumps(config))
  return str(folder)


def write_run_and_audit(folder, found=None, *, ours=None, theirs=None):
  """Writes a run and an audit of it; returns the report's arguments.

  Args:
    folder: Where.
    found: Of audit.json; `audit()` by default.
    ours: Changes of the audit's config.
    theirs: Changes of the run's.
  """
  workdir = write(
      folder / "run",
      "summary.json",
      summary(name="small", generator="threefry"),
      config=_CONFIG | (theirs or {}),
  )
  audited = write(
      folder / "audit",
      "audit.json",
      audit() if found is None else found,
      config=_CONFIG
      | {"audit": {"canary": "dirac", "num_canaries": 200}}
      | (ours or {}),
  )
  return [workdir, f"--audit={audited}"]
