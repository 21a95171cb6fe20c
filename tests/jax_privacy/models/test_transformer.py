"""Transformers against a slow reference in NumPy, and published sizes."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models
from jax_privacy.models import attention, sequence_layers, transformer
from jax_privacy.models.transformer import TransformerConfig

_GEMMA = TransformerConfig(
    vocabulary_size=7,
    width=8,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_size=6,
    hidden_size=12,
    attention_cap=3.0,
    logit_cap=2.0,
    windows=(2, None),
)
_GPT2 = TransformerConfig(
    vocabulary_size=7,
    width=8,
    num_heads=2,
    num_kv_heads=None,
    norm="layer",
    is_gated=False,
    use_bias=True,
    rotary=False,
    num_positions=9,
    scale_embedding=False,
)


def _gelu(x):
  inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
  return 0.5 * x * (1 + np.tanh(inner))


def _norm(x, p, kind):
  if kind == "rms":
    return x / np.sqrt(np.mean(x**2) + 1e-6) * (1 + p["scale"])
  x = x - np.mean(x)
  return x / np.sqrt(np.mean(x**2) + 1e-5) * p["scale"] + p["bias"]


def _map(x, p):
  return x @ p["kernel"] + p.get("bias", 0.0)


def _turn(head, position):
  """Rotary positions, pair by pair."""
  head, half = head.copy(), len(head) // 2
  for i in range(half):
    angle = position * 10_000.0 ** (-2 * i / len(head))
    a, b = head[i], head[i + half]
    head[i] = a * np.cos(angle) - b * np.sin(angle)
    head[i + half] = b * np.cos(angle) + a * np.sin(angle)
  return head


def _attend(xs, p, c, window):
  """One query, one head and one key at a time."""
  size = c.head_size or c.width // c.num_heads
  num_kv = c.num_kv_heads or c.num_heads
  out = []
  for i in range(len(xs)):
    mixed = []
    for h in range(c.num_heads):
      g = h // (c.num_heads // num_kv)
      cut_h, cut_g = (slice(k * size, (k + 1) * size) for k in (h, g))
      query = _map(xs[i], p["query"])[cut_h]
      seen = [j for j in range(i + 1) if window is None or i - j < window]
      scores, values = [], []
      for j in seen:
        key = _map(xs[j], p["key"])[cut_g]
        turned = (_turn(query, i), _turn(key, j)) if c.rotary else (query, key)
        score = turned[0] @ turned[1] / np.sqrt(size)
        if c.attention_cap:
          score = c.attention_cap * np.tanh(score / c.attention_cap)
        scores.append(score)
        values.append(_map(xs[j], p["value"])[cut_g])
      weights = np.exp(scores) / np.sum(np.exp(scores))
      mixed.append(weights @ np.array(values))
    out.append(_map(np.concatenate(mixed), p["out"]))
  return out


def _mlp(x, p, c):
  if c.is_gated:
    return _map(_gelu(_map(x, p["gate"])) * _map(x, p["up"]), p["down"])
  return _map(_gelu(_map(x, p["up"])), p["down"])


def _reference(params, tokens, c):
  """Logits [t, V] of one sequence, in float64."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  table = p["embedding"]["embedding"]
  factor = np.sqrt(c.width) if c.scale_embedding else 1.0
  xs = [table[token] * factor for token in tokens]
  if c.num_positions:
    xs = [x + p["positions"][i] for i, x in enumerate(xs)]
  for i in range(c.num_layers):
    layer, window = p["layers"][str(i)], c.windows[i % len(c.windows)]
    normed = [_norm(x, layer["attention_norm"], c.norm) for x in xs]
    mixed = _attend(normed, layer["attention"], c, window)
    xs = [x + y for x, y in zip(xs, mixed, strict=True)]
    xs = [
        x + _mlp(_norm(x, layer["mlp_norm"], c.norm), layer["mlp"], c)
        for x in xs
    ]
  logits = np.array([table @ _norm(x, p["norm"], c.norm) for x in xs])
  return c.logit_cap * np.tanh(logits / c.logit_cap) if c.logit_cap else logits


@pytest.mark.few(1)
@pytest.mark.parametrize("config", [_GEMMA, _GPT2], ids=["gemma", "gpt2"])
def test_logits_are_those_of_a_slow_reference(config):
  model = transformer.Transformer(config, rngs=nnx.Rngs(0))
  apply_fn, params = models.functional(model)
  generator = np.random.default_rng(1)
  params = jax.tree.map(
      lambda p: p + generator.normal(0.0, 0.3, p.shape).astype(np.float32),
      params,
  )
  tokens = generator.integers(0, 7, (2, 6), np.int32)
  found = jax.jit(apply_fn)(params, tokens)
  for i in range(2):
    wanted = _reference(params, tokens[i], config)
    # Float32: tens of roundings of 2^-24 a path, on numbers of order 1 to 10.
    np.testing.assert_allclose(found[i], wanted, rtol=1e-4, atol=3e-5)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "name, published",
    [
        ("gpt2", 124_439_808),  # As released: GPT-2 small, 124M.
        ("gemma_2b", 2_506_172_416),  # As released: 2.51B.
        # No exact number is published: 256000 x 1152 + 26 x 26839296 + 1152.
        pytest.param("vaultgemma_1b", 992_734_848, marks=pytest.mark.slow),
    ],
)
def test_full_sizes_have_their_published_numbers_of_parameters(name, published):
  config = transformer.PRESETS[name]
  model = nnx.eval_shape(
      lambda: transformer.Transformer(config, rngs=nnx.Rngs(0))
  )
  apply_fn, params = models.functional(model)
  assert models.num_parameters(params) == published
  assert transformer.num_parameters(config) == published
  tokens = jax.ShapeDtypeStruct((1, 16), np.int32)
  logits = jax.eval_shape(apply_fn, params, tokens)
  assert logits.shape == (1, 16, config.vocabulary_size)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("is_gated", [False, True])
@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_numbers_of_parameters_are_their_closed_form(use_bias, is_gated, norm):
  config = dataclasses.replace(
      _GEMMA, use_bias=use_bias, is_gated=is_gated, norm=norm
  )
  model = nnx.eval_shape(
      lambda: transformer.Transformer(config, rngs=nnx.Rngs(0))
  )
  _, params = models.functional(model)
  assert models.num_parameters(params) == transformer.num_parameters(config)


def test_a_norm_of_half_precision_takes_float32_statistics():
  # In bfloat16 the sum of 4096 squares of 1 would stop at 256.
  x = np.ones((1, 4096), jax.numpy.bfloat16)
  y = sequence_layers.RMSNorm(4096)(jax.numpy.asarray(x))
  assert y.dtype == jax.numpy.bfloat16
  np.testing.assert_array_equal(np.asarray(y, np.float32), 1.0)


def test_rotation_depends_on_distances_alone():
  x = np.random.default_rng(0).normal(size=(1, 1, 2, 8)).astype(np.float32)

  def score(i, j):
    query, key = x[:, :, :1], x[:, :, 1:]
    turned = [
        attention.rotate(h, np.array([p]), fraction=0.5)
        for h, p in ((query, i), (key, j))
    ]
    # The other half of the features stays as it is.
    np.testing.assert_array_equal(turned[0][..., 4:], query[..., 4:])
    return float(np.sum(np.asarray(turned[0]) * np.asarray(turned[1])))

  # Angles of up to 20 are rounded by 2^-20, on products of order 1.
  assert score(20, 17) == pytest.approx(score(5, 2), abs=2e-5)
  assert score(20, 17) != pytest.approx(score(20, 16), abs=1e-3)
