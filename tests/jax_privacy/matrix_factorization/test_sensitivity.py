"""Sensitivities against every pattern of few steps, and three known faults."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.matrix_factorization import (
    dense,
    sensitivity,
    toeplitz,
    toeplitz_coefs,
)
from tests.support import patterns

_ROOT = np.array([1.0, 0.5, 0.375, 0.3125, 0.2734, 0.2461, 0.2256, 0.2095])
_FLAT = np.ones(8)
_RISING = np.array([0.2, 0.1, 0.9, 0.3, 0.0, 0.5, 0.1, 0.4])
_SIGNED = np.array([1.0, -0.6, 0.1, -0.3, 0.2, 0.0, -0.1, 0.3])
# float32 sums of at most 64 positive numbers: 64 x 2^-24 = 4e-6.
_RTOL = 4e-6


@pytest.mark.few(8)
@pytest.mark.parametrize(
    "min_sep, most", [(1, 2), (2, None), (3, None), (5, 1)]
)
@pytest.mark.parametrize("coefs", [_ROOT, _FLAT, _RISING, _SIGNED])
def test_toeplitz_against_every_pattern(coefs, min_sep, most):
  matrix = patterns.toeplitz(coefs, 8)
  ways = patterns.moves(8, min_sep=min_sep, max_participations=most, signs=True)
  truth = patterns.furthest(matrix, ways)
  found = toeplitz.minsep_sensitivity_squared(coefs, min_sep, most) ** 0.5
  assert found >= truth * (1 - _RTOL)
  if coefs is _ROOT or coefs is _FLAT:
    np.testing.assert_allclose(found, truth, rtol=_RTOL)
  general = sensitivity.get_min_sep_sensitivity_upper_bound(
      matrix, min_sep, most
  )
  assert general >= truth * (1 - _RTOL)


def test_twelve_steps_against_every_pattern():
  coefs = np.cumprod([1.0, *[1 - 0.5 / k for k in range(1, 12)]])
  ways = patterns.moves(12, min_sep=2, max_participations=4)
  truth = patterns.furthest(patterns.toeplitz(coefs, 12), ways)
  squared = toeplitz.minsep_sensitivity_squared(coefs, 2, 4)
  np.testing.assert_allclose(squared**0.5, truth, rtol=_RTOL)


@pytest.mark.parametrize("min_sep, most", [(3, None), (4, 2)])
def test_banded_of_any_sign_is_exact(min_sep, most):
  rng = np.random.default_rng(0)
  band = np.tril(np.ones((8, 8))) - np.tril(np.ones((8, 8)), -3)
  matrix = rng.normal(size=(8, 8)) * band
  ways = patterns.moves(8, min_sep=min_sep, max_participations=most, signs=True)
  truth = patterns.furthest(matrix, ways)
  found = sensitivity.get_sensitivity_banded(matrix, min_sep, most)
  np.testing.assert_allclose(found, truth, rtol=1e-5)
  with pytest.raises(ValueError, match="2 or more steps apart must be orthog"):
    sensitivity.get_sensitivity_banded(matrix, 2)


def test_fixed_epochs_against_every_pattern():
  rng = np.random.default_rng(1)
  ways = patterns.moves(8, signs=True)
  # Step i of each of two epochs, and no other.
  fixed = [w for w in ways if (np.flatnonzero(w) % 4 == 1).all()]
  fixed += [w for w in ways if (np.flatnonzero(w) % 4 == 2).all()]
  fixed += [w for w in ways if (np.flatnonzero(w) % 4 == 3).all()]
  fixed += [w for w in ways if (np.flatnonzero(w) % 4 == 0).all()]
  for matrix in (np.tril(rng.normal(size=(8, 8))), patterns.toeplitz(_ROOT, 8)):
    truth = patterns.furthest(matrix, np.array(fixed))
    found = sensitivity.fixed_epoch_sensitivity(matrix, epochs=2)
    # Two steps have one inner product, so signs can always be chosen for it.
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_picks_of_a_linear_function():
  x = np.array([3.0, 5.0, 4.0, -1.0, 2.0])
  pick = sensitivity.max_participation_for_linear_fn
  assert pick(x) == 14 and pick(x, 2) == 9 and pick(x, 2, 1) == 5
  assert pick(-np.abs(x)) == 0 and pick(x, 1, 0) == 0


# Three faults of other libraries.


def test_one_participation_is_not_many():
  # A strategy that does nothing, over 144 steps: twelve times, not once.
  once = sensitivity.single_participation_sensitivity(jnp.eye(9))
  often = sensitivity.fixed_epoch_sensitivity(np.eye(9), epochs=9)
  assert once == 1 and often == 3
  truth = patterns.furthest(np.eye(9), patterns.moves(9))
  assert often == truth and once < truth


def test_a_cyclic_gram_has_no_banded_factor():
  # X of two epochs of three steps: not zero far from the diagonal, where the
  # steps of one example are not. A factor that keeps three bands has another X.
  mask = np.asarray(dense.get_orthogonal_mask(6, epochs=2))
  rng = np.random.default_rng(2)
  half = 0.1 * rng.normal(size=(6, 6))
  gram = np.eye(6) / 2 + (half + half.T) * mask * (1 - np.eye(6))
  factor = np.asarray(dense.strategy_from_X(jnp.asarray(gram)))
  np.testing.assert_allclose(factor.T @ factor, gram, atol=1e-6)
  assert (factor == np.tril(factor)).all()
  found = sensitivity.fixed_epoch_sensitivity(factor, epochs=2)
  np.testing.assert_allclose(found, 1, rtol=1e-5)
  planted = factor * np.asarray(sensitivity.banded_lower_triangular_mask(6, 3))
  assert np.abs(planted.T @ planted - gram).max() > 0.01


def test_marginal_noise_says_less_than_the_truth():
  # One participation at step 0 of noise C^-1 Z: |C e_0| = 1 of sigma. Step by
  # step, as if the noise were independent, the same move looks smaller, for
  # correlated noise has a larger variance at each step.
  coefs = np.array([0.8, 0.6])
  noising = np.linalg.inv(patterns.toeplitz(coefs, 6))
  truth = np.linalg.norm(patterns.toeplitz(coefs, 6)[:, 0])
  planted = 1 / np.linalg.norm(noising[-1])
  assert planted < 0.6 * truth
  squared = toeplitz.minsep_sensitivity_squared(coefs, 6, n=6)
  np.testing.assert_allclose(squared**0.5, truth, rtol=_RTOL)


@pytest.mark.parametrize(
    "call, text",
    [
        (
            lambda: sensitivity.fixed_epoch_sensitivity(jnp.eye(4), 3),
            "epochs must divide n = 4, got 3",
        ),
        (
            lambda: sensitivity.fixed_epoch_sensitivity(jnp.eye(4), 0),
            "epochs must be positive, got 0",
        ),
        (
            lambda: sensitivity.get_sensitivity_banded(jnp.eye(4), 5),
            r"min_sep must be in \[1, 4\], got 5",
        ),
        (
            lambda: sensitivity.single_participation_sensitivity(
                jnp.ones((2, 2))
            ),
            "Matrix C must be lower-triangular",
        ),
        (
            lambda: sensitivity.get_min_sep_sensitivity_upper_bound_for_X(
                jnp.tri(2)
            ),
            "Matrix X must be symmetric",
        ),
        (
            lambda: sensitivity.banded_symmetric_mask(3, 0),
            "num_bands must be at least 1, got 0",
        ),
        (
            lambda: toeplitz.minsep_sensitivity_squared([1.0], 0),
            "min_sep must be positive, got 0",
        ),
        (
            lambda: toeplitz_coefs.multiply([1.0, 2.0], [1.0]),
            "must have the same length where n is None, got 2 and 1",
        ),
    ],
)
def test_what_is_refused(call, text):
  with pytest.raises(ValueError, match=text):
    call()
