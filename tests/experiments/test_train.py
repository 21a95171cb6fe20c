"""The launcher: what a run leaves behind, and that it is always the same."""

import base64
import json

import jax
import numpy as np
import pytest

import accounting
from experiments.plan import experiment as experiment_lib
from experiments.run import loop
from experiments.run import summary as summary_lib
from jax_privacy import checkpoint, root_key
from tests.support import gaussian, launch


def _metrics(path):
  lines = (path / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_the_same_run_twice_gives_the_same_parameters(tmp_path):
  digests = [
      launch.run(launch.linear(seed=seed), tmp_path / name)["params_sha256"]
      for name, seed in (("a", 0), ("b", 0), ("c", 1))
  ]
  assert digests[0] == digests[1] != digests[2]


def test_without_a_seed_no_two_runs_are_alike(tmp_path):
  summaries = [
      launch.run(launch.linear(seed=None), tmp_path / name) for name in "ab"
  ]
  assert summaries[0]["seed"] is None
  assert summaries[0]["params_sha256"] != summaries[1]["params_sha256"]


def _forms(secret):
  """How a secret may stand in a file or a line: raw, hex, decimal, base64."""
  words = np.frombuffer(secret, "<u4")
  numbers = [int.from_bytes(secret, order) for order in ("little", "big")]
  texts = [secret.hex(), secret[::-1].hex(), base64.b64encode(secret).decode()]
  texts += [str(n) for n in numbers] + [str(words.tolist())]
  texts += [" ".join(map(str, words)), *(str(w) for w in words)]
  texts += [f"{w:08x}" for w in words]
  return [secret, *(text.encode() for text in texts)]


def _secrets(root):
  """The root, and all that the launcher derives from it."""
  private = root.child("private")
  keys = [root.derive(s, 8) for s in ("parameters", "augmentation")]
  keys += [private.derive("noise", 8), private.derive("sampler", 16)]
  keys += [private.derive(s, 32) for s in ("secure noise", "secure sampler")]
  return [root.secret, private.secret, *keys]


def _leaks(path, printed, root):
  """Where the root, or a key made of it, stands outside of the checkpoint."""
  places = {"printed": printed.encode()}
  for file in path.rglob("*"):
    relative = file.relative_to(path)
    places[f"name {relative}"] = str(relative).encode()
    if file.is_file() and relative.parts[0] != "checkpoints":
      places[str(relative)] = file.read_bytes()
  forms = [form for secret in _secrets(root) for form in _forms(secret)]
  return [k for k, v in places.items() if any(form in v for form in forms)]


@pytest.mark.parametrize(
    "secure", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_the_root_is_in_the_checkpoint_and_nowhere_else(
    tmp_path, monkeypatch, capfd, caplog, secure
):
  secret = bytes(range(0xA1, 0xB1))  # No four bytes of it occur by chance.
  monkeypatch.setattr(root_key.secrets, "token_bytes", lambda n: secret[:n])
  caplog.set_level(0)
  config = launch.linear(seed=None, log_every=1, dp__secure_random=secure)
  summary = launch.run(config, tmp_path / "run")
  summary_lib.show(summary)
  printed = "".join(capfd.readouterr()) + caplog.text
  assert "(private, not for release)" in printed
  root = root_key.RootKey(secret)
  assert not _leaks(tmp_path / "run", printed, root)
  with checkpoint.Checkpoints(tmp_path / "run" / "checkpoints") as saved:
    like = {"run_key": jax.ShapeDtypeStruct((4,), np.uint32)}
    restored = saved.restore_latest(like)
  assert root_key.RootKey.from_words(restored.state["run_key"]) == root
  # The same search finds what is planted.
  for text in (
      f'{{"seed": {int.from_bytes(secret, "little")}}}',
      f"keys {root.words()}",
      root.child("private").derive("noise", 8).hex(),
      str(root.child("private").seed("sampler")),
      str(jax.random.key_data(root.prng_key("augmentation")).tolist()),
  ):
    assert _leaks(tmp_path / "run", text, root) == ["printed"]


def test_metrics_mark_what_is_private(tmp_path):
  config = launch.linear(log_every=1)
  launch.run(config, tmp_path)
  metrics = _metrics(tmp_path)
  assert [m["step"] for m in metrics] == [1, 2, 3]
  for line in metrics:
    # Everything outside the marked field is a function of public numbers.
    assert set(line) == {
        "step", "epsilon", "examples_per_second", "train_seconds",
        "private_not_for_release",
    }  # fmt: skip
    assert line["private_not_for_release"]["loss"] > 0
  epsilons = [m["epsilon"] for m in metrics]
  assert epsilons == sorted(epsilons)
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert epsilons[-1] == pytest.approx(summary["epsilon"], abs=1e-3)
  assert "loss" not in summary


def test_a_run_stops_at_the_last_step_that_fits(tmp_path):
  config = launch.linear(
      dp__noise_multiplier=0.6, dp__epsilon=1.0, train__num_steps=500
  )
  experiment = experiment_lib.build(config)
  mechanism = experiment.mechanism
  assert 0 < mechanism.num_steps < 500
  budget = {"delta": 1e-4, "accountant": "pld"}
  assert accounting.epsilon(mechanism, **budget) <= 1.0
  one_more = accounting.Mechanism.from_dict(
      mechanism.to_dict() | {"num_steps": mechanism.num_steps + 1}
  )
  assert accounting.epsilon(one_more, **budget) > 1.0
  summary = launch.run(config, tmp_path)
  assert summary["num_steps"] == mechanism.num_steps
  assert summary["epsilon"] <= 1.0


def test_sampler_noise_and_summary_are_one_mechanism(tmp_path):
  config = launch.linear(dp__epsilon=2.0)
  experiment = experiment_lib.build(config)
  sampler = experiment.dp_training.sampler
  assert len(sampler) == experiment.mechanism.num_steps
  strategy_rate = np.mean(
      [
          (sampler.batches.draw_fn(np.random.default_rng(i), 0)).size
          for i in range(2000)
      ]
  )
  # Mean of 2000 binomials of variance 16: standard error 0.09.
  assert abs(strategy_rate - 16) < 5 * 0.09
  summary = launch.run(config, tmp_path)
  assert summary["noise_multiplier"] == experiment.mechanism.noise_multiplier
  assert summary["sampling_prob"] == experiment.mechanism.sampling_prob
  again = accounting.Mechanism(
      noise_multiplier=summary["noise_multiplier"],
      num_steps=summary["num_steps"],
      sampling_prob=summary["sampling_prob"],
      num_examples=summary["num_examples"],
  )
  assert accounting.epsilon(again, delta=1e-4) == summary["epsilon"]


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "physical_batch_size, rescale, grid_scale",
    [
        (None, True, None),
        (None, False, None),
        (8, True, None),
        (8, False, None),
        (8, False, 10**4),
    ],
)
def test_noise_of_a_training_step(physical_batch_size, rescale, grid_scale):
  # With noise multiplier 50 the clipped sum, of norm at most C x realised batch
  # size (some 16), adds less than (30 / (50 sqrt(650)))^2 = 6e-4 to an update's
  # variance: what is left is the noise. Of 650 normals the interval is +-14% in
  # standard deviation.
  config = launch.linear(
      dp__noise_multiplier=50.0,
      dp__l2_clip_norm=0.1,
      dp__rescale_to_unit_norm=rescale,
      dp__secure_random=grid_scale is not None,
      dp__grid_scale=grid_scale,
      train__learning_rate=0.5,
      physical_batch_size=physical_batch_size,
  )
  experiment = experiment_lib.build(config)
  state = loop.init_state(experiment)
  before = [np.asarray(x) for x in jax.tree.leaves(state.params)]
  state, _ = next(loop.train(experiment, state))
  after = [np.asarray(x) for x in jax.tree.leaves(state.params)]
  change = np.concatenate(
      [(a - b).ravel() for a, b in zip(after, before, strict=True)]
  )
  want = 0.5 * 50.0 * (1.0 if rescale else 0.1) / 16
  assert gaussian.has_stddev(change, want)
  assert not gaussian.has_stddev(change, want * 2 / 3)
  assert not gaussian.has_stddev(change, want * 3 / 2)


@pytest.mark.slow
def test_physical_batches_change_memory_only(tmp_path):
  # Same examples, views, noise, steps and epsilon; sums differ by rounding.
  summaries, params = [], []
  for size in (None, 5, 64):
    experiment = experiment_lib.build(
        launch.linear(
            physical_batch_size=size,
            # Noise once a piece would stay in the momentum as well.
            train__optimizer_options={"momentum": 0.9},
            augment__names=("crop",),
            augment__options={"pad": 1},
            augment__num_views=2,
        )
    )
    start = loop.init_state(experiment)
    *_, (state, _) = loop.train(experiment, start)
    summaries.append(
        summary_lib.privacy(experiment.config, experiment.mechanism)
    )
    params.append(state.params)
    assert int(state.step) == 3
  assert summaries[0] == summaries[1] == summaries[2]
  for other in params[1:]:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        params[0],
        other,
    )


def test_an_empty_batch_is_a_step_like_any_other():
  config = launch.linear(
      train__expected_batch_size=0.001, dp__noise_multiplier=1.0
  )
  for size in (None, 4):
    config.physical_batch_size = size
    experiment = experiment_lib.build(config)
    state = loop.init_state(experiment)
    before = np.asarray(state.params["linear"]["kernel"])
    state, told = next(loop.train(experiment, state))
    assert told["loss"] == 0 and int(state.step) == 1
    # Noise of 1.0 x 1.0 / 0.001, learning rate 1: about a thousand.
    moved = np.asarray(state.params["linear"]["kernel"]) - before
    assert gaussian.has_stddev(moved, 1000.0)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"dp__l2_clip_norm": -1.0}, "l2_clip_norm must be"),
        ({"dp__l2_clip_norm": 0.0}, "l2_clip_norm must be"),
        ({"dp__l2_clip_norm": float("nan")}, "l2_clip_norm must be"),
        ({"dp__l2_clip_norm": float("inf")}, "l2_clip_norm must be"),
        ({"dp__noise_multiplier": 0.0}, "noise_multiplier must be"),
        ({"dp__noise_multiplier": -2.0}, "noise_multiplier must be"),
        ({"dp__noise_multiplier": float("nan")}, "noise_multiplier must be"),
        ({"dp__epsilon": -1.0}, "epsilon must be"),
        ({"dp__epsilon": float("nan")}, "epsilon must be"),
        ({"dp__epsilon": None}, "dp.epsilon or dp.noise_multiplier must be"),
        ({"dp__delta": 0.0}, "delta must be"),
        ({"dp__delta": 1.5}, "delta must be"),
        ({"dp__delta": None}, "dp.delta must be given"),
        ({"dp__accountant": "moments"}, "accountant must be"),
        ({"dp__sampling": "shuffled"}, "sampling must be"),
        ({"dp__neighboring_relation": "any"}, "neighboring_relation must be"),
        ({"train__num_steps": 0}, "num_steps must be"),
        ({"train__num_steps": -3}, "num_steps must be"),
        ({"train__num_steps": None}, "num_steps and train.num_epochs must be"),
        ({"train__num_epochs": 2.0}, "num_steps and train.num_epochs must be"),
        (
            {"train__num_steps": None, "train__num_epochs": float("nan")},
            "num_epochs must be",
        ),
        ({"train__expected_batch_size": 5000}, "batch_size.*5000"),
        ({"train__expected_batch_size": 0}, "batch_size.*0"),
        ({"physical_batch_size": 0}, "physical_batch_size must be"),
        ({"eval__batch_size": 0}, "eval.batch_size must be at least 1, got 0"),
        ({"eval__num_examples": 0}, "eval.num_examples must be at least 1"),
        ({"log_every": 0}, "log_every must be at least 1, got 0"),
        ({"save_every": -2}, "save_every must be at least 1, got -2"),
        (
            {"dp__noise_multiplier": 1e-4, "dp__epsilon": None},
            "dp.noise_multiplier must be large enough for a finite epsilon",
        ),
        ({"train__learning_rate": float("inf")}, "learning_rate must be"),
        ({"train__learning_rate": -1.0}, "learning_rate must be"),
        ({"train__learning_rate": float("nan")}, "learning_rate must be"),
        ({"train__optimizer": "sdg"}, "optimizer must be.*'sdg'"),
        (
            {"train__optimizer_options": {"momentun": 0.9}},
            "optimizer_options must fit optax.sgd.*momentun",
        ),
        ({"train__schedule": "sawtooth"}, "schedule must be one of"),
        ({"train__ema_decays": (1.0,)}, "train.ema_decays must be decays in"),
        ({"eval__params": "best"}, "eval.params must be one of"),
        ({"model__name": "cnn"}, "name must be one of"),
        (
            {"model__options": {"chanels": 3}},
            "an option of 'cnn_small' must be one of",
        ),
        ({"data__source": "mnist"}, "must be one of.*'mnist'"),
        ({"data__train_split": "valid"}, "split.*valid"),
        ({"data__num_examples": 1000}, "num_examples must be.*1437.*1000"),
        ({"data__std": (0.0,)}, "std must be positive"),
        ({"data__mean": (0.1, 0.2)}, "mean must be one number"),
        ({"augment__num_views": 0}, "num_views must be"),
        ({"augment__num_views": 4}, "num_views must be 1 without"),
        ({"augment__names": ("rotate",)}, "names must be some of"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**128}, "seed must be"),
        ({"dp__grid_scale": 1000}, "secure_random must be True with a grid"),
        (
            {"dp__grid_scale": 0, "dp__secure_random": True},
            "grid_scale must be an integer of at least 1",
        ),
    ],
    ids=str,
)
# Of noise that is too small, before the field that is refused.
@pytest.mark.filterwarnings("ignore:epsilon .* is above 50")
def test_bad_fields_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    experiment_lib.build(launch.config(**fields))


def test_delta_of_one_over_n_is_warned_of():
  with pytest.warns(UserWarning, match="delta"):
    experiment_lib.build(launch.config(dp__delta=0.01))
