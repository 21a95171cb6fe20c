"""Augmentations: every outcome, as often as it should, keyed alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.data import augment

_IMAGE = jnp.arange(4 * 5 * 2, dtype=jnp.float32).reshape(4, 5, 2)


def _crops(image, pad, mode="symmetric"):
  """All the crops, in rows then columns."""
  padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
  height, width, _ = image.shape
  return np.array(
      [
          padded[i : i + height, j : j + width]
          for i in range(2 * pad + 1)
          for j in range(2 * pad + 1)
      ]
  )


def _outcomes(images, candidates):
  """The index of the candidate that each image equals; each must equal one."""
  equal = (images[:, None] == candidates[None]).all((2, 3, 4))
  np.testing.assert_array_equal(equal.sum(1), 1)
  return equal.argmax(1)


def _run(augment_fn, num_keys, image=_IMAGE, seed=0):
  keys = jax.random.split(jax.random.key(seed), num_keys)
  return np.asarray(jax.jit(jax.vmap(augment_fn, (0, None)))(keys, image))


def _assert_uniform(outcomes, num_candidates):
  """Each count is binomial(n, 1/k); 5 deviations, union bound < 1e-4.

  With k <= 50 candidates, 50 * 2 * P(normal > 5) = 3e-5.
  """
  n, p = len(outcomes), 1 / num_candidates
  counts = np.bincount(outcomes, minlength=num_candidates)
  assert np.abs(counts - n * p).max() <= 5 * np.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_every_crop_is_as_likely(pad):
  images = _run(
      lambda key, image: augment.mirror_pad_and_crop(key, image, pad=pad), 4000
  )
  outcomes = _outcomes(images, _crops(_IMAGE, pad))
  _assert_uniform(outcomes, (2 * pad + 1) ** 2)


def test_the_uniformity_test_tells_a_missing_last_offset():
  """The planted fault: randint with 2 pad in place of 2 pad + 1."""
  outcomes = np.random.default_rng(0).integers(0, 4, 4000)
  with pytest.raises(AssertionError):
    _assert_uniform(outcomes, 5)


def test_the_mirror_repeats_the_edge():
  """ "symmetric", as De et al.: "reflect" would leave the edge out."""
  images = _run(
      lambda key, image: augment.mirror_pad_and_crop(key, image, pad=2), 200
  )
  reflected = _crops(_IMAGE, 2, mode="reflect")
  matches = (images[:, None] == reflected[None]).all((2, 3, 4)).any(1)
  # All but the crop without padding, 1 of 25, differ between the two modes.
  assert matches.mean() < 0.2


def test_rows_and_columns_move_independently():
  images = _run(
      lambda key, image: augment.mirror_pad_and_crop(key, image, pad=1), 4000
  )
  outcomes = _outcomes(images, _crops(_IMAGE, 1))
  diagonal = np.isin(outcomes, [0, 4, 8]).mean()
  # A shared offset would make it 1; the deviation of 1/3 is 0.0075.
  assert abs(diagonal - 1 / 3) < 5 * 0.0075


def test_both_flips_are_as_likely():
  images = _run(augment.random_flip, 1000)
  candidates = np.array([_IMAGE, _IMAGE[:, ::-1]])
  _assert_uniform(_outcomes(images, candidates), 2)


def test_crop_and_flip_do_not_share_a_key():
  """With one key for both, the flip would be a function of the crop."""
  images = _run(augment.build(("crop", "flip"), pad=1), 8000)
  crops = _crops(_IMAGE, 1)
  candidates = np.concatenate([crops, crops[:, :, ::-1]])
  _assert_uniform(_outcomes(images, candidates), 18)


def test_augmentations_are_pure_functions_of_the_key():
  augment_fn = augment.build(("crop", "flip"), pad=2)
  first, again = _run(augment_fn, 50), _run(augment_fn, 50)
  np.testing.assert_array_equal(first, again)
  assert (first != _run(augment_fn, 50, seed=1)).any()
  # Nor does the place in the batch, or jit, matter.
  keys = jax.random.split(jax.random.key(0), 50)
  alone = augment_fn(keys[17], _IMAGE)
  np.testing.assert_array_equal(alone, first[17])


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16, jnp.float32])
def test_shape_and_dtype_are_kept(dtype):
  augment_fn = augment.build(("flip", "crop"), pad=1)
  image = augment_fn(jax.random.key(0), _IMAGE.astype(dtype))
  assert image.shape == _IMAGE.shape
  assert image.dtype == dtype


def test_no_augmentation_is_the_identity():
  augment_fn = augment.build(())
  np.testing.assert_array_equal(augment_fn(jax.random.key(0), _IMAGE), _IMAGE)


def test_names_are_applied_in_their_order():
  calls = []

  def record(name):
    def augmentation(key, image):
      calls.append((name, jax.random.key_data(key).tolist()))
      return image

    return augmentation

  composed = augment.compose(record("a"), record("b"), record("a"))
  composed(jax.random.key(0), _IMAGE)
  assert [name for name, _ in calls] == ["a", "b", "a"]
  assert len({str(key) for _, key in calls}) == 3


def _brighten(key, image, by, twice=False):
  return image + (2 * by if twice else by)


def test_own_functions_are_augmentations_too():
  augment_fn = augment.build(("flip", _brighten), by=3.0)
  got = augment_fn(jax.random.key(0), _IMAGE)
  wanted = augment.build(("flip",))(jax.random.key(0), _IMAGE) + 3.0
  np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("names", "options", "text"),
    [
        ((_brighten,), {}, "by must be given for <function _brighten"),
        (
            (_brighten,),
            {"by": 1, "pad": 2},
            "option must be one of <function .*pad",
        ),
        (
            ("blur",),
            {},
            r"names must be some of crop, flip, random_crop, got \('blur',\)",
        ),
        (
            "crop",
            {"pad": 1},
            "names must be some of crop, flip, random_crop, got 'crop'",
        ),
        (("crop",), {}, "pad must be given for 'crop', got none"),
        (("flip",), {"pad": 1}, "option must be one of 'flip', got 'pad'"),
        ((), {"pad": 1}, "option must be one of no augmentation, got 'pad'"),
        (("crop",), {"pad": -1}, "pad must be an integer of at least 0, got"),
        (("crop",), {"pad": 1.0}, "pad must be an integer of at least 0, got"),
        (("crop",), {"pad": True}, "pad must be an integer of at least 0"),
        (("crop",), {"pad": float("nan")}, "pad must be an integer"),
    ],
)
def test_wrong_names_and_options_are_refused(names, options, text):
  with pytest.raises(ValueError, match=text):
    augment.build(names, **options)


def test_padding_beyond_the_image_is_refused():
  with pytest.raises(ValueError, match=r"pad must be at most .* got 5"):
    augment.mirror_pad_and_crop(jax.random.key(0), _IMAGE, pad=5)


def test_a_batch_is_not_an_image():
  """Flipping axis 1 of a batch would turn images upside down."""
  batch = jnp.zeros((2, 4, 5, 2))
  for name, options in (("crop", {"pad": 1}), ("flip", {})):
    with pytest.raises(ValueError, match="image must be one image"):
      augment.build((name,), **options)(jax.random.key(0), batch)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (0.25, 0.5),
        ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
        ([0, 1, 0], np.array([1.0, 2.0, 4.0])),
    ],
)
@pytest.mark.parametrize("shape", [(4, 5, 3), (2, 4, 5, 3)])
def test_standardise_is_the_formula(mean, std, shape):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, shape, dtype=np.uint8)
  out = augment.standardise(jnp.asarray(image), mean=mean, std=std)
  assert out.dtype == jnp.float32
  expected = (image / 255 - np.array(mean)) / np.array(std)
  np.testing.assert_allclose(out, expected, atol=2e-6)
  jitted = jax.jit(lambda x: augment.standardise(x, mean=mean, std=std))
  np.testing.assert_allclose(jitted(image), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (0.5, 0.0, "std must be positive, got"),
        (0.5, -1.0, "std must be positive, got"),
        (0.5, (1.0, 0.0, 1.0), "std must be positive, got"),
        (0.5, 1e-60, "std must be positive, got"),
        (0.5, float("nan"), "std must be finite, got nan"),
        (0.5, float("inf"), "std must be finite, got inf"),
        (0.5, 1e60, "std must be finite, got"),
        (float("nan"), 1.0, "mean must be finite, got nan"),
        ((0.5, 0.5), 1.0, "mean must be one number, or one for each of 3"),
        (0.5, (1.0,), "std must be one number, or one for each of 3"),
        (True, 1.0, "mean must be one number"),
        ("0.5", 1.0, "mean must be one number"),
        (None, 1.0, "mean must be one number"),
    ],
)
def test_wrong_constants_are_refused(mean, std, text):
  image = jnp.zeros((4, 5, 3), jnp.uint8)
  with pytest.raises(ValueError, match=text):
    augment.standardise(image, mean=mean, std=std)


def test_floats_are_not_standardised_twice():
  with pytest.raises(ValueError, match="image must be uint8, got float32"):
    augment.standardise(jnp.zeros((4, 5, 3)), mean=0.5, std=0.5)


def _windows(image, size):
  """All the crops of a size, in rows then columns."""
  height, width = size
  return np.array(
      [
          image[i : i + height, j : j + width]
          for i in range(image.shape[0] - height + 1)
          for j in range(image.shape[1] - width + 1)
      ]
  )


@pytest.mark.parametrize("size", [(4, 5), (3, 3), (1, 5)])
def test_every_random_crop_is_as_likely(size):
  augment_fn = augment.build(("random_crop",), crop_size=size)
  images = _run(augment_fn, 4000)
  candidates = _windows(np.asarray(_IMAGE), size)
  _assert_uniform(_outcomes(images, candidates), len(candidates))


@pytest.mark.parametrize(
    "size, first", [((4, 5), (0, 0)), ((2, 3), (1, 1)), ((1, 2), (1, 1))]
)
def test_the_centre_is_cut_out(size, first):
  got = augment.centre_crop(_IMAGE, crop_size=size)
  (top, left), (height, width) = first, size
  want = _IMAGE[top : top + height, left : left + width]
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("crop", [augment.random_crop, augment.centre_crop])
@pytest.mark.parametrize("size", [(5, 5), (4, 6), (0, 1), 3, "ab", (2.0, 2)])
def test_a_crop_that_does_not_fit_is_refused(crop, size):
  key = (jax.random.key(0),) if crop is augment.random_crop else ()
  with pytest.raises(ValueError, match="crop_size must be"):
    crop(*key, _IMAGE, crop_size=size)
