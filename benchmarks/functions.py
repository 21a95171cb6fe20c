"""Losses written as functions: loops, checkpoints, and weights that are made.

What large models are written with, and layers do not show: blocks stacked under
`jax.lax.scan`, with and without `jax.checkpoint`; a recurrence; weights that
are split, merged, masked or padded before they are used.

Invariant: each is a loss of one example, and its parameters and inputs are the
same in every run.

>>> import jax
>>> loss, params, inputs = build("gru", 2)
>>> loss(params, inputs[0]).shape
()
"""

import dataclasses
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_WORDS, _LENGTH, _WIDTH, _DEPTH, _HEADS = 500, 64, 128, 4, 4
_TABLE = 100_000
_MASK = np.random.default_rng(1).random((256, 256), np.float32) < 0.5


@dataclasses.dataclass(frozen=True)
class _Spec:
  """A loss of one example, shapes of its parameters, and how to draw inputs."""

  loss: Callable[[Any, jax.Array], jax.Array]
  shapes: dict[str, tuple[int, ...]]
  inputs: tuple[int, ...]
  batch_size: int
  num_words: int = 0


def _rms(x, gain):
  scale = jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
  return x * scale * (1 + gain)[None]


def _block(x, p):
  """Attention and a gated layer, over [length, width]."""
  q, k, v = jnp.split(_rms(x, p["gain_1"]) @ p["qkv"], 3, -1)
  q, k, v = (a.reshape(len(a), _HEADS, -1) for a in (q, k, v))
  scores = jnp.einsum("thd,shd->hts", q, k) / q.shape[-1] ** 0.5
  scores = jnp.where(jnp.tri(len(x), dtype=bool)[None], scores, -1e9)
  out = jnp.einsum("hts,shd->thd", jax.nn.softmax(scores), v)
  x = x + out.reshape(x.shape) @ p["out"]
  h = _rms(x, p["gain_2"])
  return x + (jax.nn.gelu(h @ p["up"]) * (h @ p["gate"])) @ p["down"], None


def _block_shapes(depth, width):
  return {
      "gain_1": (depth, width),
      "gain_2": (depth, width),
      "qkv": (depth, width, 3 * width),
      "out": (depth, width, width),
      "up": (depth, width, 4 * width),
      "gate": (depth, width, 4 * width),
      "down": (depth, 4 * width, width),
  }


def _transformer(block, depth=_DEPTH, width=_WIDTH):
  """The loss of a decoder with a tied table, its blocks under scan."""
  block_shapes = _block_shapes(depth, width)

  def loss(params, ids):
    layers = {name: params[name] for name in block_shapes}
    x = params["table"][ids[:-1]] * width**0.5
    x, _ = jax.lax.scan(block, x, layers)
    log_probs = jax.nn.log_softmax(_rms(x, params["gain"]) @ params["table"].T)
    return -jnp.mean(jnp.take_along_axis(log_probs, ids[1:, None], -1))

  shapes = {"table": (_WORDS, width), "gain": (width,), **block_shapes}
  return _Spec(loss, shapes, (_LENGTH + 1,), 16, _WORDS)


def _gru(params, x):
  """A gated recurrence of 50 steps."""

  def step(h, x):
    gates = jax.nn.sigmoid(x @ params["x"] + h @ params["h"] + params["b"])
    z, r = jnp.split(gates, 2)
    new = jnp.tanh(x @ params["new_x"] + (r * h) @ params["new_h"])
    return (1 - z) * h + z * new, None

  h, _ = jax.lax.scan(step, jnp.zeros(128, x.dtype), x)
  return jnp.sum((h @ params["out"]) ** 2)


def _split(params, x):
  left, right = jnp.split(params["w"], 2, axis=1)
  return jnp.sum(jnp.tanh(x @ left) * (x @ right))


def _masked(params, x):
  return jnp.sum(jnp.tanh(x @ (params["w"] * jnp.asarray(_MASK, x.dtype))))


def _merged(params, x):
  fixed = jnp.eye(512, dtype=x.dtype)
  return jnp.sum(jnp.tanh(x @ (fixed + params["a"] @ params["b"])))


def _masked_table(params, ids):
  keep = (jnp.arange(_TABLE) > 0)[:, None]
  return jnp.sum(jnp.tanh(jnp.where(keep, params["table"], 0)[ids]))


_GRU_SHAPES = {
    "x": (64, 256),
    "h": (128, 256),
    "b": (256,),
    "new_x": (64, 128),
    "new_h": (128, 128),
    "out": (128, 1),
}
_SPECS: types.MappingProxyType[str, _Spec] = types.MappingProxyType(
    {
        "scan": _transformer(_block),
        "scan_checkpoint": _transformer(jax.checkpoint(_block)),
        "scan_checkpoint_wide": _transformer(jax.checkpoint(_block), 8, 512),
        "gru": _Spec(_gru, _GRU_SHAPES, (50, 64), 64),
        "split_weight": _Spec(_split, {"w": (512, 1024)}, (512,), 64),
        "masked_weight": _Spec(_masked, {"w": (256, 256)}, (256,), 64),
        "merged_lora": _Spec(
            _merged, {"a": (512, 4), "b": (4, 512)}, (512,), 32
        ),
        "masked_table": _Spec(
            _masked_table, {"table": (_TABLE, 5)}, (4,), 512, _TABLE
        ),
    }
)


def names() -> tuple[str, ...]:
  """Returns the names that `build` takes."""
  return tuple(_SPECS)


def build(
    name: str, batch_size: int | None = None
) -> tuple[Callable[[Any, jax.Array], jax.Array], Any, jax.Array]:
  """Returns a loss of one example, parameters and a batch of inputs.

  Args:
    name: one of `names()`.
    batch_size: examples; None for the loss's own.
  """
  spec, rng = _SPECS[name], np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.standard_normal(shape, np.float32))

  params = {
      key: normal(*shape) / (shape[-2] ** 0.5 if len(shape) > 1 else 1e3)
      for key, shape in spec.shapes.items()
  }
  shape = (batch_size or spec.batch_size, *spec.inputs)
  if spec.num_words:
    inputs = jnp.asarray(rng.integers(spec.num_words, size=shape), jnp.int32)
  else:
    inputs = normal(*shape)
  return spec.loss, params, inputs
