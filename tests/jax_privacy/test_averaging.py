import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import averaging


def _run(average, values):
  state = average.init({"w": jnp.float32(values[0])})
  for value in values[1:]:
    state = jax.jit(average.update)({"w": jnp.float32(value)}, state)
  return float(state.average["w"])


_VALUES = [1.0, 4.0, -2.0, 8.0, 0.5, 3.0, 7.0, -1.0, 2.0, 5.0, 6.0]


@pytest.mark.parametrize("decay", [0.0, 0.2, 0.9, 0.9999])
@pytest.mark.parametrize("warmup", [True, False])
def test_ema_is_the_recursion(decay, warmup):
  want = _VALUES[0]
  for t, value in enumerate(_VALUES[1:]):
    d = min(decay, (1 + t) / (10 + t)) if warmup else decay
    want = d * want + (1 - d) * value
  np.testing.assert_allclose(
      _run(averaging.ema(decay, warmup=warmup), _VALUES), want, rtol=1e-5
  )


def test_warmup_starts_from_t_zero():
  # De et al.: the first decay is 1/10, so 9/10 of the first iterate.
  assert _run(averaging.ema(0.9999), [0.0, 1.0]) == pytest.approx(0.9)


@pytest.mark.parametrize("start_step", [0, 3, 9])
def test_polyak_is_the_mean(start_step):
  got = _run(averaging.polyak(start_step=start_step), _VALUES)
  np.testing.assert_allclose(got, np.mean(_VALUES[1 + start_step :]), rtol=1e-5)


def test_polyak_before_its_start_is_the_last_iterate():
  assert _run(averaging.polyak(start_step=99), _VALUES) == _VALUES[-1]


def test_short_parameters_are_averaged_in_float32():
  # In bfloat16, 1 + 0.001 x (2 - 1) is 1: the average would never move.
  average = averaging.ema(0.999, warmup=False)
  state = average.init(jnp.bfloat16(1))
  for _ in range(100):
    state = average.update(jnp.bfloat16(2), state)
  assert state.average.dtype == jnp.float32
  np.testing.assert_allclose(state.average, 2 - 0.999**100, rtol=1e-5)


def test_average_is_a_copy():
  # A step that donates the parameters must not take the average with them.
  params = jnp.ones(3)
  state = averaging.ema(0.5).init(params)
  jax.jit(lambda p: p + 1, donate_argnums=0)(params)
  np.testing.assert_array_equal(state.average, 1)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0, float("nan"), True])
def test_bad_decay(decay):
  with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got"):
    averaging.ema(decay)


def test_bad_start_step():
  with pytest.raises(ValueError, match="start_step must be an integer"):
    averaging.polyak(start_step=-1)
