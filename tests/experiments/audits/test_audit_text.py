"""Random strings in a text: exposure and bounds, through the real loop."""

import types

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import accounting
from configs import families
from experiments import audit
from experiments.audits import audit as audit_lib
from experiments.audits import canaries
from experiments.plan import experiment as experiment_lib
from experiments.run import loop
from experiments.tasks import canary_text
from jax_privacy import noise_addition, per_example
from jax_privacy.data import text
from tests.support import audited

_NUM_CANARIES, _NUM_COPIES = 24, 2


def _config(**fields):
  config = families.language(epsilon=0.2)
  config.seed = 0
  config.data.source = "copy"
  config.data.options = {"length": 8, "num_symbols": 8}
  config.data.num_examples = 20
  config.model.options = {"width": 16, "num_layers": 1, "num_heads": 1}
  config.dp.delta = 1e-5
  # So small that the noise is nothing to a gradient that is not clipped.
  config.dp.l2_clip_norm = 1e-4
  config.train.expected_batch_size = 10
  config.train.num_steps = 60
  config.train.learning_rate = 2e-2
  config.train.ema_decays = (0.5,)
  with config.unlocked():
    config.update_from_flattened_dict(fields)
  return config.lock()


def _summary():
  config = canaries.add_to_config(
      _config(),
      canary="text",
      num_canaries=_NUM_CANARIES,
      num_copies=_NUM_COPIES,
  )
  experiment = canaries.build(config)
  *_, (state, _) = loop.train(experiment, loop.init_state(experiment))
  return audited.summary((experiment, state), confidence=0.95), experiment


def _no_noise(monkeypatch):
  monkeypatch.setattr(
      noise_addition, "gaussian_privatizer", lambda **_: optax.identity()
  )


def _no_clipping(monkeypatch):
  monkeypatch.setattr(per_example, "clip_factor", jnp.ones_like)


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant", [pytest.param(_no_noise, marks=pytest.mark.slow), _no_clipping]
)
def test_a_fault_exposes_strings_and_contradicts_the_claim(
    plant, monkeypatch, capsys
):
  plant(monkeypatch)
  found, _ = _summary()
  # Two copies of a string are claimed 0.42. Of 24 guesses, all right,
  # sigmoid(epsilon)^24 < 0.025 refutes every epsilon below 1.79.
  assert found["contradicts_claim"]
  # Strings that were learnt by heart are the first of 1,024: nearly 10 bits.
  exposure = found["exposure"]
  assert exposure["included_mean"] > 6 > exposure["excluded_mean"]
  with pytest.raises(SystemExit):
    audit.conclude(found)
  printed = capsys.readouterr()
  assert "each canary is 2 examples" in printed.out
  assert "by rank among 1023 strings" in printed.out
  claimed = accounting.claims.at_most(found["epsilon_of_copies"])
  assert f"epsilon {claimed} is claimed" in printed.err


@pytest.mark.slow
def test_the_real_loop_keeps_strings_secret():
  found, experiment = _summary()
  assert not found["contradicts_claim"]
  # In or out, as by chance: the mean of ten exponentials of mean 1.44 bits is
  # above 5.5 once in 10^6. (Epsilon 0.42 adds a factor of 1.5 to that.)
  for name in ("included_mean", "excluded_mean"):
    assert 0 <= found["exposure"][name] < 5.5
  # What is claimed is of two examples, and a coin is thrown for both.
  base = experiment_lib.build(_config())
  wanted = accounting.user_epsilon(
      base.mechanism, examples_per_user=2, delta=1e-5
  )
  assert found["epsilon_of_copies"] == wanted > 1.5 * found["epsilon"]
  assert found["num_examples"] == 20 + _NUM_CANARIES * _NUM_COPIES
  first = experiment.train_source[np.array([20, 21, 22])]["tokens"]
  np.testing.assert_array_equal(first[0], first[1])
  assert (first[0] != first[2]).any()
  seen = np.unique(
      [experiment.dp_training.sampler.batch(i).indices for i in range(5)]
  )
  included = experiment.canaries.membership.of_copies(2).included
  np.testing.assert_array_equal(np.flatnonzero(included) + 20, seen[seen >= 20])


def test_a_boundary_may_be_any_token():
  tokeniser = types.SimpleNamespace(vocabulary_size=4, boundary=1)
  source = text.TextSource(
      {
          "tokens": np.zeros((1, 41), np.int32),
          "num_tokens": np.array([40], np.int32),
      },
      tokeniser=tokeniser,
      packing="truncate",
      num_examples=1,
  )
  rows = canary_text.draw(source, num_rows=3, num_tokens=30, seed=0)
  strings = rows["tokens"][:, 1:31]
  # Each of the others is there; the chance that one is not is 3 (2/3)^90.
  assert set(np.unique(strings)) == {0, 2, 3}
  assert set(np.unique(rows["tokens"][:, [0, *range(31, 41)]])) == {1}
  assert rows["num_tokens"].tolist() == [30] * 3


# Of the last case, whose epsilon is infinite.
@pytest.mark.filterwarnings("ignore::accounting.VacuousGuaranteeWarning")
@pytest.mark.parametrize(
    "canary, num_copies, match",
    [
        ("dirac", 2, "num_copies must be 1 for canaries other than input, tex"),
        ("text", 0, r"num_copies must be in \[1, 1000\], got 0"),
        ("text", 1001, r"num_copies must be in \[1, 1000\], got 1001"),
        # At a noise multiplier below 1.
        ("text", 1000, "num_copies must be few enough that epsilon is finite"),
    ],
)
def test_copies_that_say_nothing_are_refused(canary, num_copies, match):
  config = _config(**{"dp.epsilon": 50.0})
  with pytest.raises(ValueError, match=match):
    canaries.build(
        canaries.add_to_config(
            config, canary=canary, num_canaries=20, num_copies=num_copies
        )
    )


def test_other_tasks_have_no_strings():
  config = canaries.add_to_config(
      audited.config(), canary="text", num_canaries=20
  )
  with pytest.raises(ValueError, match="which has no 'text' canaries"):
    canaries.build(config)


def test_a_verdict_is_of_the_copies():
  found = {
      "epsilon": 1.0,
      "epsilon_of_copies": 2.0,
      "confidence": 0.95,
      "bounds": {"one_run": 1.5},
      "bounds_jointly": {"one_run": 1.4},
      "contradicts_claim": False,
  }
  assert "by itself" not in audit_lib.verdict(found)
