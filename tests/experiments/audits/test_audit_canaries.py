"""`experiments.audit`: the real loop stays below its claim, faults do not."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from accounting import claims
from experiments import audit
from jax_privacy import noise_addition, per_example
from tests.support import audited, launch


@pytest.fixture(autouse=True)
def _linear_model(monkeypatch):
  audited.use_a_linear_model(monkeypatch)


_DIFFUSION = {"make": launch.diffusion}


# Half of the tests below is that a verdict does not come, and that would be
# true of an audit that sees nothing: so each says how much is seen, too.


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "canary, fields",
    [
        ("dirac", {"physical_batch_size": 400}),
        ("clipped", {"dp__secure_random": True}),
        pytest.param("clipped", audited.TABLE, marks=pytest.mark.slow),
        pytest.param("clipped", _DIFFUSION, marks=pytest.mark.slow),
    ],
)
def test_the_real_loop_stays_below_its_claim(canary, fields):
  run = audited.train(canary, **fields)
  # The seed is fixed, so this fails always or never. For one choice of the
  # seed in a million, the verdict would be wrong by chance: its five bounds
  # share a significance of 1e-6.
  strict = audited.summary(run, confidence=1 - 1e-6)
  assert strict["epsilon"] <= 8 and not strict["contradicts_claim"]
  assert len(strict["bounds_jointly"]) == 5
  # Not for want of power: mu is 1.67, and estimated by the difference of means
  # with a standard error of about 2 / sqrt(500) = 0.09. The GDP bound pays for
  # its 14 thresholds.
  bounds = audited.summary(run, confidence=0.95)["bounds"]
  assert bounds["mean_difference"] > 0.6 * 8
  assert bounds["from_gdp"] > 0.4 * 8


@pytest.mark.slow
def test_train_metrics_change_no_audit():
  # They come with the updates, through the recorder and the optimiser behind.
  fields = {"train__num_steps": 3, "log_every": 2}
  without, shown = (
      audited.train("dirac", num_canaries=20, train_metrics=is_shown, **fields)[
          1
      ]
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


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "plant, canary, fields",
    [
        # Half the noise is harder to see.
        pytest.param(_no_noise, "dirac", {}, marks=pytest.mark.slow),
        (_half_the_noise, "dirac", {}),
        # What joins the sum behind the clipping cannot see it.
        (_no_clipping, "clipped", {}),
        pytest.param(
            _no_clipping, "clipped", audited.TABLE, marks=pytest.mark.slow
        ),
        pytest.param(
            _no_clipping, "clipped", _DIFFUSION, marks=pytest.mark.slow
        ),
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
  found = audited.summary(audited.train(canary, **fields), confidence=1 - 1e-4)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "canary, fields",
    [
        ("random_direction", {}),
        ("input", {}),
        # Images of noise, whose loss is a denoiser's.
        ("input", _DIFFUSION),
    ],
)
def test_dependent_scores_make_no_claim_of_independence(canary, fields):
  experiment, state = audited.train(
      canary, num_canaries=60, train__num_steps=3, **fields
  )
  assert experiment.canaries.score_fn(state).shape == (60,)
  found = audited.summary((experiment, state), confidence=0.95)
  assert set(found["bounds_jointly"]) == {"one_run", "one_run_fdp"}
  assert not found["contradicts_claim"]


@pytest.mark.slow
@pytest.mark.parametrize("canary", ["dirac", "clipped"])
def test_no_verdict_is_wrong_more_often_than_stated(canary):
  # At confidence 0.8 an audit of an honest run may be wrong in at most 20% of
  # seeds: above the 1 - 1e-6 quantile of Binomial(30, 0.2), 18, once in a
  # million.
  wrong = sum(
      audited.summary(audited.train(canary, seed=seed), confidence=0.8)[
          "contradicts_claim"
      ]
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
