"""`aggregate`: DP-SGD of per-example gradients, for optax's own programs."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_privacy import checkpoint, dp_sgd
from tests.support import gaussian

_CLIP, _NOISE, _EXPECTED = 2.0, 1.5, 4
_PARAMS = {"b": jnp.zeros(()), "w": jnp.zeros((3, 2))}
_KEY = 7


def _aggregate(**changes):
  fields = {
      "l2_clip_norm": _CLIP,
      "noise_multiplier": _NOISE,
      "expected_batch_size": _EXPECTED,
      "key": _KEY,
  }
  return dp_sgd.aggregate(**(fields | changes))


def _grads(num_rows, seed=0, scale=3.0):
  rng = np.random.default_rng(seed)
  return {
      k: scale * rng.standard_normal((num_rows, *v.shape)).astype(np.float32)
      for k, v in _PARAMS.items()
  }


def _noise(params=_PARAMS, **changes):
  """A first update of no example."""
  tx = _aggregate(**changes)
  empty = jax.tree.map(lambda p: jnp.zeros((0, *p.shape)), params)
  return tx.update(empty, tx.init(params))[0]


@pytest.fixture
def _as_optax_runs():
  """Its MultiSteps divides float32 by int32."""
  with (
      jax.numpy_dtype_promotion("standard"),
      jax.numpy_rank_promotion("allow"),
  ):
    yield


def _signal(grads, **extra):
  """What a batch adds to the noise."""
  tx = _aggregate()
  update, _ = tx.update(grads, tx.init(_PARAMS), **extra)
  return jax.tree.map(lambda u, n: np.asarray(u - n), update, _noise())


def _by_hand(grads):
  """The clipped sum over the expected batch size, in float64."""
  rows = {k: np.asarray(v, np.float64) for k, v in grads.items()}
  total = {k: np.zeros(v.shape[1:]) for k, v in rows.items()}
  for i in range(len(rows["b"])):
    norm = np.sqrt(sum(np.sum(v[i] ** 2) for v in rows.values()))
    if np.isfinite(norm):
      for k, v in rows.items():
        total[k] += v[i] * min(1.0, _CLIP / norm if norm else 1.0)
  return {k: v / _EXPECTED for k, v in total.items()}


def _close(got, want):
  for k, v in want.items():
    # A difference of two float32 numbers below 4, and sums of a few terms.
    np.testing.assert_allclose(got[k], v, atol=4e-6, err_msg=k)


@pytest.mark.few(2)
@pytest.mark.parametrize("num_rows", [1, 5])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_it_is_the_clipped_sum_over_the_expected_batch_size(num_rows, scale):
  grads = _grads(num_rows, scale=scale)
  _close(_signal(grads), _by_hand(grads))


def test_padding_and_what_is_not_finite_count_zero():
  grads = _grads(5)
  kept = jax.tree.map(lambda g: g[:3], grads)
  mask = jnp.array([False, False, False, True, True])
  _close(_signal(grads, is_padding_example=mask), _by_hand(kept))
  grads["w"][3, 0, 0], grads["b"][4] = np.nan, np.inf
  _close(_signal(grads), _by_hand(kept))


@pytest.mark.few(2)
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e15])
def test_one_example_moves_the_average_by_the_clip_norm_at_most(size):
  rest, one = _grads(3), _grads(1, seed=1)
  one = jax.tree.map(lambda g: g / np.float32(0.05) * np.float32(size), one)
  both = jax.tree.map(lambda a, b: np.concatenate([a, b]), rest, one)
  moved = jax.tree.map(lambda a, b: a - b, _signal(both), _signal(rest))
  norm = np.sqrt(sum(np.sum(v**2) for v in moved.values()))
  bound = _CLIP / _EXPECTED
  assert norm <= bound + 2e-5  # Rounding of seven differences near 4.
  if size >= 1:
    assert norm > 0.99 * bound


def test_noise_has_the_scale_of_one_examples_share():
  params = {"w": jnp.zeros(20_000)}
  noise = np.asarray(_noise(params)["w"])
  want = _NOISE * _CLIP / _EXPECTED
  assert gaussian.has_stddev(noise, want)
  assert not gaussian.has_stddev(noise, want * 2 / 3)
  tx = _aggregate()
  empty = {"w": jnp.zeros((0, 20_000))}
  _, state = tx.update(empty, tx.init(params))
  second = np.asarray(tx.update(empty, state)[0]["w"])
  assert gaussian.are_uncorrelated(noise, second)


def test_half_precision_gets_noise_in_float32():
  params = {"w": jnp.zeros(4_000, jnp.bfloat16)}
  tx = _aggregate()
  grads = {"w": jnp.zeros((2, 4_000), jnp.bfloat16)}
  update = tx.update(grads, tx.init(params))[0]["w"]
  assert update.dtype == jnp.float32
  # bfloat16 has 128 values a binade: normal draws would share far fewer.
  assert len(np.unique(np.asarray(update))) > 3_900


def test_it_makes_the_update_of_make_private():
  """One accounting fits both: same key, same noise, same sum."""
  mechanism = types.SimpleNamespace(
      noise_multiplier=_NOISE,
      num_steps=3,
      sampling="poisson",
      sampling_prob=0.25,
      num_examples=4 * _EXPECTED,
      max_batch_size=None,
  )

  def loss_fn(params, batch):
    return jnp.sum((batch["x"] @ params["w"] + params["b"]) ** 2)

  x = jax.random.normal(jax.random.key(3), (5, 3))
  mask = jnp.array([False, True, False, False, False])
  private = dp_sgd.make_private(
      loss_fn,
      optax.sgd(0.1, momentum=0.9),
      mechanism,
      l2_clip_norm=_CLIP,
      key=_KEY,
  )
  params = jax.tree.map(lambda p: p + 0.5, _PARAMS)
  grads = private.grad_fn(params, {"x": x}, is_padding_example=mask)
  want, _ = private.optimizer.update(
      grads, private.optimizer.init(params), params
  )
  tx = optax.chain(_aggregate(num_steps=3), optax.sgd(0.1, momentum=0.9))
  rows = jax.vmap(jax.grad(loss_fn), in_axes=(None, 0))(
      params, {"x": x[:, None]}
  )
  got, _ = tx.update(rows, tx.init(params), params, is_padding_example=mask)
  for k, v in want.items():
    np.testing.assert_allclose(got[k], v, rtol=1e-5, err_msg=k)


def test_no_update_follows_the_last():
  tx = _aggregate(num_steps=1)
  _, state = tx.update(_grads(2), tx.init(_PARAMS))
  with pytest.raises(ValueError, match="at most num_steps = 1"):
    tx.update(_grads(2), state)
  update, _ = jax.jit(tx.update)(_grads(2), state)
  assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(update))


@pytest.mark.usefixtures("_as_optax_runs")
def test_accumulation_behind_it_is_noised_at_every_call():
  inner = optax.MultiSteps(optax.sgd(1.0), 2).gradient_transformation()
  tx = optax.chain(_aggregate(), inner)
  grads, state = _grads(3), None
  state = tx.init(_PARAMS)
  first, state = tx.update(grads, state, _PARAMS)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(first))
  second, state = tx.update(grads, state, _PARAMS)
  alone, at = _aggregate(), _aggregate().init(_PARAMS)
  a, at = alone.update(grads, at)
  b, _ = alone.update(grads, at)
  want = jax.tree.map(lambda p, q: -(p + q) / 2, a, b)
  _close(second, want)
  assert np.any(np.abs(a["w"] - b["w"]) > 0.01)  # Two draws.


def _around_multi_steps():
  tx = optax.MultiSteps(_aggregate(), 2).gradient_transformation()
  state = tx.init(_PARAMS)
  for _ in range(2):
    _, state = tx.update(_grads(3), state, _PARAMS)


def _in_parts(around):
  tx = around(_aggregate())
  tx.update(_grads(3), tx.init(_PARAMS), _PARAMS)


_PARTS = "put it before optax.partition"


@pytest.mark.usefixtures("_as_optax_runs")
@pytest.mark.parametrize(
    "call, error, text",
    [
        pytest.param(
            lambda: _in_parts(lambda tx: optax.masked(tx, {"b": 0, "w": 1})),
            ValueError,
            _PARTS,
            id="masked",
        ),
        pytest.param(
            lambda: _in_parts(
                lambda tx: optax.partition({0: tx, 1: tx}, {"b": 0, "w": 1})
            ),
            ValueError,
            _PARTS,
            id="partition",
        ),
        pytest.param(
            _around_multi_steps,
            ValueError,
            "optax.MultiSteps goes behind aggregate",
            id="MultiSteps",
        ),
        pytest.param(
            lambda: _signal(_PARAMS),
            ValueError,
            r"grads\['b'\] must be of shape \(batch_size,\), a row",
            id="the gradient of a batch's loss",
        ),
        pytest.param(
            lambda: _signal(_grads(3) | {"b": jnp.zeros(2)}),
            ValueError,
            r"grads\['w'\] must be of shape \(2, 3, 2\)",
            id="other rows",
        ),
        pytest.param(
            lambda: _signal({"w": _grads(3)["w"]}),
            ValueError,
            "each of the 2 arrays of params",
            id="a part of the gradient",
        ),
        pytest.param(
            lambda: _signal(_grads(3) | {"b": jnp.zeros(3, jnp.int32)}),
            TypeError,
            "real and floating point, got int32",
            id="integers",
        ),
        pytest.param(
            lambda: _signal(_grads(3), is_padding_example=jnp.zeros(3)),
            ValueError,
            r"is_padding_example must be bool of shape \(3,\)",
            id="a mask of floats",
        ),
        pytest.param(
            lambda: _aggregate(l2_clip_norm=0.0),
            ValueError,
            "l2_clip_norm must be a positive",
            id="clip norm",
        ),
        pytest.param(
            lambda: _aggregate(noise_multiplier=0.0),
            ValueError,
            "noise_multiplier must be a positive",
            id="noise",
        ),
        pytest.param(
            lambda: _aggregate(expected_batch_size=float("nan")),
            ValueError,
            "expected_batch_size must be a positive",
            id="batch size",
        ),
    ],
)
def test_what_would_break_the_guarantee_is_refused(call, error, text):
  with pytest.raises(error, match=text):
    call()


def test_it_is_refused_inside_make_private():
  mechanism = types.SimpleNamespace(
      noise_multiplier=1.0,
      num_steps=3,
      sampling="poisson",
      sampling_prob=0.5,
      num_examples=8,
      max_batch_size=None,
  )
  with pytest.raises(ValueError, match=r"got dp_sgd\.aggregate"):
    dp_sgd.make_private(
        lambda w, x: jnp.sum(w * x),
        optax.chain(_aggregate(), optax.sgd(0.1)),
        mechanism,
        l2_clip_norm=1.0,
        key=0,
    )


def test_a_saved_state_goes_on_with_the_same_bits(tmp_path):
  tx = optax.chain(_aggregate(), optax.sgd(0.1, momentum=0.9))
  _, state = tx.update(_grads(3), tx.init(_PARAMS))
  want, _ = tx.update(_grads(2), state)
  with checkpoint.Checkpoints(tmp_path / "saved") as checkpoints:
    checkpoints.save(1, {"optimizer": state}, facts={})
    like = {"optimizer": tx.init(_PARAMS)}
    restored = checkpoints.restore_latest(like).state["optimizer"]
  got, _ = jax.jit(tx.update)(_grads(2), restored)
  for k in want:
    np.testing.assert_array_equal(got[k], want[k], err_msg=k)
