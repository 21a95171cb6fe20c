"""What an audit writes, resumes and refuses."""

import itertools
import json

import numpy as np
import pytest

import accounting
from accounting.budget import audit as _report_audit
from experiments import audit
from experiments.audits import audit as audit_lib
from experiments.audits import canaries
from experiments.plan import experiment as experiment_lib
from experiments.run import loop
from experiments.run import workdir as workdir_lib
from jax_privacy import root_key
from tests.support import audited


@pytest.fixture(autouse=True)
def _linear_model(monkeypatch):
  audited.use_a_linear_model(monkeypatch)


_NUM_INPUT = 300  # There are 360 test images.


def _check_record(found, config, *, num_canaries):
  """No score and nobody's coin; and the claim is the config's own."""
  assert set(found) == {
      "status", "name", "private", "unit", "max_rows_per_unit",
      "epsilon", "epsilon_target", "delta", "accountant",
      "neighboring_relation", "noise_multiplier", "sampling", "sampling_prob",
      "max_batch_size", "generator", "grid_scale", "num_examples",
      "expected_batch_size", "batch_size_schedule",
      "l2_clip_norm", "num_steps", "canary", "num_canaries", "confidence",
      "bounds", "bounds_jointly", "contradicts_claim", "train_seconds",
      "audit_seconds", "seed", "versions",
      "num_copies", "epsilon_of_copies", "exposure",
  }  # fmt: skip
  # And the report reads all of it; plain samplers and noises say nothing more.
  plain = {"sampling_options", "noise", "noise_options"}
  assert set(found) | plain == set(_report_audit._KEYS)
  mechanism = experiment_lib.build(config).mechanism
  assert found["epsilon"] == accounting.epsilon(mechanism, delta=1e-5)
  assert found["sampling_prob"] == mechanism.sampling_prob
  assert found["num_examples"] == mechanism.num_examples + num_canaries


@pytest.mark.slow
def test_a_stopped_audit_goes_on_with_the_same_canaries(tmp_path, monkeypatch):
  config = audited.config(seed=None, train__num_steps=4, save_every=2)
  root = root_key.RootKey.from_seed(99)
  monkeypatch.setattr(experiment_lib, "make_run_key", lambda seed: root)
  arguments = {"canary": "dirac", "num_canaries": 40, "confidence": 0.9}
  whole = audit.run(
      config, workdir_lib.Workdir(tmp_path / "whole"), **arguments
  )
  _check_record(whole, config, num_canaries=40)
  real_train = loop.train

  def stopped_after_three(experiment, state, **options):
    yield from itertools.islice(real_train(experiment, state, **options), 3)
    raise KeyboardInterrupt

  workdir = workdir_lib.Workdir(tmp_path / "stopped")
  with monkeypatch.context() as patched:
    patched.setattr(loop, "train", stopped_after_three)
    with pytest.raises(KeyboardInterrupt):
      audit.run(config, workdir, **arguments)
  assert not (workdir.path / "audit.json").exists()
  # From here on, only the checkpoint knows the root: coins, canaries, noise.
  monkeypatch.setattr(
      experiment_lib, "make_run_key", lambda seed: root_key.RootKey.fresh()
  )
  resumed = audit.run(config, workdir, **arguments)
  assert resumed["bounds"] == whole["bounds"]
  assert not (workdir.path / "summary.json").exists()
  # A finished one trains no more, and can be shown at another confidence.
  monkeypatch.setattr(
      loop, "train", lambda experiment, state, **options: iter(())
  )
  again = audit.run(config, workdir, **arguments | {"confidence": 0.5})
  assert again["bounds"]["one_run"] >= resumed["bounds"]["one_run"]
  assert json.loads((workdir.path / "audit.json").read_text()) == again
  # An audit's folder is neither a run's nor another audit's.
  with pytest.raises(ValueError, match="differs in audit"):
    workdir.check(config)
  with pytest.raises(ValueError, match="differs in audit.num_canaries"):
    audit.run(config, workdir, **arguments | {"num_canaries": 41})


def test_rows_are_drawn_like_examples_and_dropped_if_out():
  config = canaries.add_to_config(
      audited.config(), canary="input", num_canaries=_NUM_INPUT
  )
  experiment = canaries.build(config)
  membership = experiment.canaries.membership
  first = membership.num_examples
  draws = np.zeros(membership.total_examples)
  num_steps = experiment.mechanism.num_steps
  for step in range(num_steps):
    indices = experiment.dp_training.sampler.batch(step).indices
    np.add.at(draws, indices[indices >= 0], 1)
  ours = draws[first:]
  assert not ours[~membership.included].any()
  # Each that is in is drawn with the sampling probability: the mean of some
  # 3,000 draws has standard error 0.009.
  prob = experiment.mechanism.sampling_prob
  assert abs(ours[membership.included].mean() / num_steps - prob) < 5 * 0.009
  batch = experiment.train_source[np.array([0, first, first + 1, -1])]
  test = experiment.test_source[np.array([0, 1])]
  np.testing.assert_array_equal(batch["image"][1], test["image"][0])
  assert batch["label"][1] != test["label"][0]
  assert not batch["image"][3].any()


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "fields, canary, num_canaries, message",
    [
        ({}, "gradient", 100, "canary must be one of"),
        ({}, "dirac", 19, "num_canaries must be at least 20, got 19"),
        ({}, "dirac", 651, "at most the number of parameters, 650, got 651"),
        ({}, "input", 361, "number of test images for 'input' canaries, 360"),
        (
            {
                "dp__sampling": "truncated_poisson",
                "dp__max_batch_size": 600,
                "dp__epsilon": None,  # To calibrate its noise takes seconds.
                "dp__noise_multiplier": 2.0,
            },
            "dirac",
            100,
            "dp.sampling must be 'poisson' to be audited",
        ),
        (
            {"dp__secure_random": True, "dp__grid_scale": 10**4},
            "dirac",
            100,
            "dp.grid_scale must be None to be audited",
        ),
        (
            {"dp__neighboring_relation": "replace_one"},
            "dirac",
            100,
            "dp.neighboring_relation must be 'add_or_remove_one' or",
        ),
    ],
)
def test_what_cannot_be_audited_is_refused(
    fields, canary, num_canaries, message
):
  config = canaries.add_to_config(
      audited.config(**fields), canary=canary, num_canaries=num_canaries
  )
  with pytest.raises(ValueError, match=message):
    canaries.build(config)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, float("nan")])
def test_a_confidence_is_a_probability(confidence, tmp_path):
  with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got"):
    audit.run(
        audited.config(),
        workdir_lib.Workdir(tmp_path / "never"),
        canary="dirac",
        num_canaries=100,
        confidence=confidence,
    )
  assert not (tmp_path / "never").exists()


def test_a_run_of_the_same_seed_shares_no_randomness():
  config = audited.config()
  plain = experiment_lib.build(config)
  with_canaries = canaries.build(
      canaries.add_to_config(config, canary="dirac", num_canaries=100)
  )
  assert plain.run_key != with_canaries.run_key
  assert plain.dp_key != with_canaries.dp_key


def test_the_report_knows_what_an_audit_writes():
  assert canaries.KINDS == _report_audit.CANARIES
  assert canaries.MAX_COPIES == _report_audit.MAX_COPIES
  assert tuple(audit_lib._ASSUMPTIONS) == tuple(_report_audit.METHODS)


def test_verdicts():
  found = {
      "epsilon": 1.0,
      "epsilon_of_copies": 1.0,
      "confidence": 0.95,
      "bounds": {"one_run": 0.5, "from_gdp": 1.5},
      "bounds_jointly": {"one_run": 0.4, "from_gdp": 0.9},
      "contradicts_claim": False,
  }
  # By itself above, but not for all at once: said, and no contradiction.
  assert "from_gdp by itself is above it" in audit_lib.verdict(found)
  found["bounds_jointly"]["from_gdp"] = None
  found["contradicts_claim"] = True
  assert "at least infinite by from_gdp" in audit_lib.verdict(found)
