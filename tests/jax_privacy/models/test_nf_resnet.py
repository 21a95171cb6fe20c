"""NF-ResNet-d: published sizes, signal propagation, and the block's text."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models
from jax_privacy.models import masks, nf_resnet

# Large nets; the contract of models covers one in `make test`.
pytestmark = pytest.mark.slow


def _build(**options):
  return models.build("nf_resnet", rngs=nnx.Rngs(0), **options)


def _count(**options):
  model = nnx.eval_shape(lambda: _build(**options))
  return models.num_parameters(nnx.state(model, nnx.Param))


@pytest.mark.parametrize(
    ("depth", "num_blocks", "resnet"),
    # ResNets with BatchNorm, whose scale and shift are what gain and bias are
    # here: as torchvision documents them, and here a skip gain a block.
    [(50, 16, 25_557_032), (101, 33, 44_549_160), (152, 50, 60_192_808)],
)
def test_published_numbers_of_parameters(depth, num_blocks, resnet):
  assert _count(depth=depth) == resnet + num_blocks


_WIDTHS = (256, 512, 1024, 2048)


def _written_out(num_blocks):
  """Parameters of the paper's network with 1000 classes, layer by layer."""

  def conv(size, d_in, d_out):
    return size * size * d_in * d_out + 2 * d_out  # Gain and bias.

  total, features = conv(7, 3, 64), 64
  for width, count in zip(_WIDTHS, num_blocks, strict=True):
    for i in range(count):
      inner = width // 4
      total += conv(1, features, inner) + conv(3, inner, inner)
      total += conv(1, inner, width) + 1
      total += conv(1, features, width) if i == 0 else 0
      features = width
  return total + 2048 * 1000 + 1000


@pytest.mark.slow  # Traces up to 96 blocks.
@pytest.mark.parametrize(
    ("depth", "num_blocks"),
    [(200, (3, 24, 36, 3)), (288, (24, 24, 24, 24))],
)
def test_parameters_of_the_deepest(depth, num_blocks):
  assert _count(depth=depth) == _written_out(num_blocks)


def test_parameters_of_squeeze_excite():
  # In every block one linear layer to a quarter of the channels and one back.
  gates = sum(2 * (w * w // 2 + w // 4 + w) for w in _WIDTHS)
  assert _count(depth=26) == _written_out((2, 2, 2, 2))
  gated = _count(depth=26, squeeze_excite=True)
  assert gated == _written_out((2, 2, 2, 2)) + gates


def test_betas_follow_the_papers_recursion():
  # The variance is 1 at first, 1 + alpha^2 after a stage's first block, and
  # grows by alpha^2 a block. A first block still sees the last stage's.
  squares = [beta**-2 for beta in nf_resnet.betas((3, 2, 1), alpha=0.5)]
  np.testing.assert_allclose(squares, [1, 1.25, 1.5, 1.75, 1.25, 1.5])
  model = nnx.eval_shape(_build)
  want = nf_resnet.betas((3, 4, 6, 3), alpha=0.2)
  assert [block.beta for block in model.blocks] == list(want)


def _variances(model, images):
  """Mean over channels of the variance of what enters each block."""

  @jax.jit
  def run(x):
    x = nnx.max_pool(model.stem(x), (3, 3), strides=(2, 2), padding="SAME")
    variances = []
    for block in model.blocks:
      variances.append(jnp.mean(jnp.var(x, axis=(0, 1, 2))))
      x = block(x, None)
    return jnp.stack(variances)

  return np.asarray(run(images))


@pytest.fixture(scope="module")
def untrained():
  """NF-ResNet-50 at half its width, and noise for images."""
  model = _build(depth=50, width=2, image_shape=(64, 64, 3))
  return model, jax.random.normal(jax.random.key(0), (16, 64, 64, 3))


def _within(ratios, factor):
  return ratios.max() < factor and ratios.min() > 1 / factor


def test_an_untrained_net_keeps_the_variance_that_beta_expects(untrained):
  # The first block's input is left out: max-pooling has shrunk it. Averages
  # over at least 64 pixels times 128 channels have 1% of noise or so; the rest
  # is the zero padding of 3x3 convolutions, which takes from small maps, up to
  # 5/9 of alpha^2 a block on 2x2.
  model, images = untrained
  expected = np.array([block.beta**-2.0 for block in model.blocks])
  ratios = _variances(model, images)[1:] / expected[1:]
  assert _within(ratios, 1.3), ratios


def test_the_variance_tells_a_beta_that_never_starts_again(untrained):
  model, images = untrained
  never_reset = nf_resnet.betas((16,), alpha=0.2)
  expected = np.array([beta**-2.0 for beta in never_reset])
  assert not _within(_variances(model, images)[1:] / expected[1:], 1.3)


def _conv(params, x, stride=1):
  kernel = params["kernel"]
  centred = kernel - jnp.mean(kernel, (0, 1, 2), keepdims=True)
  squares = jnp.sum(centred**2, (0, 1, 2), keepdims=True)
  weight = centred / jnp.sqrt(jnp.maximum(squares, 1e-4))
  y = jax.lax.conv_general_dilated(
      x,
      weight * params["gain"].reshape(1, 1, 1, -1),
      (stride, stride),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return y + params["bias"].reshape(1, 1, 1, -1)


def _relu(x):
  return 1.7139588594436646 * jnp.maximum(x, 0.0)


def _max_pool(x):
  """3x3 with stride 2 on sides that are even, so that SAME pads the end."""
  x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-jnp.inf)
  n = (x.shape[1] - 1) // 2
  return functools.reduce(
      jnp.maximum,
      [
          x[:, i : i + 2 * n : 2, j : j + 2 * n : 2]
          for i in range(3)
          for j in range(3)
      ],
  )


def _linear(params, x):
  return x @ params["kernel"] + params["bias"].reshape(1, -1)


def _forward(params, x, *, alpha=0.2, gated=True, head=_relu):
  """The paper's code, line by line, for NF-ResNet-26."""
  x = _max_pool(_conv(params["stem"], x, 2))
  std = 1.0
  for stage in range(4):
    for i in range(2):
      p = params["blocks"][str(2 * stage + i)]
      stride = 2 if stage > 0 and i == 0 else 1
      y = _relu(x) / std
      shortcut = _conv(p["shortcut"], y, stride) if i == 0 else x
      y = _conv(p["conv_1"], _relu(_conv(p["conv_0"], y)), stride)
      y = _conv(p["conv_2"], _relu(y))
      if gated:
        hidden = jnp.maximum(_linear(p["gate"]["squeeze"], y.mean((1, 2))), 0.0)
        gate = _linear(p["gate"]["excite"], hidden)
        y = y * 2 / (1 + jnp.exp(-gate))[:, None, None]
      x = y * p["skip_gain"].reshape(1, 1, 1, 1) * alpha + shortcut
      std = ((1.0 if i == 0 else std**2) + alpha**2) ** 0.5
  return _linear(params["linear"], head(x).mean((1, 2)))


@pytest.fixture(scope="module")
def small():
  """NF-ResNet-26 with every parameter away from its start, and some images."""
  model = _build(
      depth=26,
      width=1,
      num_classes=3,
      image_shape=(32, 32, 3),
      squeeze_excite=True,
      stochastic_depth_rate=0.5,
  )
  apply_fn, params = models.functional(model)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32), params
  )
  images = jnp.asarray(rng.normal(size=(6, 32, 32, 3)), jnp.float32)
  return model, params, images, jax.jit(apply_fn)(params, images)


def test_equals_the_papers_code_written_out(small):
  _, params, images, logits = small
  want = jax.jit(_forward)(params, images)
  np.testing.assert_allclose(logits, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "fault",
    [{"alpha": 0.25}, {"gated": False}, {"head": lambda x: x}],
    ids=["another alpha", "no squeeze-excite", "no activation in the head"],
)
def test_the_comparison_tells_a_wrong_net(small, fault):
  _, params, images, logits = small
  wrong = jax.jit(functools.partial(_forward, **fault))(params, images)
  assert jnp.max(jnp.abs(wrong - logits)) > 0.01


def test_a_skip_gain_of_0_starts_each_block_as_its_shortcut():
  model = _build(depth=26, width=1, image_shape=(32, 32, 3), skip_gain=0.0)
  x = jax.random.normal(jax.random.key(0), (2, 8, 8, 64))
  np.testing.assert_array_equal(model.blocks[1](x, None), x)


def test_the_head_starts_at_a_deviation_of_a_hundredth():
  kernel = _build(depth=26, width=1).linear.kernel[...]
  # 512,000 draws: the deviation is right to 0.1%, five of which are allowed.
  np.testing.assert_allclose(jnp.std(kernel), 0.01, rtol=5e-3)


def test_stochastic_depth_looks_at_an_examples_own_key_alone(small):
  model, _, images, _ = small
  keys = jax.random.split(jax.random.key(1), 6)
  run = jax.jit(lambda x, k: model(x, keys=k))
  logits = run(images, keys)
  order = jnp.array([3, 0, 5, 4, 1, 2])
  np.testing.assert_allclose(
      run(images[order], keys[order]), logits[order], rtol=1e-4, atol=1e-5
  )
  # One image under six keys: the eight blocks of six keys are not all alike.
  same = run(jnp.repeat(images[:1], 6, axis=0), keys)
  assert len(np.unique(np.asarray(same).round(4), axis=0)) > 1


def test_stochastic_depth_drops_later_blocks_more_often():
  model = nnx.eval_shape(lambda: _build(depth=26, stochastic_depth_rate=0.5))
  np.testing.assert_allclose(model.drop_rates, 0.5 * np.arange(8) / 8)
  keys = jax.random.split(jax.random.key(0), 4000)
  kept = masks.stochastic_depth(keys, rates=model.drop_rates)
  assert kept[0] is None
  for rate, keep in zip(model.drop_rates[1:], kept[1:], strict=True):
    # A deviation of 0.008 at most for 4000 draws; five are allowed.
    assert abs(float(jnp.mean(~keep)) - rate) < 0.04


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("depth", 34, "one of 26, 50, 101, 152, 200, 288"),
        ("depth", 50.0, "an integer of at least 1"),
        ("width", 0, "an integer of at least 1"),
        ("activation", "ReLU", "one of elu, gelu, relu, silu, tanh"),
        ("activation", ["relu"], "one of elu, gelu, relu, silu, tanh"),
        ("alpha", 0.0, "a positive finite number"),
        ("alpha", float("nan"), "a positive finite number"),
        ("alpha", True, "a positive finite number"),
        ("skip_gain", float("inf"), "a finite number"),
        ("skip_gain", "1", "a finite number"),
        ("stochastic_depth_rate", 1.0, r"a number in \[0, 1\)"),
        ("stochastic_depth_rate", -0.1, r"a number in \[0, 1\)"),
        ("stochastic_depth_rate", float("nan"), r"a number in \[0, 1\)"),
        ("dropout_rate", 1, r"a number in \[0, 1\)"),
        ("squeeze_excite", "no", "True or False"),
    ],
)
def test_wrong_options_are_refused(option, value, rule):
  with pytest.raises(ValueError, match=f"{option} must be {rule}, got"):
    _build(**{option: value})
