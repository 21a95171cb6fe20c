"""De et al.'s private metrics: right, marked, and of no effect on the run."""

import doctest
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.plan import experiment as experiment_lib
from experiments.plan import optimizer as optimizer_lib
from experiments.run import loop, train_metrics
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from jax_privacy import views as views_lib
from tests.support import launch

_NAMES = {
    "clipped_fraction",
    "non_finite_fraction",
    "grad_norm_quantiles",
    "signal_to_noise",
    "alignment",
}


def test_doctests():
  assert doctest.testmod(train_metrics).failed == 0


def _config(**fields):
  """A model that is compiled at once, but where a test asks for another."""
  return launch.config(
      **{
          "model__name": "linear",
          "model__options": {},
          "train__num_steps": 4,
          "log_every": 2,
          "dp__l2_clip_norm": 2.0,
          **fields,
      }
  )


# Every way in which the noise is drawn or the sum is made up. The grid clips
# by vmap, the others by ghost clipping.
_CNN = {"model__name": "cnn_small", "model__options": {"channels": (4, 8)}}
_WAYS = {
    "physical": {
        "physical_batch_size": 5,
        "train__optimizer_options": {"momentum": 0.9},
    },
    "convolutions": _CNN,
    "rmsprop": _CNN | {"train__optimizer": "rmsprop"},
    "schedule": {"train__batch_size_schedule": ((0.0, 1.0), (0.5, 2.0))},
    "grid": {"dp__secure_random": True, "dp__grid_scale": 2**20},
}


# With and without metrics are two programs. Their bits are the same with all of
# XLA's passes, as users have them; `make test` leaves some out (conftest.py).
@pytest.mark.full_xla
@pytest.mark.slow
@pytest.mark.parametrize("way", _WAYS)
def test_no_bit_of_the_run_changes(way, tmp_path, capfd):
  summaries, metrics = [], []
  for is_on in (False, True):
    path = tmp_path / str(is_on)
    summary = launch.run(_config(train_metrics=is_on, **_WAYS[way]), path)
    summary_lib.show(summary)
    summaries.append(summary)
    lines = (path / "metrics.jsonl").read_text().splitlines()
    metrics.append([json.loads(line) for line in lines])
  assert summaries[0]["params_sha256"] == summaries[1]["params_sha256"]
  without, private = (
      [m[workdir_lib.UNRELEASED_METRICS] for m in one] for one in metrics
  )
  assert [m["step"] for m in metrics[1]] == [2, 4]
  for before, after in zip(without, private, strict=True):
    assert set(before) == {"loss"} and set(after) == {"loss", *_NAMES}
    assert before["loss"] == after["loss"]
    assert 0 <= after["clipped_fraction"] <= 1
    assert 0 < after["signal_to_noise"] and -1 <= after["alignment"] <= 1
  # They stand under that key of that file, and nowhere else.
  told = capfd.readouterr()
  for text in (
      told.out,
      told.err,
      (tmp_path / "True" / "summary.json").read_text(),
      json.dumps(
          [m | {workdir_lib.UNRELEASED_METRICS: None} for m in metrics[1]]
      ),
  ):
    assert not [name for name in _NAMES if name in text]


def _oracle(config, step):
  """What is told of a step, from each example's gradient, by the definition."""
  experiment = experiment_lib.build(config)
  state = loop.init_state(experiment)
  updates = loop.train(experiment, state)
  params = jax.tree.map(np.array, state.params)
  for _ in range(step):
    state, told = next(updates)
    before, params = params, jax.tree.map(np.array, state.params)
  # Learning rate 1, no momentum: the update is the noised gradient.
  update = _flat(before) - _flat(params)
  sampler = experiment.dp_training.sampler.batches
  indices = sampler.batch(step - 1).astype(np.int32)
  batch = experiment.train_source[indices]
  keys = views_lib.example_keys(
      experiment.augment_key, step=jnp.int32(step - 1), indices=indices
  )
  grad_fn = jax.jit(jax.grad(experiment.model.loss_fn))
  grads = [
      _flat(grad_fn(before, jax.tree.map(lambda x, i=i: x[i], batch), key))
      for i, key in enumerate(keys)
  ]
  return told, np.array(grads), update


def _flat(tree):
  return np.concatenate(
      [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
  )


# Between the norms of that step's examples.
_CLIP_NORM = 6.0


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "size, factor", [(7, 1.0), (7, 2.0), (None, 1.0), (None, 2.0)]
)
def test_all_numbers_are_those_of_each_examples_gradient(size, factor):
  config = _config(
      train_metrics=True,
      physical_batch_size=size,
      train__learning_rate=1.0,
      train__optimizer_options={},
      train__batch_size_schedule=((0.0, 1.0), (0.5, factor)),
      dp__rescale_to_unit_norm=False,
      dp__noise_multiplier=0.7,
      dp__l2_clip_norm=_CLIP_NORM,
      dp__epsilon=None,
  )
  # Step 4 is in the schedule's second half.
  told, grads, update = _oracle(config, step=4)
  norms = np.linalg.norm(grads, axis=1)
  assert told["clipped_fraction"] == pytest.approx((norms > _CLIP_NORM).mean())
  assert 0 < told["clipped_fraction"] < 1 and told["non_finite_fraction"] == 0
  for q, value in told["grad_norm_quantiles"].items():
    assert value == pytest.approx(np.quantile(norms, float(q)), rel=1e-4)
  factors = np.minimum(1, _CLIP_NORM / norms)[:, None]
  # The mean over the step's own expected batch size, of which the update is
  # the noised one.
  clipped = np.sum(factors * grads, axis=0) / (16 * factor)
  noise = update - clipped
  ratio = np.linalg.norm(clipped) / np.linalg.norm(noise)
  assert told["signal_to_noise"] == pytest.approx(ratio, rel=1e-3)
  cosine = clipped @ update / np.linalg.norm(clipped) / np.linalg.norm(update)
  assert told["alignment"] == pytest.approx(cosine, rel=1e-3, abs=1e-4)
  # The noise in each coordinate, to 5 sigma of its norm.
  want = 0.7 * _CLIP_NORM / (16 * factor) * math.sqrt(noise.size)
  assert np.linalg.norm(noise) == pytest.approx(
      want, rel=5 / math.sqrt(2 * noise.size)
  )


def test_gradients_whose_angle_is_known():
  clipped = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([0.0])}
  noised = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.0])}
  both = train_metrics.Gradients(clipped, noised)
  assert train_metrics.of_gradients(both) == pytest.approx(
      {"signal_to_noise": 0.75, "alignment": 0.6}
  )
  steps = {"a": jnp.array([6, 0]), "b": jnp.array([0])}
  on_grid = train_metrics.Gradients(steps, noised)
  got = train_metrics.of_gradients(on_grid, grid_step=0.5)
  assert got == pytest.approx({"signal_to_noise": 0.75, "alignment": 0.6})


@pytest.mark.parametrize(
    "clipped, noised, want",
    [(0.0, 1.0, (0.0, None)), (1.0, 1.0, (None, 1.0))]
    + [(math.inf, 1.0, (None, None)), (1.0, math.nan, (None, None))],
)
def test_what_is_no_number_is_none(clipped, noised, want):
  both = train_metrics.Gradients(jnp.array([clipped]), jnp.array([noised]))
  got = train_metrics.of_gradients(both)
  assert (got["signal_to_noise"], got["alignment"]) == want


def test_an_empty_batch_and_one_of_no_numbers():
  got = train_metrics.of_norms(np.zeros(0), l2_clip_norm=1.0)
  assert got["clipped_fraction"] is None
  assert set(got["grad_norm_quantiles"].values()) == {None}
  got = train_metrics.of_norms(np.array([np.nan]), l2_clip_norm=1.0)
  assert got["non_finite_fraction"] == 1 and got["clipped_fraction"] == 0
  json.dumps(got, allow_nan=False)


def test_the_optimiser_that_shows_is_the_one_it_was():
  params, grads = {"w": jnp.arange(3.0)}, {"w": jnp.ones(3)}
  for make in (optax.rmsprop, lambda x: optax.sgd(x, momentum=0.9)):
    plain, shown = make(0.1), optimizer_lib.showing(make(0.1))
    jax.tree.map(
        np.testing.assert_array_equal, plain.init(params), shown.init(params)
    )
    want = plain.update(grads, plain.init(params), params)
    (updates, noised), state = shown.update(grads, shown.init(params), params)
    got = updates, state
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert noised is grads


def test_what_reached_the_first_is_handed_on():
  first, second = (
      optimizer_lib.showing(optax.scale(factor)) for factor in (2.0, 3.0)
  )
  both = optax.chain(first, second)
  shown, _ = both.update(jnp.ones(2), both.init(jnp.ones(2)))
  np.testing.assert_array_equal(shown.updates, [6.0, 6.0])
  np.testing.assert_array_equal(shown.noised, [1.0, 1.0])


def test_it_can_be_compiled_and_run_twice():
  # A list that tracing fills would be empty the second time.
  shown = optimizer_lib.showing(optax.sgd(0.5))
  update = jax.jit(lambda grads: shown.update(grads, shown.init(grads))[0])
  for value in (1.0, 2.0):
    got = update(jnp.full(2, value))
    np.testing.assert_array_equal(got.noised, [value, value])


def test_a_mesh_is_refused():
  with pytest.raises(
      ValueError, match="train_metrics must be False where mesh"
  ):
    experiment_lib.build(_config(train_metrics=True, mesh__data=2))
