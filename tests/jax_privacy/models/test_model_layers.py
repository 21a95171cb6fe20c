"""WSConv and GroupNorm against slow oracles in NumPy, and where they break."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models
from jax_privacy.models import layers
from tests.support import float16


def _standardise_slowly(kernel, gain, epsilon=1e-4):
  """The formula of the recipe, a channel at a time, in float64."""
  kernel = np.asarray(kernel, np.float64)
  out = np.empty_like(kernel)
  fan_in = kernel[..., 0].size
  for c in range(kernel.shape[-1]):
    channel = kernel[..., c]
    mean = sum(channel.ravel()) / fan_in
    var = sum((channel.ravel() - mean) ** 2) / fan_in
    scale = float(gain[c]) / np.sqrt(max(var * fan_in, epsilon))
    out[..., c] = (channel - mean) * scale
  return out


def _conv_slowly(x, kernel, bias, stride):
  """SAME convolution by four loops; the odd padding pixel comes last."""
  n, h, w, _ = x.shape
  kh, kw, _, features = kernel.shape
  out_h, out_w = -(-h // stride), -(-w // stride)
  pad_h = max((out_h - 1) * stride + kh - h, 0)
  pad_w = max((out_w - 1) * stride + kw - w, 0)
  x = np.pad(
      np.asarray(x, np.float64),
      (
          (0, 0),
          (pad_h // 2, pad_h - pad_h // 2),
          (pad_w // 2, pad_w - pad_w // 2),
          (0, 0),
      ),
  )
  out = np.zeros((n, out_h, out_w, features))
  for i in range(n):
    for r in range(out_h):
      for c in range(out_w):
        for f in range(features):
          r0, c0 = r * stride, c * stride
          patch = x[i, r0 : r0 + kh, c0 : c0 + kw]
          out[i, r, c, f] = np.sum(patch * kernel[..., f]) + bias[f]
  return out


def _group_norm_slowly(x, scale, bias, num_groups, epsilon=1e-5):
  """Two passes, a group at a time, in float64."""
  x = np.asarray(x, np.float64)
  size = x.shape[-1] // num_groups
  out = np.empty_like(x)
  for i in range(len(x)):
    for g in range(num_groups):
      group = x[i, ..., g * size : (g + 1) * size]
      var = np.mean((group - group.mean()) ** 2)
      out[i, ..., g * size : (g + 1) * size] = (group - group.mean()) / np.sqrt(
          var + epsilon
      )
  return out * np.asarray(scale, np.float64) + np.asarray(bias, np.float64)


def _compiled(layer, x):
  """What the layer gives, by one program and not one for each operation."""
  return np.asarray(jax.jit(lambda x: layer(x))(x))


def _random_like(rng, variable, *, mean=0.0):
  variable[...] = jnp.asarray(
      mean + rng.normal(size=variable[...].shape), jnp.float32
  )


def _random_conv(seed, **options):
  rng = np.random.default_rng(seed)
  conv = models.WSConv(3, 4, rngs=nnx.Rngs(seed), **options)
  _random_like(rng, conv.gain, mean=1.0)
  _random_like(rng, conv.bias)
  x = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
  return conv, x


@pytest.mark.few(3)
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 3), (3, 2)])
def test_ws_conv_equals_four_loops(kernel_size, strides):
  conv, x = _random_conv(0, kernel_size=kernel_size, strides=strides)
  kernel = _standardise_slowly(conv.kernel[...], np.asarray(conv.gain[...]))
  expected = _conv_slowly(x, kernel, np.asarray(conv.bias[...]), strides)
  # 27 products, of which 5 to 10 are of order 1: 27 x 10 x 2^-24 = 1.6e-5.
  np.testing.assert_allclose(_compiled(conv, x), expected, atol=2e-5)


def test_ws_conv_sees_neither_the_scale_nor_the_mean_of_its_kernel():
  conv, x = _random_conv(1, kernel_size=(3, 3))
  before = _compiled(conv, x)
  conv.kernel[...] = 3.0 * conv.kernel[...] + 0.25
  # As above: the kernel itself is rounded once more.
  np.testing.assert_allclose(_compiled(conv, x), before, atol=2e-5)


def test_a_standardised_channel_has_mean_zero_and_the_norm_of_its_gain():
  gain = np.array([0.5, -2.0, 0.0, 1.0], np.float32)
  kernel = 7.0 + np.random.default_rng(0).normal(size=(3, 3, 5, 4))
  weight = jax.jit(layers.standardise_weight)(kernel.astype(np.float32), gain)
  weight = np.asarray(weight)
  # 45 numbers near 7, over a norm of 6.7: 45 x 2^-24 x 7 / 6.7 = 3e-6.
  np.testing.assert_allclose(np.mean(weight, (0, 1, 2)), 0.0, atol=1e-5)
  norm = np.sqrt(np.sum(np.square(weight), (0, 1, 2)))
  np.testing.assert_allclose(norm, np.abs(gain), rtol=1e-4)


def test_a_small_kernel_is_divided_by_the_root_of_epsilon():
  # Centred and of squared norm 2 * 0.001^2 < 1e-4, so the divisor is 0.01,
  # and not the norm: 0.001 becomes 0.1.
  kernel = np.float32([0.001, -0.001]).reshape(1, 1, 2, 1)
  weight = jax.jit(layers.standardise_weight)(kernel, np.ones(1, np.float32))
  np.testing.assert_allclose(weight.ravel(), [0.1, -0.1], rtol=1e-6)


def test_a_constant_kernel_gives_finite_gradients():
  grad_fn = jax.grad(
      lambda k: jnp.sum(layers.standardise_weight(k, jnp.ones(2)) ** 3)
  )
  grad = jax.jit(grad_fn)(np.ones((3, 3, 2, 2), np.float32))
  assert np.isfinite(grad).all()


def test_the_kernel_starts_normal_with_variance_one_over_fan_in():
  conv = models.WSConv(64, 64, kernel_size=(3, 3), rngs=nnx.Rngs(0))
  kernel = np.asarray(conv.kernel[...], np.float64)
  n, fan_in = kernel.size, 9 * 64
  # The sample variance of n normals has relative deviation sqrt(2 / n).
  assert abs(kernel.var() * fan_in - 1.0) < 5 * np.sqrt(2 / n)
  # Not the truncated normal, which ends at 2.27 deviations: of 36,864 normal
  # numbers none is beyond 3 with probability (1 - 0.0027)^36864 < 1e-43.
  assert np.abs(kernel).max() * np.sqrt(fan_in) > 3.0
  np.testing.assert_array_equal(conv.gain[...], 1.0)
  np.testing.assert_array_equal(conv.bias[...], 0.0)


@pytest.mark.few(4)
@pytest.mark.parametrize("num_groups", [1, 2, 8])
@pytest.mark.parametrize("shape", [(3, 4, 5, 8), (2, 8), (2, 7, 8)])
def test_group_norm_equals_two_passes_and_flax(shape, num_groups):
  rng = np.random.default_rng(0)
  norm = models.GroupNorm(8, num_groups=num_groups)
  _random_like(rng, norm.scale, mean=1.0)
  _random_like(rng, norm.bias)
  x = (2.0 + 3.0 * rng.normal(size=shape)).astype(np.float32)
  expected = _group_norm_slowly(x, norm.scale[...], norm.bias[...], num_groups)
  # Groups of one value have deviation 0, and magnify rounding by 300.
  atol = 1e-3 if len(shape) == 2 and num_groups == 8 else 2e-5
  found = _compiled(norm, x)
  np.testing.assert_allclose(found, expected, atol=atol)
  flax = nnx.GroupNorm(8, num_groups, epsilon=1e-5, rngs=nnx.Rngs(0))
  flax.scale[...], flax.bias[...] = norm.scale[...], norm.bias[...]
  with jax.numpy_rank_promotion("allow"):
    np.testing.assert_allclose(found, _compiled(flax, x), atol=atol)


def test_group_norm_uses_the_epsilon_of_haiku():
  # x is 0.001 or -0.001, so var = 1e-6: y = x / sqrt(1e-6 + 1e-5).
  x = np.float32([0.001, -0.001, 0.001, -0.001]).reshape(1, 4, 1, 1)
  y = _compiled(models.GroupNorm(1, num_groups=1), x)
  np.testing.assert_allclose(np.abs(y), 0.001 / np.sqrt(1.1e-5), rtol=1e-5)


def test_group_norm_survives_cancellation():
  """A variance that rounds below 0 would turn into NaN, and clip to nothing."""
  rng = np.random.default_rng(0)
  x = np.float32(1e3 + 1e-3 * rng.normal(size=(50, 8, 8, 2)))
  axes = (1, 2, 3)
  unguarded = jax.jit(
      lambda x: jnp.mean(x**2, axes) - jnp.mean(x, axes) ** 2
  )(x)
  assert (unguarded < -1e-5).any(), "The input must provoke the fault."
  norm = models.GroupNorm(2, num_groups=1)
  value_fn = jax.jit(jax.value_and_grad(lambda x: jnp.sum(norm(x) ** 2)))
  value, grad = value_fn(x)
  assert jnp.isfinite(value)
  assert jnp.isfinite(grad).all()


def test_group_norm_is_accurate_at_thirty_deviations_from_zero():
  rng = np.random.default_rng(0)
  x = (30.0 + rng.normal(size=(4, 16, 16, 4))).astype(np.float32)
  norm = models.GroupNorm(4, num_groups=1)
  expected = _group_norm_slowly(x, np.ones(4), np.zeros(4), 1)
  # A pairwise float32 sum of 1024 squares is off by 10 * 6e-8 * 901 = 5e-4 at
  # most, the deviation by half of that, and |y| is below 5.
  np.testing.assert_allclose(_compiled(norm, x), expected, atol=5 * 2.5e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_group_norm_takes_statistics_in_float32(dtype):
  """In float16 the square of 300 is infinite; bfloat16 sums stop growing."""
  float16.skip_if_missing(dtype)
  rng = np.random.default_rng(0)
  x = (300.0 + 100 * rng.normal(size=(2, 32, 32, 4))).astype(dtype)
  y = _compiled(models.GroupNorm(4, num_groups=2), x)
  assert y.dtype == dtype
  expected = _group_norm_slowly(x, np.ones(4), np.zeros(4), 2)
  # Only the output is rounded, to half a unit in the last place of |y| < 8.
  atol = 8 * float(jnp.finfo(dtype).eps) / 2
  np.testing.assert_allclose(y.astype(np.float32), expected, atol=atol)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_groups": 3}, "num_groups must divide num_features = 8, got 3."),
        (
            {"num_groups": 0},
            "num_groups must be an integer of at least 1, got 0.",
        ),
        ({"num_groups": True}, "must be an integer of at least 1, got True."),
        ({"num_groups": 2, "epsilon": 0.0}, "epsilon must be positive"),
        ({"num_groups": 2, "epsilon": float("nan")}, "epsilon must be"),
    ],
)
def test_group_norm_refuses(options, text):
  with pytest.raises(ValueError, match=text):
    models.GroupNorm(8, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kernel_size": (3,)}, "kernel_size must be 2 positive integers"),
        ({"kernel_size": (3, 0)}, "must be an integer of at least 1, got 0."),
        ({"kernel_size": (3, 3), "strides": -1}, "strides must be an integer"),
        ({"kernel_size": (3, 3), "padding": "same"}, "padding must be 'SAME'"),
    ],
)
def test_ws_conv_refuses(options, text):
  with pytest.raises(ValueError, match=text):
    models.WSConv(1, 1, rngs=nnx.Rngs(0), **options)
