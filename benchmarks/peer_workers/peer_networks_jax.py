"""The networks of `peer_networks` as plain JAX losses.

Both JAX libraries differentiate these very functions. Invariant: a loss is the
mean over its batch of losses that each depend on one example.

>>> import peer_networks
>>> network = peer_networks.NETWORKS["mlp"]
>>> batch = peer_networks.batch(network, batch_size=2)
>>> loss_fn("mlp")(peer_networks.parameters(network), *batch).shape
()
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import peer_networks


def loss_fn(
    name: str, *, standardise: Callable[..., jax.Array] | None = None
) -> Callable[..., jax.Array]:
  """Returns `loss(params, inputs, labels)`, a scalar.

  Args:
    name: a key of `peer_networks.NETWORKS`.
    standardise: `(kernel, gain) -> kernel` for "wrn_ws"; None for the plain
      formula of this file.
  """
  apply_fn = {
      "wrn": _wrn,
      "wrn_ws": functools.partial(
          _wrn, standardise=standardise or _standardise
      ),
      "transformer": _transformer,
      "mlp": _mlp,
  }[name]

  def loss(params, inputs, labels):
    log_probs = jax.nn.log_softmax(apply_fn(params, inputs))
    picked = jnp.take_along_axis(log_probs, labels[..., None], axis=-1)
    return -jnp.mean(picked)

  return loss


def _dense(params, name, x):
  return x @ params[f"{name}/kernel"] + params[f"{name}/bias"]


def _mlp(params, x):
  for i in range(peer_networks.NUM_DENSE):
    x = _dense(params, f"dense_{i}", jax.nn.relu(x) if i else x)
  return x


def _standardise(kernel, gain):
  """Scaled weight standardisation (Brock et al. 2021)."""
  axes = (0, 1, 2)
  fan_in = kernel.size // kernel.shape[-1]
  centred = kernel - jnp.mean(kernel, axis=axes)
  norm = jnp.sqrt(jnp.maximum(fan_in * jnp.var(kernel, axis=axes), 1e-4))
  return centred * (gain / norm)


def _conv(params, name, x, stride, standardise):
  kernel = params[f"{name}/kernel"]
  # As PyTorch pads. "SAME" would pad a stride of 2 on the other side.
  pad = kernel.shape[0] // 2
  if standardise is not None:
    kernel = standardise(kernel, params[f"{name}/gain"])
  y = jax.lax.conv_general_dilated(
      x,
      kernel,
      window_strides=(stride, stride),
      padding=((pad, pad), (pad, pad)),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return y + params[f"{name}/bias"]


def _group_norm(params, name, x):
  """GroupNorm by one sum of x and one of x^2 a channel (see models.layers)."""
  n, height, width, channels = x.shape
  size = channels // peer_networks.NUM_GROUPS

  def group_mean(v):
    sums = jnp.sum(v, axis=(1, 2)).reshape(n, -1, size).sum(axis=-1)
    return sums / (height * width * size)

  mean = group_mean(x)
  variance = jnp.maximum(group_mean(x * x) - mean * mean, 0.0)
  inverse = jax.lax.rsqrt(variance + peer_networks.NORM_EPSILON)
  factor = jnp.repeat(inverse, size, axis=-1) * params[f"{name}/scale"]
  mean = jnp.repeat(mean, size, axis=-1)
  shift = params[f"{name}/bias"] - mean * factor
  return x * factor[:, None, None] + shift[:, None, None]


def _wrn(params, x, standardise=None):
  def unit(name, x, stride):
    x = _group_norm(params, f"{name}/norm", jax.nn.relu(x))
    return _conv(params, f"{name}/conv", x, stride, standardise)

  x = _conv(params, "stem", x, 1, standardise)
  for block in peer_networks.wrn_blocks():
    *shortcut, unit_0, unit_1 = [(u[0], u[3]) for u in block.convs()]
    beside = x
    for name, stride in shortcut:
      beside = unit(name, x, stride)
    y = unit(unit_0[0], x, unit_0[1])
    x = beside + unit(unit_1[0], y, unit_1[1])
  x = _group_norm(params, "norm", jax.nn.relu(x))
  return _dense(params, "head", jnp.mean(x, axis=(1, 2)))


def _layer_norm(params, name, x):
  mean = jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.var(x, axis=-1, keepdims=True)
  y = (x - mean) * jax.lax.rsqrt(variance + peer_networks.NORM_EPSILON)
  return y * params[f"{name}/scale"] + params[f"{name}/bias"]


def _attention(params, name, x):
  n, length, width = x.shape
  heads = peer_networks.NUM_HEADS
  qkv = _dense(params, f"{name}/qkv", x)
  qkv = qkv.reshape(n, length, 3, heads, width // heads)
  query, key, value = (qkv[:, :, i] for i in range(3))
  query = query * (width // heads) ** -0.5
  logits = jnp.einsum("nqhd,nkhd->nhqk", query, key)
  mask = jnp.tril(jnp.ones((length, length), bool))
  logits = jnp.where(mask[None, None], logits, -jnp.inf)
  mixed = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(logits), value)
  return _dense(params, f"{name}/out", mixed.reshape(n, length, width))


def _transformer(params, words):
  x = params["words/table"][words] + params["positions/table"]
  for i in range(peer_networks.NUM_LAYERS):
    name = f"block_{i}"
    x = x + _attention(params, name, _layer_norm(params, f"{name}/norm_0", x))
    y = _dense(
        params, f"{name}/expand", _layer_norm(params, f"{name}/norm_1", x)
    )
    x = x + _dense(params, f"{name}/contract", jax.nn.gelu(y))
  return _dense(params, "head", _layer_norm(params, "norm", x))
