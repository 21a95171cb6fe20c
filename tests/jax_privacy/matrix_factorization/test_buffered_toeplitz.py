"""Buffered linear Toeplitz strategies: inverses, closed forms, optimisers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.matrix_factorization import (
    blt_optimizers,
    buffered_toeplitz,
    toeplitz,
)
from tests.support import patterns

_build = buffered_toeplitz.BufferedToeplitz.build


@pytest.fixture(autouse=True)
def _x64():
  with jax.enable_x64():
    yield


def _coefs(decay, scale, n):
  t = np.arange(n - 1)[:, None]
  return np.append(1.0, (np.asarray(decay) ** t * scale).sum(axis=1))


def test_coefficients_and_inverse():
  decay, scale, n = [0.9, 0.5, 0.1], [0.1, 0.2, 0.15], 9
  blt = _build(decay[::-1], scale[::-1])  # In any order.
  np.testing.assert_allclose(blt.buf_decay, decay)
  np.testing.assert_allclose(blt.toeplitz_coefs(n), _coefs(decay, scale, n))
  truth = np.linalg.inv(patterns.toeplitz(_coefs(decay, scale, n), n))
  np.testing.assert_allclose(
      blt.inverse().toeplitz_coefs(n), truth[:, 0], atol=1e-12
  )
  streamed = blt.inverse_as_streaming_matrix().materialize(n)
  np.testing.assert_allclose(streamed, truth, atol=1e-12)
  back = blt.as_streaming_matrix() @ blt.inverse_as_streaming_matrix()
  np.testing.assert_allclose(back @ jnp.eye(n), np.eye(n), atol=1e-12)
  pair = buffered_toeplitz.blt_pair_from_theta_pair(
      blt.buf_decay, blt.inverse().buf_decay
  )
  np.testing.assert_allclose(pair[0].output_scale, scale, rtol=1e-9)
  # A positive score below 1 is the sign of an inverse without a negative decay.
  assert blt.pillutla_score() > 1 and blt.inverse().buf_decay.min() < 0


@pytest.mark.parametrize("decay", [0.5, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_sums_of_powers_by_doubling(decay, n):
  # No closed form divides by 1 - decay here.
  truth = 1.5 * (decay ** np.arange(n)).sum()
  found = buffered_toeplitz.geometric_sum(1.5, decay, n)
  np.testing.assert_allclose(found, truth, rtol=1e-12)


@pytest.mark.few(1)
@pytest.mark.parametrize("n", [1, 2, 50])
def test_closed_forms_against_sums(n):
  inverse = _build([0.99999, 0.8], [-0.01, -0.3])
  coefs = inverse.toeplitz_coefs(n)
  truth = toeplitz.max_error(noising_coef=coefs)
  found = buffered_toeplitz.max_error(inverse, n)
  np.testing.assert_allclose(found, truth, rtol=1e-10)
  squared = buffered_toeplitz.sensitivity_squared(inverse, n)
  np.testing.assert_allclose(squared, jnp.sum(coefs**2), rtol=1e-12)


def test_limits():
  blt = _build([0.9, 0.5], [0.1, 0.2])
  many = 1e20
  np.testing.assert_allclose(
      buffered_toeplitz.max_loss(blt, many) / many,
      buffered_toeplitz.limit_max_loss(blt),
      rtol=1e-9,
  )
  too_large = _build([1.5], [0.1])
  assert jnp.isinf(buffered_toeplitz.sensitivity_squared(too_large, 10))


@pytest.mark.slow
def test_two_buffers_for_many_steps_reach_the_published_strategy():
  blt = blt_optimizers.optimize(n=100_000, min_buffers=2, max_buffers=2)
  # Two buffers are too few for the bound 1 + ln(n) / pi: 1.16 times it.
  golden = _build([0.9999528892, 0.9857068667], [0.0122853238, 0.1878393665])
  np.testing.assert_allclose(blt.buf_decay, golden.buf_decay, rtol=1e-5)
  np.testing.assert_allclose(blt.output_scale, golden.output_scale, rtol=1e-3)
  loss, best = (buffered_toeplitz.max_loss(x, 100_000) for x in (blt, golden))
  assert loss <= best * (1 + 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "error, k, golden",
    [
        ("mean", 1, 2.1799),
        pytest.param("max", 1, 2.3914, marks=pytest.mark.slow),
    ],
)
def test_two_buffers_reach_the_best_loss_known(error, k, golden):
  loss_fn = blt_optimizers.LossFn.build_min_sep(64, error, 64 // k, k)
  blt, loss = blt_optimizers.optimize_loss(loss_fn, 2)
  assert loss**0.5 <= golden * 1.005
  np.testing.assert_allclose(loss, loss_fn.loss(blt), rtol=1e-9)
  coefs = np.asarray(blt.toeplitz_coefs(64))
  assert (np.diff(coefs) <= 0).all() and (coefs >= 0).all()


@pytest.mark.slow
def test_buffers_are_added_while_they_are_worth_it():
  # The same step every time: nothing beats independent noise.
  blt = blt_optimizers.optimize(
      n=4, max_participations=4, max_buffers=1, max_optimizer_steps=20
  )
  assert len(blt.buf_decay) == 0
  np.testing.assert_array_equal(blt.toeplitz_coefs(3), [1, 0, 0])


def test_a_rational_function_is_near_the_square_root():
  blt = buffered_toeplitz.BufferedToeplitz.from_rational_approx_to_sqrt_x(5)
  root = toeplitz.optimal_max_error_strategy_coefs(10)
  np.testing.assert_allclose(blt.toeplitz_coefs(10), root, rtol=0.15)
  assert "Initial Toeplitz coefs=[1" in str(blt)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: _build([0.9, 0.8], [0.1]), "must have the same length, got"),
        (lambda: _build([[0.9]], [0.1]), "must be 1D, got"),
        (
            lambda: buffered_toeplitz.BufferedToeplitz(
                buf_decay=jnp.ones(1), output_scale=jnp.ones(1, "float32")
            ).validate(),
            "must have the same dtype, got float64 and float32",
        ),
        (
            lambda: _build([0.5, 0.5], [0.1, 0.1]).inverse(),
            "buf_decay must be 1e-09 apart, got a gap of 0.0",
        ),
        (
            lambda: blt_optimizers.get_init_blt(2, _build([0.5], [0.1])),
            "init_blt must have 2 buffers, got 1",
        ),
        (
            lambda: blt_optimizers.LossFn.build_min_sep(4, "median"),
            "error must be max or mean, got median",
        ),
        (
            lambda: blt_optimizers.optimize(n=4, max_buffers=16),
            r"ascending, in \[0, 15\], got 0 and 16",
        ),
    ],
)
def test_what_is_refused(call, text):
  with pytest.raises(ValueError, match=text):
    call()


def test_float64_is_needed_unless_float32_is_asked_for():
  with jax.enable_x64(False):
    with pytest.raises(ValueError, match="jax_enable_x64 must be True"):
      _build([0.9], [0.1])
    assert _build([0.9], [0.1], jnp.float32).inverse().dtype == jnp.float32
