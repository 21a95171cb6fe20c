"""NFNet-Fk: published sizes, the betas' closed form, and the block's text."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models
from jax_privacy.models import nf_resnet, nfnet


def _build(**options):
  return models.build("nfnet", rngs=nnx.Rngs(0), **options)


def _count(**options):
  model = nnx.eval_shape(lambda: _build(**options))
  return models.num_parameters(nnx.state(model, nnx.Param))


# Millions, table 2 of the paper (as in the recipes' table), and for F7, which
# the paper leaves out, what the pattern gives.
_MILLIONS = {
    "F0": 71.5,
    "F1": 132.6,
    "F2": 193.8,
    "F3": 254.9,
    "F4": 316.1,
    "F5": 377.2,
    "F6": 438.4,
    "F7": 499.5,
}


def _written_out(widths, depths):
  """Parameters with 1000 classes, layer by layer, by arithmetic alone."""

  def conv(size, d_in, d_out):
    return size * size * d_in * d_out + 2 * d_out  # Gain and bias.

  features = widths[0] // 2
  stem = (3, 16, 32, 64, features)
  total = sum(conv(3, a, b) for a, b in zip(stem[:-1], stem[1:], strict=True))
  for width, depth in zip(widths, depths, strict=True):
    for i in range(depth):
      inner = width // 2 // 128 * 128  # In whole groups.
      total += conv(1, features, inner) + 2 * conv(3, 128, inner)
      total += conv(1, inner, width) + 1  # And the skip gain.
      hidden = width // 2  # Of squeeze-excite.
      total += 2 * (hidden * width) + hidden + width
      total += conv(1, features, width) if i == 0 else 0
      features = width
  total += conv(1, features, 2 * features)
  return total + 2 * features * 1000 + 1000


@pytest.mark.parametrize("name", list(nfnet.VARIANTS))
def test_published_and_written_out_numbers_agree(name):
  # The table of the paper against the text of the paper: both are right.
  level = int(name[1])
  depths = [n * (level + 1) for n in (1, 2, 6, 3)]
  widths = (384, 768, 2048, 2048) if "+" in name else (256, 512, 1536, 1536)
  variant = nfnet.VARIANTS[name]
  assert list(variant.num_blocks) == depths and variant.channels == widths
  if "+" not in name:
    assert round(_written_out(widths, depths) / 1e6, 1) == _MILLIONS[name]


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "name",
    [
        "F0",
        "F0+",
        *(
            pytest.param(name, marks=pytest.mark.slow)  # Traces many blocks.
            for name in nfnet.VARIANTS
            if name not in ("F0", "F0+")
        ),
    ],
)
def test_every_variant_has_the_parameters_of_the_paper(name):
  variant = nfnet.VARIANTS[name]
  want = _written_out(variant.channels, variant.num_blocks)
  assert _count(variant=name) == want


def test_sizes_of_images_and_dropout_rates():
  rows = [nfnet.VARIANTS[f"F{k}"][2:] for k in range(7)]
  assert rows == [
      (192, 256, 0.2),
      (224, 320, 0.3),
      (256, 352, 0.4),
      (320, 416, 0.4),
      (384, 512, 0.5),
      (416, 544, 0.5),
      (448, 576, 0.5),
  ]
  for k in range(8):
    assert nfnet.VARIANTS[f"F{k}+"][1:] == nfnet.VARIANTS[f"F{k}"][1:]


@pytest.mark.slow
def test_images_are_of_the_training_size_unless_told():
  model = nnx.eval_shape(lambda: _build(variant="F0"))
  assert model.image_shape == (192, 192, 3)
  apply_fn, params = models.functional(
      nnx.eval_shape(lambda: _build(variant="F0", image_shape=(256, 256, 3)))
  )
  images = jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.float32)
  assert jax.eval_shape(apply_fn, params, images).shape == (2, 1000)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("num_blocks", "name", "options"),
    [((1, 2, 6, 3), "nfnet", {}), ((3, 4, 6, 3), "nf_resnet", {"depth": 50})],
    ids=["F0", "NF-ResNet-50"],
)
def test_betas_in_closed_form(num_blocks, name, options):
  # Block j of a stage sees j blocks' growth on a variance of 1; its first one
  # that of all n blocks of the stage before, and the very first none.
  want, before = [], 0
  for count in num_blocks:
    grown = [before, *range(1, count)]
    want += [(1 + n * 0.2**2) ** -0.5 for n in grown]
    before = count
  model = nnx.eval_shape(
      lambda: models.build(name, rngs=nnx.Rngs(0), **options)
  )
  got = [block.beta for block in model.blocks]
  np.testing.assert_allclose(got, want, rtol=1e-12)
  assert list(nf_resnet.betas(num_blocks, alpha=0.2)) == got


def test_average_pool_counts_only_pixels_that_are_there():
  x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
  got = nfnet._average_pool(x)
  assert got.shape == (2, 3, 2, 3)
  for r in range(3):
    for c in range(2):
      window = np.asarray(x)[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
      np.testing.assert_allclose(
          got[:, r, c], window.mean((1, 2)), rtol=1e-5, atol=1e-6
      )


def _conv(params, x, *, stride=1, groups=1):
  """Group by group, each a convolution of its own."""
  kernel = params["kernel"]
  centred = kernel - jnp.mean(kernel, (0, 1, 2), keepdims=True)
  squares = jnp.sum(centred**2, (0, 1, 2), keepdims=True)
  weight = centred / jnp.sqrt(jnp.maximum(squares, 1e-4))
  weight = weight * params["gain"].reshape(1, 1, 1, -1)
  parts = [
      jax.lax.conv_general_dilated(
          part,
          part_weight,
          (stride, stride),
          "SAME",
          dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )
      for part, part_weight in zip(
          jnp.split(x, groups, -1), jnp.split(weight, groups, -1), strict=True
      )
  ]
  return jnp.concatenate(parts, -1) + params["bias"].reshape(1, 1, 1, -1)


def _gelu(x):
  inner = (2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)
  return 1.7015043497085571 * x * (1 + jnp.tanh(inner)) / 2


def _linear(params, x):
  return x @ params["kernel"] + params["bias"].reshape(1, -1)


def _forward(params, x, *, alpha=0.2, gate_scale=2.0, pool=True, second=True):
  """The paper's code, line by line, for two, one, one and one blocks."""
  for i, stride in enumerate((2, 1, 1, 2)):
    x = _conv(params["stem"][str(i)], _gelu(x) if i else x, stride=stride)
  std, index = 1.0, 0
  for stage, depth in enumerate((2, 1, 1, 1)):
    for i in range(depth):
      p = params["blocks"][str(index)]
      index += 1
      stride = 2 if stage > 0 and i == 0 else 1
      groups = p["conv_1"]["kernel"].shape[3] // 4
      y = _gelu(x) / std
      shortcut = x
      if i == 0:
        shortcut = y
        if stride == 2 and pool:  # Sides are even here.
          shortcut = (
              y[:, ::2, ::2] + y[:, 1::2, ::2] + y[:, ::2, 1::2]
              + y[:, 1::2, 1::2]
          ) / 4  # fmt: skip
        elif stride == 2:
          shortcut = y[:, ::2, ::2]
        shortcut = _conv(p["shortcut"], shortcut)
      y = _conv(p["conv_0"], y)
      y = _conv(p["conv_1"], _gelu(y), stride=stride, groups=groups)
      if second:
        y = _conv(p["conv_2"], _gelu(y), groups=groups)
      y = _conv(p["conv_3"], _gelu(y))
      hidden = jnp.maximum(_linear(p["gate"]["squeeze"], y.mean((1, 2))), 0.0)
      gate = _linear(p["gate"]["excite"], hidden)
      y = y * (gate_scale / (1 + jnp.exp(-gate)))[:, None, None]
      x = y * p["skip_gain"].reshape(1, 1, 1, 1) * alpha + shortcut
      std = ((1.0 if i == 0 else std**2) + alpha**2) ** 0.5
  x = _gelu(_conv(params["final"], x))
  return _linear(params["linear"], x.mean((1, 2)))


_TINY = {
    "num_classes": 3,
    "image_shape": (32, 32, 3),
    "channels": (8, 16, 24, 24),
    "num_blocks": (2, 1, 1, 1),
    "group_width": 4,
}


@pytest.fixture(scope="module")
def tiny():
  """A tiny net with every parameter away from its start, and some images."""
  apply_fn, params = models.functional(_build(**_TINY))
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda p: p + 0.2 * rng.normal(size=p.shape).astype(np.float32), params
  )
  images = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), jnp.float32)
  return params, images, jax.jit(apply_fn)(params, images)


@pytest.mark.slow  # Compiles the net twice.
def test_equals_the_papers_code_written_out(tiny):
  params, images, logits = tiny
  want = jax.jit(_forward)(params, images)
  np.testing.assert_allclose(logits, want, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [{"alpha": 0.3}, {"gate_scale": 1.0}, {"pool": False}, {"second": False}],
    ids=["another alpha", "no factor 2", "no pooling", "one 3x3 convolution"],
)
def test_the_comparison_tells_a_wrong_net(tiny, fault):
  params, images, logits = tiny
  wrong = jax.jit(functools.partial(_forward, **fault))(params, images)
  assert jnp.max(jnp.abs(wrong - logits)) > 0.003


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("big_width", "inner"), [(True, [4, 4, 8, 12, 12]), (False, [4, 8, 8, 12])]
)
def test_inner_channels_are_of_the_output_unless_told(big_width, inner):
  # Half of the outer channels in whole groups of 4. With (16, 16, 24, 24), the
  # inputs have 8, 16, 16 and 24.
  options = dict(_TINY, big_width=big_width)
  if not big_width:
    options |= {"channels": (16, 16, 24, 24), "num_blocks": (1, 1, 1, 1)}
  model = nnx.eval_shape(lambda: _build(**options))
  assert [block.conv_1.kernel.shape[3] for block in model.blocks] == inner


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("variant", "F8", "one of F0, F1, F2"),
        ("channels", (8, 16, 24), "4 positive integers"),
        ("num_blocks", (1, 1, 1, 0), "an integer of at least 1"),
        ("group_width", 0, "an integer of at least 1"),
        ("bottleneck", 0.0, "a positive finite number"),
        ("big_width", 1, "True or False"),
        ("activation", "GELU", "one of elu, gelu, relu, silu, tanh"),
        ("alpha", float("nan"), "a positive finite number"),
        ("skip_gain", True, "a finite number"),
        ("squeeze_excite", "no", "True or False"),
        ("stochastic_depth_rate", 1.0, r"a number in \[0, 1\)"),
        ("dropout_rate", -0.1, r"a number in \[0, 1\)"),
    ],
)
def test_wrong_options_are_refused(option, value, rule):
  with pytest.raises(ValueError, match=f"{option}.* must be {rule}.*, got"):
    _build(**{option: value})


def test_a_group_wider_than_a_block_is_refused():
  with pytest.raises(ValueError, match="group_width must be at most a block's"):
    nnx.eval_shape(lambda: _build(**(_TINY | {"group_width": 5})))
