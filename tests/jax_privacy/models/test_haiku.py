"""Parameters that Haiku saved: names, shapes, and the function they make.

The modules below are written from the published ones, for their names and their
arithmetic, with dm-haiku: google-deepmind/jax_privacy,
experiments/image_classification/models/{cifar,imagenet_nfresnets}.py, and
google-deepmind/deepmind-research, nfnets/{nfnet,base}.py. So what Haiku calls a
parameter is Haiku's word here, not ours.
"""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models
from jax_privacy.models import haiku, nf_resnet, saved


class _WSConv2D(hk.Conv2D):

  def __call__(self, x):
    groups = self.feature_group_count
    shape = (*self.kernel_shape, x.shape[-1] // groups, self.output_channels)
    w = hk.get_parameter("w", shape, init=hk.initializers.RandomNormal())
    gain = hk.get_parameter("gain", shape[-1:], init=jnp.ones)
    bias = hk.get_parameter("bias", shape[-1:], init=jnp.zeros)
    centred = w - jnp.mean(w, (0, 1, 2), keepdims=True)
    var = jnp.mean(centred**2, (0, 1, 2), keepdims=True)
    fan_in = float(np.prod(shape[:-1]))
    w = centred / jnp.sqrt(jnp.maximum(var * fan_in, 1e-4)) * _row(gain)
    y = jax.lax.conv_general_dilated(
        x,
        w,
        self.stride,
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y + _row(bias)


def _row(x):
  return x.reshape(1, 1, 1, -1)


def _conv(features, size, stride=1, groups=1, name=None):
  return _WSConv2D(
      features, size, stride=stride, feature_group_count=groups, name=name
  )


class WideResNet(hk.Module):

  def __init__(self, *, depth, width, num_classes, skip_init, plain):
    super().__init__()
    self.num_blocks, self.width = (depth - 4) // 6, width
    self.num_classes, self.skip_init = num_classes, skip_init
    self.conv = hk.Conv2D if plain else _conv

  @hk.transparent
  def unit(self, x, features, size, stride, norm, conv):
    x = hk.GroupNorm(16, name=norm)(jax.nn.relu(x))
    return self.conv(features, size, stride=stride, name=conv)(x)

  def __call__(self, x):
    x = self.conv(16, 3, name="First_conv")(x)
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
      name, features = f"Block_{stage}", 8 * 2**stage * self.width
      unit = functools.partial(self.unit, features=features)
      for i in range(self.num_blocks):
        stride, skip = stride if i == 0 else 1, x
        if i == 0:
          skip = unit(
              x,
              size=1,
              stride=stride,
              norm=f"{name}_skip_norm",
              conv=f"{name}_skip_conv",
          )
        for j in range(2):
          x = unit(
              x,
              size=3,
              stride=stride if j == 0 else 1,
              norm=f"{name}_norm_{i}_{j}",
              conv=f"{name}Conv_{i}_{j}",
          )
        if self.skip_init:
          x = x * _row(
              hk.get_parameter(f"{name}Scale_{i}_1", [1], init=jnp.zeros)
          )
        x = x + skip
    x = hk.GroupNorm(16, name="Final_norm")(jax.nn.relu(x))
    return hk.Linear(self.num_classes, name="Softmax")(jnp.mean(x, (1, 2)))


class SqueezeExcite(hk.Module):

  def __init__(self, features, ratio):
    super().__init__()
    self.fc0 = hk.Linear(max(1, int(features * ratio)))
    self.fc1 = hk.Linear(features)

  def __call__(self, x):
    hidden = jax.nn.relu(self.fc0(jnp.mean(x, (1, 2))))
    gate = jax.nn.sigmoid(self.fc1(hidden))
    return jnp.expand_dims(gate, (1, 2))


class _Residual(hk.Module):
  """What both families' blocks do, with their own convolutions."""

  def __call__(self, x):
    out = self.activation(x) * self.beta
    pooled = out
    if self.pool:
      pooled = hk.avg_pool(out, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    shortcut = self.conv_shortcut(pooled) if self.project else x
    out = self.convs[0](out)
    for conv in self.convs[1:]:
      out = conv(self.activation(out))
    if self.se is not None:
      out = 2 * self.se(out) * out
    gain = hk.get_parameter("skip_gain", (), init=jnp.zeros)
    return out * gain * self.alpha + shortcut


class NFBlock(_Residual):

  def __init__(self, d_in, d_out, *, stride, beta, group_size):
    super().__init__()
    groups = d_out // 2 // group_size
    width = groups * group_size
    self.convs = [
        _conv(width, 1, name="conv0"),
        _conv(width, 3, stride, groups, name="conv1"),
        _conv(width, 3, 1, groups, name="conv1b"),
        _conv(d_out, 1, name="conv2"),
    ]
    self.project = stride > 1 or d_in != d_out
    if self.project:
      self.conv_shortcut = _conv(d_out, 1, name="conv_shortcut")
    self.se = SqueezeExcite(d_out, 0.5)
    self.activation = lambda x: jax.nn.gelu(x) * 1.7015043497085571
    self.beta, self.alpha, self.pool = beta, 0.2, stride > 1


class NFResBlock(_Residual):

  def __init__(self, d_in, d_out, *, stride, beta, use_se):
    super().__init__()
    self.convs = [
        _conv(d_out // 4, 1, name="conv0"),
        _conv(d_out // 4, 3, stride, name="conv1"),
        _conv(d_out, 1, name="conv2"),
    ]
    self.project = stride > 1 or d_in != d_out
    if self.project:
      self.conv_shortcut = _conv(d_out, 1, stride, name="conv_shortcut")
    self.se = SqueezeExcite(d_out, 0.25) if use_se else None
    self.activation = lambda x: jax.nn.relu(x) * 1.7139588594436646
    self.beta, self.alpha, self.pool = beta, 0.2, False


class NFNet(hk.Module):

  def __init__(self, *, channels, num_blocks, group_size, num_classes):
    super().__init__(name="NFNet")
    d_in = channels[0] // 2
    self.stem = [
        _conv(c, 3, s, name=f"stem_conv{i}")
        for i, (c, s) in enumerate([(16, 2), (32, 1), (64, 1), (d_in, 2)])
    ]
    self.blocks = []
    betas = iter(nf_resnet.betas(num_blocks, alpha=0.2))
    for stage, (count, d_out) in enumerate(
        zip(num_blocks, channels, strict=True)
    ):
      for i in range(count):
        stride = 2 if stage and i == 0 else 1
        block = NFBlock(
            d_in, d_out, stride=stride, beta=next(betas), group_size=group_size
        )
        self.blocks.append(block)
        d_in = d_out
    self.final_conv = _conv(2 * d_in, 1, name="final_conv")
    self.fc = hk.Linear(num_classes)

  def __call__(self, x):
    gelu = self.blocks[0].activation
    for i, conv in enumerate(self.stem):
      x = conv(gelu(x) if i else x)
    for block in self.blocks:
      x = block(x)
    return self.fc(jnp.mean(gelu(self.final_conv(x)), (1, 2)))


class NFResNet(hk.Module):

  def __init__(self, *, width, num_blocks, num_classes, use_se):
    super().__init__(name="NF_ResNet")
    d_in = 16 * width
    self.initial_conv = _conv(d_in, 7, 2, name="initial_conv")
    self.blocks = []
    betas = iter(nf_resnet.betas(num_blocks, alpha=0.2))
    for stage, count in enumerate(num_blocks):
      d_out = 64 * 2**stage * width
      for i in range(count):
        stride = 2 if stage and i == 0 else 1
        block = NFResBlock(
            d_in, d_out, stride=stride, beta=next(betas), use_se=use_se
        )
        self.blocks.append(block)
        d_in = d_out
    self.fc = hk.Linear(num_classes)

  def __call__(self, x):
    x = self.initial_conv(x)
    x = hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    for block in self.blocks:
      x = block(x)
    return self.fc(jnp.mean(self.blocks[0].activation(x), (1, 2)))


_SMALL = dict(channels=(8, 8, 16, 16), num_blocks=(1, 2, 1, 1))
# Name, options here, image shape, and the published module with its options.
_CASES = {
    "wrn": (
        "wide_resnet",
        dict(depth=10, width=1),
        (8, 8, 3),
        WideResNet,
        dict(depth=10, width=1, skip_init=False, plain=False),
    ),
    "wrn_plain_skip_init": (
        "wide_resnet",
        dict(depth=16, width=2, conv="plain", skip_gain=0.5),
        (8, 8, 3),
        WideResNet,
        dict(depth=16, width=2, skip_init=True, plain=True),
    ),
    "nfnet": (
        "nfnet",
        dict(group_width=2, **_SMALL),
        (32, 32, 3),
        NFNet,
        dict(group_size=2, **_SMALL),
    ),
    "nf_resnet": (
        "nf_resnet",
        dict(depth=26, width=1, squeeze_excite=True),
        (32, 32, 3),
        NFResNet,
        dict(width=1, num_blocks=(2, 2, 2, 2), use_se=True),
    ),
}


def _ours(name, *, num_classes=7, **options):
  model = models.build(
      name, rngs=nnx.Rngs(0), num_classes=num_classes, **options
  )
  return models.functional(model)


@functools.cache
def _haiku(case, num_classes=7):
  """(logits, images, parameters): random ones, biases and gains included."""
  _, _, shape, module, options = _CASES[case]
  net = hk.without_apply_rng(
      hk.transform(lambda x: module(num_classes=num_classes, **options)(x))
  )
  images = jax.random.normal(jax.random.key(1), (3, *shape))
  # Strictness is for our code: Haiku's group norm adds vectors to images.
  with (
      jax.numpy_rank_promotion("allow"),
      jax.numpy_dtype_promotion("standard"),
  ):
    shapes = jax.eval_shape(net.init, jax.random.key(0), images)
    leaves, treedef = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    params = treedef.unflatten(
        [
            0.3 * jax.random.normal(key, leaf.shape) + (leaf.ndim < 2)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
    )
    return jax.jit(net.apply)(params, images), images, jax.device_get(params)


# Some seconds of compiling each; run by `make test-slow`.
_SLOW = {"wrn_plain_skip_init", "nf_resnet", "nfnet"}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=[pytest.mark.slow] if c in _SLOW else [])
        for c in _CASES
    ],
)
def test_gives_the_logits_that_it_gave_in_haiku(case):
  want, images, theirs = _haiku(case)
  name, options, shape, *_ = _CASES[case]
  apply_fn, params = _ours(name, image_shape=shape, **options)
  params = models.from_haiku(name, params, theirs)
  got = jax.jit(apply_fn)(params, images)
  # Logits of order 1 (checked), in float32, through some 20 layers.
  assert 0.1 < np.std(want) < 100
  np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.std(want))


def _shapes(name, **options):
  """The parameters' shapes: nothing is computed."""
  model = nnx.eval_shape(
      lambda: models.build(name, rngs=nnx.Rngs(0), **options)
  )
  return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def test_the_published_number_of_modules():
  # benjs/nfnets_pytorch, nfnets/pretrained.py: that of the released F0.
  table = haiku.names("nfnet", _shapes("nfnet", variant="F0"))
  assert len({name.rpartition("/")[0] for name in table.values()}) == 94
  assert len(set(table.values())) == len(table)


def test_other_classes_need_a_reset():
  *_, theirs = _haiku("wrn")
  name, options, shape, *_ = _CASES["wrn"]
  _, params = _ours(name, image_shape=shape, num_classes=4, **options)
  with pytest.raises(
      ValueError, match=r"linear.bias must be of the model's shape, \[4\], got"
  ):
    models.from_haiku(name, params, theirs)
  new = models.from_haiku(name, params, theirs, reset=(r"linear\..*",))
  assert new["linear"]["kernel"] is params["linear"]["kernel"]
  np.testing.assert_array_equal(
      new["stem"]["kernel"], theirs["wide_res_net/First_conv"]["w"]
  )


def test_names_of_the_first_release_are_read():
  # jax_privacy 0.1, jax_privacy/src/training/image_classification/models/
  # common.py: it takes these parts out of a file's names.
  *_, theirs = _haiku("wrn")
  old = {
      name.replace("net/", "net/~norm_fn/")
      if "norm" in name
      else name.replace("net/", "net/~conv_fn/"): arrays
      for name, arrays in theirs.items()
  }
  assert set(old).isdisjoint(theirs)
  name, options, shape, *_ = _CASES["wrn"]
  _, params = _ours(name, image_shape=shape, **options)
  a, b = (models.from_haiku(name, params, x) for x in (old, theirs))
  assert jax.tree.all(jax.tree.map(np.array_equal, a, b))
  with pytest.raises(
      ValueError, match="must have one wide_res_net/.*, got two"
  ):
    models.from_haiku(name, params, old | theirs)


def test_missing_and_unknown_parameters_are_listed():
  *_, theirs = _haiku("wrn")
  name, options, shape, *_ = _CASES["wrn"]
  _, params = _ours(name, image_shape=shape, **options)
  some = {k: v for k, v in theirs.items() if "First_conv" not in k}
  many = {f"m{i}": {"w" * 200: np.zeros(1)} for i in range(1000)}
  with pytest.raises(ValueError) as raised:
    models.from_haiku(name, params, some | many)
  text = str(raised.value)
  for part in ("bias", "gain", "w"):
    assert f"wide_res_net/First_conv/{part}" in text
  assert "m0/www" in text and "and 995 more unknown" in text
  assert len(text) < 1000 and "\n" not in text


_TOY = {"stem": {"kernel": jnp.ones((2, 3))}, "gain": jnp.ones(())}


@pytest.mark.parametrize(
    "array, message",
    [
        (
            np.zeros((3, 2)),
            r"must be of the model's shape, \[2, 3\], got \[3, 2\]: ",
        ),
        (np.zeros(6), "must be of the model's shape"),
        (np.zeros((2, 3), int), "must be floats, got int64"),
        (np.full((2, 3), np.nan), "must be finite in float32"),
        (np.full((2, 3), 1e300), "must be finite in float32"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(array, message):
  with pytest.raises(ValueError, match=f"stem.kernel {message}"):
    saved.fill(_TOY, {"stem.kernel": array})


def test_what_fits_is_put_in_its_place():
  new = saved.fill(_TOY, {"gain": np.full(1, 3.0, np.float16)})
  assert new["gain"].shape == () and new["gain"].dtype == jnp.float32
  assert new["gain"] == 3.0 and new["stem"] is not _TOY["stem"]
  assert new["stem"]["kernel"] is _TOY["stem"]["kernel"]
  with pytest.raises(ValueError, match="got stem.kernels"):
    saved.fill(_TOY, {"stem.kernels": np.ones((2, 3))})


@pytest.mark.parametrize(
    "reset, message",
    [
        (("(",), r"regular expressions, got '\('"),
        ((1,), "regular expressions, got 1"),
        # Part of a path is not enough: it must be meant.
        (("stem",), "such as gain, got 'stem', which matches none"),
    ],
)
def test_a_reset_that_resets_nothing_is_refused(reset, message):
  with pytest.raises(ValueError, match=message):
    saved.match(_TOY, ["gain", "stem.kernel"], reset=reset)


def test_what_is_reset_may_be_there_or_not():
  for given in (["gain", "stem.kernel"], ["stem.kernel"]):
    wanted = saved.match(_TOY, given, reset=("gain",))
    assert wanted == {"stem.kernel": "stem.kernel"}


def test_models_without_a_table_are_refused():
  with pytest.raises(ValueError, match="one of nf_resnet, nfnet, wide_resnet"):
    haiku.names("cnn_small", _TOY)
  shapes = _shapes("wide_resnet", depth=10, width=1, squeeze_excite=True)
  with pytest.raises(ValueError, match="got blocks.0.gate.excite.bias"):
    haiku.names("wide_resnet", shapes)
