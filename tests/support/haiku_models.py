"""The published models in Haiku, for what Haiku calls their parameters.

Written from the published ones, for their names and their arithmetic, with
dm-haiku: google-deepmind/jax_privacy,
experiments/image_classification/models/{cifar,imagenet_nfresnets}.py, and
google-deepmind/deepmind-research, nfnets/{nfnet,base}.py. So what Haiku calls a
parameter is Haiku's word, not ours.
"""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy.models import nf_resnet


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
