"""`experiments.audit`: the real loop stays below its claim, faults do not."""

import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import accounting
from accounting import claims
from accounting.budget import audit as _report_audit
from experiments import audit
from experiments.audits import audit as audit_lib
from experiments.audits import canaries
from experiments.plan import experiment as experiment_lib
from experiments.run import loop
from experiments.run import workdir as workdir_lib
from experiments.tasks.images import model as model_lib
from jax_privacy import noise_addition, per_example, root_key
from tests.support import launch

_NUM_CANARIES = 500
_NUM_INPUT = 300  # There are 360 test images.


@pytest.fixture(autouse=True)
def _linear_model(monkeypatch):
  """A model that compiles in no time; all else is the launcher's own."""

  def apply_fn(params, images, keys=None):
    del keys
    return images.reshape(images.shape[0], -1) @ params["w"] + params["b"][None]

  def build_network(model_config, source, key, **sections):
    del model_config, key, sections
    return model_lib.Network(
        apply_fn=apply_fn,
        standardise_fn=lambda images: images.astype(jnp.float32) / 255,
        params={
            "w": jnp.zeros((math.prod(source.image_shape), 10)),
            "b": jnp.zeros(10),
        },
        view_shape=source.image_shape,
    )

  monkeypatch.setattr(model_lib, "build_network", build_network)


# Of its 455 rows a batch is a part.
_TABLE = {"make": launch.table, "train__expected_batch_size": 300}


def _config(make=launch.config, **fields):
  return make(
      **{
          "dp__epsilon": 8.0,
          "dp__delta": 1e-5,
          "train__expected_batch_size": 500,
          "train__num_steps": 20,
          **fields,
      }
  )


def _train(canary, *, num_canaries=_NUM_CANARIES, **fields):
  """Trains through the launcher's loop; returns (experiment, last state)."""
  config = canaries.add_to_config(
      _config(**fields), canary=canary, num_canaries=num_canaries
  )
  experiment = canaries.build(config)
  *_, (state, _) = loop.train(experiment, loop.init_state(experiment))
  return experiment, state


def _audited(run, *, confidence):
  return audit_lib.summarise(*run, confidence=confidence, train_seconds=1.0)


# Half of the tests below is that a verdict does not come, and that would be
# true of an audit that sees nothing: so each says how much is seen, too.


@pytest.mark.parametrize(
    "canary, fields",
    [
        ("dirac", {"physical_batch_size": 400}),
        ("clipped", {"dp__secure_random": True}),
        ("clipped", _TABLE),
    ],
)
def test_the_real_loop_stays_below_its_claim(canary, fields):
  run = _train(canary, **fields)
  # The seed is fixed, so this fails always or never. For one choice of the
  # seed in a million, the verdict would be wrong by chance: its five bounds
  # share a significance of 1e-6.
  strict = _audited(run, confidence=1 - 1e-6)
  assert strict["epsilon"] <= 8 and not strict["contradicts_claim"]
  assert len(strict["bounds_jointly"]) == 5
  # Not for want of power: mu is 1.67, and estimated by the difference of means
  # with a standard error of about 2 / sqrt(500) = 0.09. The GDP bound pays for
  # its 14 thresholds.
  bounds = _audited(run, confidence=0.95)["bounds"]
  assert bounds["mean_difference"] > 0.6 * 8
  assert bounds["from_gdp"] > 0.4 * 8


@pytest.mark.slow
def test_train_metrics_change_no_audit():
  # They come with the updates, through the recorder and the optimiser behind.
  fields = {"train__num_steps": 3, "log_every": 2}
  without, shown = (
      _train("dirac", num_canaries=20, train_metrics=is_shown, **fields)[1]
      for is_shown in (False, True)
  )
  for got, want in zip(
      jax.tree.leaves((shown.params, shown.opt_state)),
      jax.tree.leaves((without.params, without.opt_state)),
      strict=True,
  ):
    if not jnp.issubdtype(got.dtype, jax.dtypes.prng_key):
      np.testing.assert_allclose(got, want, rtol=1e-6)


def _no_noise(monkeypatch):
  monkeypatch.setattr(
      noise_addition, "gaussian_privatizer", lambda **_: optax.identity()
  )


def _half_the_noise(monkeypatch):
  real = noise_addition.gaussian_privatizer
  monkeypatch.setattr(
      noise_addition,
      "gaussian_privatizer",
      lambda *, stddev, **rest: real(stddev=stddev / 2, **rest),
  )


def _no_clipping(monkeypatch):
  monkeypatch.setattr(per_example, "clip_factor", jnp.ones_like)


@pytest.mark.parametrize(
    "plant, canary, fields",
    [
        (_no_noise, "dirac", {}),
        (_half_the_noise, "dirac", {}),
        # What joins the sum behind the clipping cannot see it.
        (_no_clipping, "clipped", {}),
        (_no_clipping, "clipped", _TABLE),
    ],
)
def test_a_fault_contradicts_the_claim(
    plant, canary, fields, monkeypatch, capsys
):
  plant(monkeypatch)
  # Half the noise doubles mu to 3.3. The mean difference's standard error is
  # then about 2 / sqrt(500) x sqrt(1 + mu^2 / 8) = 0.14, so a bound of
  # significance 2e-5 lies near 3.3 - 4.1 x 0.14 = 2.8; the chance that it is
  # below the claimed 1.67 is that of 12 standard errors, nil. A threshold
  # halfway errs on 5% of each side; of 250 canaries a side, 19 errors or more,
  # which happens in less than 5% of runs, would bound that by about 17% at
  # significance 2e-5 / 28, and mu by 1.9. Without noise, or with a canary of
  # ten times the clip norm, nothing overlaps: 0 of 250 is a rate below 5%, and
  # mu is above 3.2.
  found = _audited(_train(canary, **fields), confidence=1 - 1e-4)
  bounds = found["bounds_jointly"]
  for method in ("from_gdp", "mean_difference"):
    assert bounds[method] is None or bounds[method] > 8, method
  assert found["contradicts_claim"]
  with pytest.raises(SystemExit) as stopped:
    audit.conclude(found)
  assert stopped.value.code == 1
  printed = capsys.readouterr()
  assert "the audit contradicts the claim: epsilon 7.998 is" in printed.err
  assert printed.err.startswith("FAILED") and printed.err.count("\n") == 1


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
  }  # fmt: skip
  mechanism = experiment_lib.build(config).mechanism
  assert found["epsilon"] == accounting.epsilon(mechanism, delta=1e-5)
  assert found["sampling_prob"] == mechanism.sampling_prob
  assert found["num_examples"] == mechanism.num_examples + num_canaries


def test_a_stopped_audit_goes_on_with_the_same_canaries(tmp_path, monkeypatch):
  config = _config(seed=None, train__num_steps=6, save_every=2)
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
  # A finished one trains no more, and can be told with another confidence.
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


@pytest.mark.parametrize("canary", ["random_direction", "input"])
def test_dependent_scores_make_no_claim_of_independence(canary):
  experiment, state = _train(canary, num_canaries=60, train__num_steps=3)
  assert experiment.canaries.score_fn(state).shape == (60,)
  found = _audited((experiment, state), confidence=0.95)
  assert set(found["bounds_jointly"]) == {"one_run", "one_run_fdp"}
  assert not found["contradicts_claim"]


def test_rows_are_drawn_like_examples_and_dropped_if_out():
  config = canaries.add_to_config(
      _config(), canary="input", num_canaries=_NUM_INPUT
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


@pytest.mark.parametrize(
    "fields, canary, num_canaries, message",
    [
        ({}, "gradient", 100, "canary must be one of"),
        ({}, "dirac", 19, "num_canaries must be at least 20, got 19"),
        ({}, "dirac", 651, "at most the number of parameters, 650, got 651"),
        ({}, "input", 361, "number of test images for 'input' canaries, 360"),
        (
            {"dp__sampling": "truncated_poisson", "dp__max_batch_size": 600},
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
      _config(**fields), canary=canary, num_canaries=num_canaries
  )
  with pytest.raises(ValueError, match=message):
    canaries.build(config)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, float("nan")])
def test_a_confidence_is_a_probability(confidence, tmp_path):
  with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got"):
    audit.run(
        _config(),
        workdir_lib.Workdir(tmp_path / "never"),
        canary="dirac",
        num_canaries=100,
        confidence=confidence,
    )
  assert not (tmp_path / "never").exists()


def test_a_run_of_the_same_seed_shares_no_randomness():
  config = _config()
  plain = experiment_lib.build(config)
  audited = canaries.build(
      canaries.add_to_config(config, canary="dirac", num_canaries=100)
  )
  assert plain.run_key != audited.run_key
  assert plain.dp_key != audited.dp_key


def test_the_report_knows_what_an_audit_writes():
  assert canaries.KINDS == _report_audit.CANARIES
  assert tuple(audit_lib._ASSUMPTIONS) == tuple(_report_audit.METHODS)


def test_verdicts():
  found = {
      "epsilon": 1.0,
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


@pytest.mark.slow
@pytest.mark.parametrize("canary", ["dirac", "clipped"])
def test_no_verdict_is_wrong_more_often_than_stated(canary):
  # At confidence 0.8 an audit of an honest run may be wrong in at most 20% of
  # seeds: above the 1 - 1e-6 quantile of Binomial(30, 0.2), 18, once in a
  # million.
  wrong = sum(
      _audited(_train(canary, seed=seed), confidence=0.8)["contradicts_claim"]
      for seed in range(30)
  )
  assert wrong <= stats.binom.isf(1e-6, 30, 0.2)


@pytest.mark.slow
def test_a_run_its_audit_and_the_report_of_both(tmp_path):
  flags = [
      "--config=configs/digits_cnn.py:epsilon=8",
      "--config.dp.delta=1e-5",
      "--config.train.num_epochs=5",
  ]
  run, folder = tmp_path / "run", tmp_path / "audit"
  process = launch.command("experiments.train", *flags, f"--workdir={run}")
  assert process.returncode == 0, process.stderr
  process = launch.command(
      "experiments.audit",
      *flags,
      "--config.seed=None",  # The one thing, with canaries, that may differ.
      "--num_canaries=200",
      f"--workdir={folder}",
  )
  assert process.returncode == 0, process.stderr
  record = json.loads((folder / "audit.json").read_text())
  shown = claims.at_most(record["epsilon"])
  assert f"claimed: epsilon {shown} at delta 1e-05" in process.stdout
  for method in ("one_run", "one_run_fdp", "clopper_pearson", "from_gdp"):
    assert f"\n  {method} " in process.stdout
  assert "s of training" in process.stdout
  assert "does not contradict the claim" in process.stdout
  process = launch.command(
      "accounting.budget", "report", str(run), f"--audit={folder}"
  )
  assert process.returncode == 0, process.stderr
  assert "measured: at least, by mean_difference" in process.stdout
  # An audited model is none to evaluate or report as a run's.
  process = launch.command("experiments.evaluate", f"--workdir={folder}")
  assert process.returncode == 2
  assert "must hold a run without canaries" in process.stderr
  process = launch.command("accounting.budget", "report", str(folder))
  assert process.returncode == 2
