"""WRN-d-k: published sizes, and the order of operations inside it."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models
from jax_privacy.models import wide_resnet


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("depth", "width", "num_classes", "count"),
    # De et al. 2022, as counted in their code.
    [
        (16, 4, 10, 2_753_818),
        (40, 4, 10, 8_961_306),
        (28, 10, 100, 36_558_068),
    ],
)
def test_published_numbers_of_parameters(depth, width, num_classes, count):
  model = nnx.eval_shape(
      lambda: models.build(
          "wide_resnet",
          rngs=nnx.Rngs(0),
          depth=depth,
          width=width,
          num_classes=num_classes,
      )
  )
  assert models.num_parameters(nnx.state(model, nnx.Param)) == count


def _conv_plainly(x, kernel, stride):
  """SAME convolution; the odd pixel of padding comes last."""
  pads = [(0, 0)]
  for size, width in zip(x.shape[1:3], kernel.shape[:2], strict=True):
    pad = max((-(-size // stride) - 1) * stride + width - size, 0)
    pads.append((pad // 2, pad - pad // 2))
  windows = np.lib.stride_tricks.sliding_window_view(
      np.pad(x, [*pads, (0, 0)]), kernel.shape[:2], axis=(1, 2)
  )
  return np.einsum(
      "nhwcij,ijcf->nhwf", windows[:, ::stride, ::stride], kernel, optimize=True
  )


def _conv(params, x, stride):
  kernel = params["kernel"]
  fan_in = kernel[..., 0].size
  centred = kernel - np.mean(kernel, (0, 1, 2))
  var = np.mean(centred**2, (0, 1, 2))
  weight = centred / np.sqrt(np.maximum(var * fan_in, 1e-4))
  return _conv_plainly(x, weight * params["gain"], stride) + params["bias"]


def _norm(params, x):
  n, h, w, c = x.shape
  groups = x.reshape(n, h, w, 16, c // 16)
  mean = np.mean(groups, (1, 2, 4), keepdims=True)
  var = np.mean((groups - mean) ** 2, (1, 2, 4), keepdims=True)
  y = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
  return y * params["scale"] + params["bias"]


def _relu_norm(params, x):
  return _norm(params, np.maximum(x, 0.0))


def _norm_relu(params, x):
  return np.maximum(_norm(params, x), 0.0)


def _forward(params, x, *, order=_relu_norm, strides=(1, 2, 2), head=True):
  """The recipe's text, line by line, for two blocks a stage."""

  def unit(p, x, stride):
    return _conv(p["conv"], order(p["norm"], x), stride)

  x = _conv(params["stem"], x, 1)
  for stage in range(3):
    for i in range(2):
      p = params["blocks"][str(2 * stage + i)]
      stride = strides[stage] if i == 0 else 1
      shortcut = unit(p["shortcut"], x, stride) if i == 0 else x
      x = shortcut + unit(p["unit_1"], unit(p["unit_0"], x, stride), 1)
  if head:
    x = order(params["norm"], x)
  linear = params["linear"]
  return x.mean((1, 2)) @ linear["kernel"] + linear["bias"]


@pytest.fixture(scope="module")
def wrn():
  """WRN-16-1 with every parameter away from its start, and some images."""
  model = nnx.eval_shape(
      lambda: models.build(
          "wide_resnet",
          rngs=nnx.Rngs(0),
          depth=16,
          width=1,
          num_classes=3,
          image_shape=(8, 8, 3),
      )
  )
  apply_fn, shapes = models.functional(model)
  rng = np.random.default_rng(0)

  def away_from_its_start(path, leaf):
    about = 1.0 if path[-1].key in ("gain", "scale") else 0.0
    return (about + 0.3 * rng.normal(size=leaf.shape)).astype(np.float32)

  params = jax.tree_util.tree_map_with_path(away_from_its_start, shapes)
  images = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
  logits = jax.jit(apply_fn)(params, images)
  return jax.tree.map(np.float64, params), images, np.asarray(logits)


def test_equals_the_recipe_written_out(wrn):
  params, images, logits = wrn
  np.testing.assert_allclose(
      logits, _forward(params, images), rtol=1e-3, atol=1e-4
  )


@pytest.mark.parametrize(
    "fault",
    [{"order": _norm_relu}, {"strides": (1, 1, 2)}, {"head": False}],
    ids=["norm then ReLU", "one stride less", "no norm in the head"],
)
def test_the_comparison_tells_a_wrong_recipe(wrn, fault):
  params, images, logits = wrn
  wrong = _forward(params, images, **fault)
  assert np.max(np.abs(wrong - logits)) > 0.01


def test_only_the_first_block_of_a_stage_has_a_shortcut(wrn):
  blocks = wrn[0]["blocks"]
  assert len(blocks) == 6
  with_shortcut = [i for i, block in blocks.items() if "shortcut" in block]
  assert sorted(with_shortcut) == ["0", "2", "4"]


@pytest.mark.parametrize("depth", [4, 0, -2, 15, 17, 10.0, True, float("nan")])
def test_depth_is_refused_unless_6n_plus_4(depth):
  with pytest.raises(ValueError, match=r"depth must be .*, got"):
    models.build("wide_resnet", rngs=nnx.Rngs(0), depth=depth)


def test_groups_that_do_not_divide_the_channels_are_refused():
  with pytest.raises(ValueError, match="num_groups must divide"):
    models.build("wide_resnet", rngs=nnx.Rngs(0), depth=10, num_groups=5)


@functools.cache
def _count(**options):
  model = nnx.eval_shape(
      lambda: models.build("wide_resnet", rngs=nnx.Rngs(0), width=1, **options)
  )
  return models.num_parameters(nnx.state(model, nnx.Param))


# WRN-16-1's convolutions' outputs: the stem's 16, then for each stage of two
# blocks a shortcut and four 3x3. Inputs likewise, and the head's 64 channels.
_OUTPUTS = 16 + 5 * (16 + 32 + 64)
_INPUTS = (2 * 16 + 3 * 16) + (2 * 16 + 3 * 32) + (2 * 32 + 3 * 64) + 64


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"norm": "none"}, -2 * _INPUTS),  # A scale and a bias.
        ({"conv": "plain"}, -_OUTPUTS),  # A gain.
        ({"skip_gain": 0.0}, 6),
        (
            {"squeeze_excite": True},
            sum(2 * (2 * w * (w // 4) + w // 4 + w) for w in (16, 32, 64)),
        ),
        ({"stochastic_depth_rate": 0.5, "dropout_rate": 0.5}, 0),
        ({"activation": "gelu", "scale_activation": True}, 0),
    ],
)
def test_what_an_option_adds_to_the_parameters(options, difference):
  assert _count(**options) - _count() == difference


def _block(**options):
  rngs = nnx.Rngs(0)
  kit = wide_resnet._layers(
      **{
          "norm": "none",
          "conv": "plain",
          "num_groups": 4,
          "activation": "elu",
          "scale_activation": True,
          "rngs": rngs,
      }
  )
  return wide_resnet._Block(
      kit,
      8,
      8,
      strides=1,
      project=False,
      squeeze_excite=False,
      rngs=rngs,
      **options,
  )


def test_a_block_of_plain_convolutions_without_norms_written_out():
  block = _block(skip_gain=0.7)
  x = np.random.default_rng(0).normal(size=(3, 5, 5, 8)).astype(np.float32)

  def conv(layer, x):
    elu = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    y = _conv_plainly(1.2716004848480225 * elu, np.asarray(layer.kernel), 1)
    return y + np.asarray(layer.bias)

  y = conv(block.unit_1.conv, conv(block.unit_0.conv, x))
  keep = np.array([True, False, True])
  want = x + 0.7 * y * keep.reshape(3, 1, 1, 1)
  found = jax.jit(lambda x, keep: block(x, keep))(x, keep)
  np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_skip_init_starts_a_block_as_its_shortcut():
  x = np.random.default_rng(0).normal(size=(2, 5, 5, 8)).astype(np.float32)
  block = _block(skip_gain=0.0)
  np.testing.assert_array_equal(jax.jit(lambda x: block(x, None))(x), x)


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("norm", "batch", "one of group, none"),
        ("norm", None, "one of group, none"),
        ("conv", "ws", "one of plain, standardised"),
        ("activation", "ReLU", "one of elu, gelu"),
        ("scale_activation", 1, "True or False"),
        ("skip_gain", float("nan"), "a finite number"),
        ("squeeze_excite", "no", "True or False"),
        ("stochastic_depth_rate", 1.0, r"a number in \[0, 1\)"),
        ("dropout_rate", -0.1, r"a number in \[0, 1\)"),
    ],
)
def test_wrong_options_are_refused(option, value, rule):
  with pytest.raises(ValueError, match=f"{option} must be {rule}.*, got"):
    models.build("wide_resnet", rngs=nnx.Rngs(0), **{option: value})
