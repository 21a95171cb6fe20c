"""Scattering: published properties, and a slow oracle in space."""

import itertools
import math

import numpy as np
import pytest

from jax_privacy import data
from jax_privacy.data import scattering

_PAD = 4


def _noise(num=3, shape=(28, 28, 1), seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (num, *shape), dtype=np.uint8)


def _digits():
  source = data.load("digits", split="test", image_shape=(28, 28, 1))
  return source[np.arange(20)]["image"]


def _padded(images):
  pad = ((0, 0), (_PAD, _PAD), (_PAD, _PAD), (0, 0))
  return np.pad(images / 255, pad, mode="reflect")


def _norms(x):
  return np.sqrt(np.square(np.float64(x)).sum((1, 2, 3)))


@pytest.fixture(scope="module")
def transform():
  return scattering.Scattering((28, 28, 1))


@pytest.mark.parametrize(
    "num_scales, num_angles, channels, want",
    # 1 + J L + L^2 J (J - 1) / 2 a channel (Bruna and Mallat 2013).
    [(1, 3, 1, 4), (2, 8, 3, 243), (3, 4, 2, 122)],
)
def test_as_many_features_as_paths(num_scales, num_angles, channels, want):
  transform = scattering.Scattering(
      (16, 24, channels), num_scales=num_scales, num_angles=num_angles
  )
  side = 2**num_scales
  assert transform.feature_shape == (16 // side, 24 // side, want)
  got = transform(_noise(2, (16, 24, channels)))
  assert got.shape == (2, *transform.feature_shape) and got.dtype == np.float32


def test_wavelets_have_zero_mean_and_one_peak_at_their_frequency():
  bank = scattering.filter_bank((36, 36), 2, 8)
  assert not bank[..., 0, 0].any()
  frequency = 2 * math.pi * np.fft.fftfreq(36)
  for j, k in itertools.product(range(2), range(8)):
    row, column = np.unravel_index(bank[j, k].argmax(), (36, 36))
    peak = np.array([frequency[row], frequency[column]])
    radius, angle = 0.75 * math.pi / 2**j, (3 - k) * math.pi / 8
    want = radius * np.array([math.cos(angle), math.sin(angle)])
    # Frequencies are 2 pi / 36 = 0.17 apart; the mean that is taken off moves
    # the peak outwards, by less than that.
    assert np.abs(peak - want).max() < 0.2


def test_filters_lose_energy_and_never_gain_any():
  """Littlewood and Paley's sum: at most 1, and above 1/2 but at the corners.

  With it, |S x - S y| <= |x - y| (Bruna and Mallat 2013, section 2.2).
  """
  side = 36
  bank = scattering.filter_bank((side, side), 2, 8)
  negative = np.roll(bank[..., ::-1, ::-1], 1, axis=(-2, -1))
  frequency = 2 * math.pi * np.fft.fftfreq(side)
  squared = np.add.outer(frequency**2, frequency**2)
  low_pass = np.exp(-(1.6**2) * squared)  # Squared; its width is 0.8 x 2.
  total = low_pass + (bank**2 + negative**2).sum((0, 1)) / 2
  assert total.max() < 1 + 1e-9
  assert total[np.sqrt(squared) <= 0.75 * math.pi].min() > 0.5


def test_no_two_images_are_further_apart_in_features(transform):
  images = np.concatenate([_digits(), _noise(20)])
  # A feature stands for 4 x 4 pixels. Averages at every fourth pixel alone may
  # gain 1%: twice exp(-(1.6 pi / 2)^2) a side, from frequencies that alias.
  features, pixels = 4 * np.asarray(transform(images)), _padded(images)
  for shift in (1, 7, 20):
    moved = _norms(features - np.roll(features, shift, 0))
    assert (moved < 1.01 * _norms(pixels - np.roll(pixels, shift, 0))).all()


def test_features_keep_most_of_an_image(transform):
  images = _digits()
  ratio = _norms(4 * np.asarray(transform(images))) / _norms(_padded(images))
  assert ratio.min() > 0.8 and ratio.max() < 1.0


def test_a_small_shift_moves_features_less_than_pixels(transform):
  images = _digits()
  shifted = np.roll(images, 1, axis=2)
  features, other = transform(images), transform(shifted)
  moved = _norms(features - other) / _norms(features)
  moved_pixels = _norms(images / 255 - shifted / 255) / _norms(images / 255)
  assert (moved < 0.6 * moved_pixels).all()


@pytest.mark.parametrize("value", [0, 100, 255])
def test_a_constant_image_is_its_own_average(transform, value):
  images = np.full((1, 28, 28, 1), value, np.uint8)
  features = np.asarray(transform(images))
  np.testing.assert_allclose(features[..., 0], value / 255, rtol=1e-5)
  np.testing.assert_allclose(features[..., 1:], 0, atol=1e-5)


def test_a_quarter_turn_permutes_the_angles(transform):
  """About pixel (14, 14), which stands halfway between two features."""
  block = _noise(1, (13, 13, 1))[0]
  images = np.zeros((2, 28, 28, 1), np.uint8)
  images[0, 8:21, 8:21] = block
  images[1, 8:21, 8:21] = np.rot90(block)
  before, after = np.asarray(transform(images))[:, 1:7, 1:7]
  turned = np.roll(np.arange(8), 4)  # Four of eight angles in half a turn.
  first = [1 + 8 * j + k for j in range(2) for k in turned]
  second = [17 + 8 * k + m for k in turned for m in turned]
  want = np.rot90(before)[..., [0, *first, *second]]
  np.testing.assert_allclose(after, want, atol=1e-6)
  assert np.abs(after - np.rot90(before)).max() > 0.01


def _kernel(side, *, width, direction=(1.0, 0.0), slant=1.0, frequency=0.0):
  """A filter in space, [side, side], the origin at [0, 0], periodic."""
  kernel = np.zeros((side, side), complex)
  wave = np.zeros((side, side), complex)
  steps = np.arange(side)
  for m, n in itertools.product(range(-2, 3), repeat=2):
    rows, columns = np.meshgrid(steps + m * side, steps + n * side)
    rows, columns = rows.T, columns.T
    along = rows * direction[0] + columns * direction[1]
    across = columns * direction[0] - rows * direction[1]
    squares = along**2 + (slant * across) ** 2
    gaussian = (
        np.exp(-squares / (2 * width**2)) * slant / (2 * np.pi * width**2)
    )
    kernel += gaussian
    wave += gaussian * np.exp(1j * frequency * along)
  if frequency:
    return wave - wave.sum() / kernel.sum() * kernel
  return kernel


def _convolve(x, kernel):
  """sum over u of x(u) kernel(p - u), by hand, periodic."""
  side = len(x)
  steps = np.arange(side)
  out = np.zeros(x.shape, complex)
  for p, q in itertools.product(range(side), repeat=2):
    shifted = kernel[(p - steps) % side][:, (q - steps) % side]
    out[p, q] = (x * shifted).sum()
  return out


def _wavelet(j, k, num_angles=8):
  angle = (num_angles // 2 - 1 - k) * math.pi / num_angles
  return _kernel(
      24,
      width=0.8 * 2**j,
      direction=(math.cos(angle), math.sin(angle)),
      slant=4 / num_angles,
      frequency=0.75 * math.pi / 2**j,
  )


@pytest.mark.parametrize("num_angles", [1, 2, 3, 8])
def test_wavelets_are_their_formula_in_space(num_angles):
  """Few angles make short wavelets, with many periods in Fourier space."""
  bank = scattering.filter_bank((24, 24), 2, num_angles)
  for j, k in itertools.product(range(2), range(num_angles)):
    got, want = np.fft.ifft2(bank[j, k]), _wavelet(j, k, num_angles)
    # Among the periods of space too, some 1e-10 are left out.
    np.testing.assert_allclose(got, want, atol=1e-9)
    assert np.abs(want).max() > 0.01


def test_a_coefficient_of_each_order_by_convolution_in_space():
  images = _noise(1, (16, 16, 1), seed=5)
  got = np.asarray(scattering.Scattering((16, 16, 1))(images))[0]
  x = _padded(images)[0, :, :, 0]
  at_full, at_half = _kernel(24, width=1.6), _kernel(12, width=0.8)

  def averaged(u, low_pass, step):
    return _convolve(u, low_pass).real[step:-step:step, step:-step:step]

  first = np.abs(_convolve(x, _wavelet(0, 6)))
  coarse = np.abs(_convolve(x, _wavelet(1, 2)))[::2, ::2]
  second = np.abs(_convolve(first, _wavelet(1, 3)))[::2, ::2]
  want = {
      0: averaged(x, at_full, 4),
      1 + 6: averaged(first, at_full, 4),
      1 + 8 + 2: averaged(coarse, at_half, 2),
      1 + 16 + 8 * 6 + 3: averaged(second, at_half, 2),
  }
  for channel, values in want.items():
    np.testing.assert_allclose(got[..., channel], values, atol=1e-5)
    assert np.abs(values).max() > 0.005, "too small to tell anything"


def test_each_colour_by_itself_and_in_order():
  images = _noise(2, (8, 8, 3))
  one = scattering.Scattering((8, 8, 1), num_angles=2)
  all_three = scattering.Scattering((8, 8, 3), num_angles=2)
  want = np.concatenate([one(images[..., c : c + 1]) for c in range(3)], -1)
  np.testing.assert_allclose(all_three(images), want, atol=1e-6)


def test_groups_are_normalised_as_group_norm_does():
  images = _noise(3, (8, 12, 1))
  plain = scattering.Scattering((8, 12, 1), num_angles=2)
  normed = scattering.Scattering((8, 12, 1), num_angles=2, num_groups=3)
  features = np.asarray(plain(images), np.float64)
  assert features.shape[-1] == 9
  want = np.zeros_like(features)
  for i, start in itertools.product(range(3), (0, 3, 6)):
    group = features[i, :, :, start : start + 3]
    scale = np.sqrt(group.var() + 1e-5)
    want[i, :, :, start : start + 3] = (group - group.mean()) / scale
  np.testing.assert_allclose(normed(images), want, atol=1e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"num_scales": 0},
            "num_scales must be an integer of at least 1, got 0",
        ),
        ({"num_scales": True}, "num_scales must be an integer of at least 1"),
        (
            {"num_angles": 2.0},
            "num_angles must be an integer of at least 1, got 2.0",
        ),
        ({"num_scales": 3}, "sides that are multiples of 8 .* larger, got"),
        ({"num_scales": 10**9}, "num_scales must be at most"),
        ({"num_angles": 10**9}, "num_angles must be at most"),
        (
            {"num_groups": 0},
            "num_groups must be an integer of at least 1, got 0",
        ),
        (
            {"num_groups": 7},
            "num_groups must divide the number of features, 81",
        ),
    ],
)
def test_wrong_options_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    scattering.Scattering((8, 12, 1), **options)


@pytest.mark.parametrize("sides", [(8, 10), (9, 8), (4, 8)])
def test_images_that_do_not_divide_are_refused(sides):
  with pytest.raises(ValueError, match="image_shape must have sides that are"):
    scattering.Scattering((*sides, 1))


def test_wrong_images_are_refused(transform):
  for images in (_noise(1, (28, 27, 1)), np.zeros((1, 28, 28, 1), np.float32)):
    with pytest.raises(ValueError, match=r"images must be uint8 \[n, 28, 28"):
      transform(images)
