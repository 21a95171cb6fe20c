"""Correlated noise: C^-1 times the draws of `gaussian_privatizer`."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import accounting
from jax_privacy import dp_sgd, noise_addition, strategies, testing
from jax_privacy.matrix_factorization import (
    noising,
    toeplitz,
    tree_aggregation,
)
from tests.support import patterns

_N, _STDDEV = 6, 3.0
_ZEROS = {"a": jnp.zeros((3, 2)), "b": jnp.zeros(())}
_C = (0.8, 0.5, 0.3)
_DECAY, _SCALE = (0.9, 0.5), (0.2, 0.3)
_BLT = [1, *(0.2 * 0.9**t + 0.3 * 0.5**t for t in range(_N - 1))]


def _inverse(coefs):
  return np.linalg.inv(patterns.toeplitz(coefs, _N))


# What makes the noise, and the matrix C^-1 that it must be.
_SOURCES = {
    "banded": (noising.BandedStrategy(_C), _inverse(_C)),
    "buffered": (noising.BufferedStrategy(_DECAY, _SCALE), _inverse(_BLT)),
    "banded_inverse": (
        noising.BandedNoising((1.0, -0.5, -0.125)),
        patterns.toeplitz([1.0, -0.5, -0.125], _N),
    ),
    "dense": (_inverse(_C), _inverse(_C)),
    "tree": (
        tree_aggregation.noising_matrix(_N),
        np.asarray(tree_aggregation.noising_matrix(_N)),
    ),
    "streaming": (toeplitz.inverse_as_streaming_matrix(_C), _inverse(_C)),
}


def _privatizer(source, **options):
  return noise_addition.matrix_factorization_privatizer(
      source, stddev=_STDDEV, prng_key=jax.random.key(3), **options
  )


def _plain():
  return noise_addition.gaussian_privatizer(
      stddev=_STDDEV, prng_key=jax.random.key(3)
  )


def _run(noise, sums, num_steps=_N, state=None, update=None):
  """Returns the noised updates of some steps, and the last state."""
  state = noise.init(sums) if state is None else state
  found = []
  for _ in range(num_steps):
    out, state = (update or noise.update)(sums, state)
    found.append(out)
  return found, state


def _stacked(updates):
  flat = [
      np.concatenate([np.ravel(x) for x in jax.tree.leaves(u)]) for u in updates
  ]
  return np.array(flat, np.float64)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", _SOURCES)
def test_the_noise_is_the_inverse_times_independent_noise(name):
  source, inverse = _SOURCES[name]
  num_draws = inverse.shape[1]
  draws = _stacked(_run(_plain(), _ZEROS, num_draws)[0])
  found = _stacked(_run(_privatizer(source), _ZEROS)[0])
  # Fewer than 16 roundings of numbers below 100: 16 x 100 x 2^-24.
  np.testing.assert_allclose(found, inverse @ draws, atol=1e-4)
  # Fresh noise in place of the old: caught.
  assert np.abs(found - draws[:_N]).max() > 0.1


@pytest.mark.parametrize(
    "source",
    [
        noising.BandedNoising((1.0,)),
        noising.BandedStrategy((1.0,)),
        noising.BufferedStrategy((), ()),
    ],
)
def test_one_band_is_independent_noise_to_the_bit(source):
  sums = {
      "a": jnp.linspace(0.0, 1.0, 50),
      "b": jnp.linspace(0.0, 1.0, 50).astype(jnp.bfloat16),
  }
  expected, _ = _run(_plain(), sums, 2)
  found, state = _run(_privatizer(source), sums, 2)
  for one, other in zip(
      jax.tree.leaves(expected), jax.tree.leaves(found), strict=True
  ):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)
  assert state.step == 2


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["banded", "buffered", "banded_inverse"])
def test_compiled_or_resumed_it_has_the_same_bits(name):
  noise = _privatizer(_SOURCES[name][0], num_steps=_N)
  sums = {"a": jnp.linspace(0.0, 1.0, 37)}
  unbroken, _ = _run(noise, sums)
  compiled = jax.jit(noise.update)
  first, state = _run(noise, sums, 4, update=compiled)
  # As from a checkpoint: numbers alone.
  key = jax.random.wrap_key_data(
      np.asarray(jax.random.key_data(state.prng_key))
  )
  state = jax.tree.map(np.asarray, state._replace(prng_key=()))
  state = jax.tree.map(jnp.asarray, state)._replace(prng_key=key)
  rest, state = _run(noise, sums, 2, state, compiled)
  for one, other in zip(unbroken, first + rest, strict=True):
    np.testing.assert_array_equal(one["a"], other["a"])
  # There are no further draws.
  assert np.isnan(compiled(sums, state)[0]["a"]).all()
  with pytest.raises(ValueError, match="at most num_steps = 6"):
    noise.update(sums, state)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["banded", "buffered", "banded_inverse"])
def test_covariance(name):
  source, inverse = _SOURCES[name]
  num, zeros = 20_000, jnp.zeros(20_000)
  update = jax.jit(_privatizer(source).update)
  noise = _stacked(_run(_privatizer(source), zeros, update=update)[0])
  truth = _STDDEV**2 * inverse @ inverse.T
  found = noise @ noise.T / num
  # The variance of a product of normals with covariances s_ij is
  # s_ii s_jj + s_ij^2; 36 entries beyond 6 deviations: once in 10^7 runs.
  variances = np.outer(np.diag(truth), np.diag(truth)) + truth**2
  bound = 6 * np.sqrt(variances / num)
  assert (np.abs(found - truth) < bound).all()
  # The same variances without the correlation: caught.
  planted = np.diag(np.diag(truth))
  assert (np.abs(found - planted) > bound).any()


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "source, coefs, bound",
    [
        # In x[t] = z[t] - sum of c[k] x[t - k], each of the b terms is rounded
        # once, to 2^-24 of sums below |x| (1 + sum |c|).
        (
            noising.BandedStrategy(tuple(0.5**k for k in range(4))),
            lambda n: 0.5 ** np.arange(4.0),
            lambda x: 5 * 2**-23 * 3 * np.abs(x).max(),
        ),
        # A buffer's rounding, 2^-24 of it, is kept for 1 / (1 - decay) steps.
        (
            noising.BufferedStrategy((0.999,), (0.05,)),
            lambda n: np.append(1.0, 0.05 * 0.999 ** np.arange(n - 1.0)),
            lambda x: 2**-22 * 1000 * (1 + 0.05 * np.abs(x).max() * 1000),
        ),
    ],
)
def test_rounding_errors_do_not_add_up(source, coefs, bound):
  # C times the float32 noise is Z again, but for a distance that does not grow
  # with the number of steps.
  n = 3000
  noise, plain = _privatizer(source), _plain()

  def steps(privatizer):
    def step(state, _):
      out, state = privatizer.update(jnp.zeros(2), state)
      return state, out

    return jax.lax.scan(step, privatizer.init(jnp.zeros(2)), length=n)[1]

  found, draws = (np.asarray(jax.jit(steps, static_argnums=0)(p), np.float64)
                  for p in (noise, plain))  # fmt: skip
  c = coefs(n)
  again = np.stack([np.convolve(c, x)[:n] for x in found.T], axis=1)
  assert np.abs(again - draws).max() < bound(found)
  assert bound(found) < 0.1 * _STDDEV


def test_a_short_matrix_ends():
  noise = _privatizer(np.eye(2))
  state = _run(noise, jnp.zeros(3), 2)[1]
  with pytest.raises(IndexError, match="which only has 2 rows, got 2"):
    noise.update(jnp.zeros(3), state)
  assert np.isnan(jax.jit(noise.update)(jnp.zeros(3), state)[0]).all()


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: _privatizer(jnp.ones(3)), "Expected 2D: noising_matrix must"),
        (lambda: _privatizer("banded"), "Expected 2D: noising_matrix must be"),
        (
            lambda: _privatizer(np.full((2, 2), np.nan)),
            "noising_matrix must be finite",
        ),
        (
            lambda: _privatizer(np.eye(2), num_steps=3),
            "num_steps must be at most the 2 rows",
        ),
        (
            lambda: _privatizer(np.eye(2), dtype="bfloat16"),
            "dtype must be float32, float64 or None",
        ),
        (
            lambda: noise_addition.matrix_factorization_privatizer(
                np.eye(2), stddev=-1.0, prng_key=0
            ),
            "stddev must be a positive finite number, got -1.0",
        ),
        (
            lambda: noising.BandedStrategy((-1.0, 0.5)),
            "strategy_coef must be finite numbers, the first of them positive",
        ),
        (
            lambda: noising.BandedNoising((1.0, float("inf"))),
            "noising_coef must be finite numbers",
        ),
        (
            lambda: noising.BufferedStrategy((1.0,), (0.1,)),
            r"buf_decay must be in \[0, 1\)",
        ),
        (
            lambda: noising.BufferedStrategy((0.5,), ()),
            "output_scale must be as long as buf_decay",
        ),
    ],
)
def test_what_is_refused(call, text):
  with pytest.raises(ValueError, match=text):
    call()


# With a mechanism of accounting, whose noise is banded.

_COEF = (0.8, 0.48, 0.36)
_MECHANISM = accounting.Mechanism(
    noise_multiplier=2.0,
    num_steps=200,
    num_examples=64,
    sampling="cyclic_poisson",
    sampling_prob=0.125,
    sampling_options={"cycle_length": 4},
    noise="banded",
    noise_options={"strategy_coef": _COEF},
)
_INDEPENDENT = dataclasses.replace(
    _MECHANISM, noise="independent", noise_options=()
)


def _private(mechanism, **options):
  return dp_sgd.make_private(
      lambda w, x: jnp.sum(jnp.sin(x @ w)),
      optax.sgd(0.1),
      mechanism,
      l2_clip_norm=0.5,
      key=7,
      check_loss=False,
      **options,
  )


def test_make_private_adds_the_mechanisms_noise():
  private = _private(_MECHANISM)
  x, w = jnp.ones((4, 30)), jnp.zeros(30)
  report = testing.check_private(private, w, x, mechanism=_MECHANISM)
  # Of Z: the noise multiplier times one example's share, 0.5 / (64 / 8).
  assert report.noise.stddev == pytest.approx(2.0 * 0.5 / 8)
  # Noise of another correlation, or of none, is caught.
  reversed_ = dataclasses.replace(
      _MECHANISM, noise_options={"strategy_coef": (0.8, 0.36, 0.48)}
  )
  for claimed, drawn in (
      (_MECHANISM, _INDEPENDENT),
      (_INDEPENDENT, _MECHANISM),
      (reversed_, _MECHANISM),
  ):
    noise_report = lambda c=claimed, d=drawn: testing.check_noise(
        _private(d).optimizer,
        w,
        stddev=report.noise.stddev,
        strategy_coef=strategies.strategy_coef(c, 200),
    )
    with pytest.raises(testing.NoiseError):
      noise_report()


@pytest.mark.parametrize(
    "changed, text",
    [
        ({"sampling": "poisson"}, "strategy_coef must be one number for sam"),
        (
            {"noise_options": {"strategy_coef": (0.9, 0.9)}},
            "strategy_coef must be of norm 1",
        ),
        ({"noise_options": {}}, "strategy_coef must be given"),
        ({"noise": "pink"}, "noise must be one of independent, banded, ban"),
    ],
)
def test_what_no_accountant_checked_is_refused(changed, text):
  # A record of one's own, with the mechanism's fields.
  fields = {f.name: getattr(_MECHANISM, f.name)
            for f in dataclasses.fields(_MECHANISM)}  # fmt: skip
  with pytest.raises(ValueError, match=text):
    _private(types.SimpleNamespace(**fields | changed))


def test_one_group_and_one_band_are_dp_sgd_to_the_bit():
  one = dataclasses.replace(
      _MECHANISM,
      sampling_options={"cycle_length": 1},
      noise_options={"strategy_coef": (1.0,)},
  )
  plain = dataclasses.replace(
      _INDEPENDENT, sampling="poisson", sampling_options=()
  )
  found = []
  for mechanism in (one, plain):
    private = _private(mechanism)
    w = jnp.zeros(9)
    state = private.optimizer.init(w)
    for step in range(2):
      batch = private.sampler.batch(step)
      updates, state = private.optimizer.update(jnp.ones(9), state, w)
      found.append([*batch.indices, *np.asarray(updates)])
  assert found[:2] == found[2:]


@pytest.mark.parametrize(
    "options, mechanism, text",
    [
        (
            {"noise": "gaussian"},
            _MECHANISM,
            "noise must be None, or as the mech",
        ),
        (
            {"noise": noise_addition.Gaussian()},
            _MECHANISM,
            "noise must be None",
        ),
        (
            {"noise": "banded"},
            _INDEPENDENT,
            "as the mechanism says .independent",
        ),
        ({"secure_random": True}, _MECHANISM, "secure_random must be False"),
        ({"grid_scale": 1000}, _MECHANISM, "grid_scale must be None with corr"),
    ],
)
def test_a_noise_that_the_mechanism_does_not_have(options, mechanism, text):
  with pytest.raises(ValueError, match=text):
    _private(mechanism, **options)
