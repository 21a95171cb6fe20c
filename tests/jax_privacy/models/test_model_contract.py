"""What every registered model promises, whichever it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models

# Small enough to be quick, and unlike any default.
_OPTIONS = {
    "cnn_small": {"image_shape": (7, 9, 2), "channels": (8, 16)},
    "cnn_tanh": {"image_shape": (16, 17, 2)},
    "linear": {"image_shape": (3, 5, 6)},
    "nf_resnet": {"image_shape": (33, 35, 2), "depth": 26, "width": 1},
    "nfnet": {
        "image_shape": (17, 35, 2),
        "channels": (8, 16, 16, 24),
        "num_blocks": (1, 1, 1, 1),
        "group_width": 4,
    },
    "wide_resnet": {"image_shape": (8, 9, 2), "depth": 10, "width": 1},
}


@functools.cache
def _make(name):
  model = models.build(name, rngs=nnx.Rngs(0), num_classes=3, **_OPTIONS[name])
  apply_fn, params = models.functional(model)
  shape = (3, *_OPTIONS[name]["image_shape"])
  images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
  return jax.jit(apply_fn), jax.device_get(params), images


# Too slow to compile for `make test`.
_SLOW = ("nf_resnet", "nfnet")
_each_model = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in _SLOW else ())
        for name in models.names()
    ],
)


def test_every_model_is_in_this_test():
  assert set(_OPTIONS) == set(models.names())


@pytest.mark.few(1)
@_each_model
def test_logits_have_a_row_an_example_and_a_column_a_class(name):
  apply_fn, params, images = _make(name)
  assert apply_fn(params, images).shape == (3, 3)
  assert apply_fn(params, images[:0]).shape == (0, 3)


@pytest.mark.few(1)
@_each_model
def test_no_example_reaches_the_logits_of_another(name):
  """The fault that BatchNorm would be: d logits[i] / d images[j] is not 0."""
  apply_fn, params, images = _make(name)
  jacobian_fn = jax.jacrev(lambda x: jnp.sum(apply_fn(params, x), axis=1))
  jacobian = np.asarray(jax.jit(jacobian_fn)(images))
  for i in range(3):
    for j in range(3):
      reaches = bool(np.any(jacobian[i, j] != 0.0))
      assert reaches == (i == j), (i, j)


@pytest.mark.few(1)
@_each_model
def test_every_parameter_matters(name):
  """A parameter that the model holds but never uses would get no gradient."""
  apply_fn, params, images = _make(name)

  @jax.jit
  @jax.grad
  def grad_fn(params):
    logits = apply_fn(params, images)
    # In units of the logits, which a head that starts small makes small.
    logits /= jax.lax.stop_gradient(jnp.max(jnp.abs(logits)))
    return jnp.sum(jnp.square(logits))

  for path, grad in jax.tree_util.tree_leaves_with_path(grad_fn(params)):
    assert np.max(np.abs(grad)) > 1e-6, jax.tree_util.keystr(path)


@_each_model
def test_parameters_are_float32_in_plain_dicts_with_text_keys(name):
  _, params, _ = _make(name)
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    assert leaf.dtype == jnp.float32
    assert all(isinstance(key.key, str) for key in path)


@_each_model
def test_the_parameters_depend_on_the_key(name):
  other = models.build(name, rngs=nnx.Rngs(1), num_classes=3, **_OPTIONS[name])
  apply_fn, params, images = _make(name)
  _, other = models.functional(other)
  logits, others = (np.asarray(apply_fn(p, images)) for p in (params, other))
  assert np.max(np.abs(logits - others)) > 0.01


@pytest.mark.few(4)
@_each_model
@pytest.mark.parametrize("image_dtype", [jnp.float32, jnp.bfloat16])
def test_bfloat16_parameters_compute_in_bfloat16(name, image_dtype):
  apply_fn, params, images = _make(name)
  exact = apply_fn(params, images)
  half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  logits = apply_fn(half, images.astype(image_dtype))
  assert logits.dtype == jnp.bfloat16
  # Loose: some ten roundings of 2^-9 a path, on logits of order 1.
  np.testing.assert_allclose(np.asarray(logits, np.float32), exact, atol=0.15)


@_each_model
def test_half_images_are_cast_to_float32_parameters(name):
  apply_fn, params, images = _make(name)
  images = images.astype(jnp.bfloat16)
  logits = apply_fn(params, images)
  assert logits.dtype == jnp.float32
  np.testing.assert_array_equal(
      logits, apply_fn(params, images.astype(np.float32))
  )


@pytest.mark.few(2)
@_each_model
def test_float64_parameters_compute_in_float64(name):
  apply_fn, params, images = _make(name)
  with jax.enable_x64(True):
    double = jax.tree.map(lambda p: p.astype(np.float64), params)
    logits = apply_fn(double, images.astype(np.float64))
    assert logits.dtype == jnp.float64
    logits = np.asarray(logits)
    # Float64 all the way: a float32 step would leave 1e-7, not 1e-11.
    again = apply_fn(double, images.astype(np.float64) * (1 + 1e-13))
    assert 0.0 < np.max(np.abs(logits - np.asarray(again))) < 1e-10
  np.testing.assert_allclose(apply_fn(params, images), logits, atol=1e-4)


@_each_model
def test_wrong_images_are_refused(name):
  apply_fn, params, images = _make(name)
  with pytest.raises(ValueError, match=r"images must be of shape \[n, .*got"):
    apply_fn(params, images[0])
  with pytest.raises(ValueError, match=r"images must be of shape \[n, .*got"):
    apply_fn(params, images[:, 1:])
  with pytest.raises(ValueError, match="images must be floats, got uint8"):
    apply_fn(params, images.astype(np.uint8))


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("value", [0, -1, 2.0, True, float("nan"), None])
def test_wrong_numbers_of_classes_are_refused(name, value):
  with pytest.raises(
      ValueError, match="num_classes must be an integer of at least 1"
  ):
    models.build(name, rngs=nnx.Rngs(0), num_classes=value)


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("value", [(8, 8), (8, 0, 1), 8, "881", (8.0, 8, 1)])
def test_wrong_image_shapes_are_refused(name, value):
  with pytest.raises(ValueError, match="image_shape.* must be .*, got"):
    models.build(name, rngs=nnx.Rngs(0), image_shape=value)


def test_tanh_cnn_has_the_published_number_of_parameters():
  # 26,010 on 28x28x1 with 10 classes: 1,040 + 8,224 + 16,416 + 330.
  model = nnx.eval_shape(lambda: models.build("cnn_tanh", rngs=nnx.Rngs(0)))
  _, params = models.functional(model)
  assert models.num_parameters(params) == 26_010
  counts = {k: models.num_parameters(v) for k, v in params.items()}
  assert counts == {
      "conv_0": 1040,
      "conv_1": 8224,
      "linear_0": 16416,
      "linear_1": 330,
  }


def test_tanh_cnn_refuses_images_that_its_windows_do_not_fit():
  least = models.build("cnn_tanh", rngs=nnx.Rngs(0), image_shape=(16, 16, 1))
  assert least(jnp.zeros((1, 16, 16, 1))).shape == (1, 10)
  with pytest.raises(ValueError, match="image_shape must be 16 pixels a side"):
    models.build("cnn_tanh", rngs=nnx.Rngs(0), image_shape=(28, 15, 1))


@pytest.mark.parametrize("image_shape", [(8, 8, 1), (28, 28, 1)])
def test_small_cnn_serves_digits_and_mnist(image_shape):
  model = nnx.eval_shape(
      lambda: models.build(
          "cnn_small", rngs=nnx.Rngs(0), image_shape=image_shape
      )
  )
  apply_fn, params = models.functional(model)
  images = jnp.zeros((2, *image_shape))
  assert jax.eval_shape(apply_fn, params, images).shape == (2, 10)


def test_an_unknown_name_is_refused_with_the_valid_ones():
  with pytest.raises(
      ValueError,
      match=(
          "name must be one of cnn_small, cnn_tanh, linear, nf_resnet, nfnet,"
          " wide_resnet, table_linear, table_mlp, table_resnet, denoiser_adm,"
          " denoiser_mlp, denoiser_unet, griffin, lru, transformer, got 'vgg'."
      ),
  ):
    models.build("vgg", rngs=nnx.Rngs(0))


def test_an_own_model_is_a_class_or_a_function():
  def make(rngs, num_out):
    return nnx.Linear(2, num_out, rngs=rngs) if num_out else "no model"

  rngs = nnx.Rngs(0)
  assert models.build(make, rngs=rngs, num_out=3).out_features == 3
  own = models.build(nnx.Linear, rngs=rngs, in_features=2, out_features=3)
  assert isinstance(own, nnx.Linear)
  with pytest.raises(ValueError, match="must give a flax.nnx.Module, got .*st"):
    models.build(make, rngs=rngs, num_out=0)
  with pytest.raises(
      ValueError, match="option of .*Linear' must be one of .*got 'pad'"
  ):
    models.build(nnx.Linear, rngs=rngs, pad=2)


@pytest.mark.parametrize("option", ["dropout", "self", "args"])
def test_an_unknown_option_is_refused_with_the_valid_ones(option):
  with pytest.raises(
      ValueError,
      match=(
          "an option of 'cnn_small' must be one of channels,"
          f" image_shape, num_classes, num_groups, got '{option}'."
      ),
  ):
    models.build("cnn_small", rngs=nnx.Rngs(0), **{option: 1})
