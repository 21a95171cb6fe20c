"""Adapters: nothing at first, small, merged for export, the base untouched."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import clipping, models
from jax_privacy.models import lora
from tests.support import oracle

_TARGETS = r".*\.(query|up)"


class _Own(nnx.Module):
  """A user's module: a list, a layer on its own, and another method."""

  def __init__(self, rngs):
    self.hidden = nnx.List([nnx.Linear(3, 4, rngs=rngs) for _ in range(2)])
    self.head = nnx.Linear(4, 2, use_bias=False, rngs=rngs)

  def __call__(self, x):
    return self.head(jnp.tanh(self.hidden[0](x) + self.hidden[1](x)))


def _transformer(**options):
  return models.build(
      "transformer",
      rngs=nnx.Rngs(0),
      vocabulary_size=7,
      width=8,
      num_layers=2,
      num_heads=2,
      hidden_size=12,
      **options,
  )


_TOKENS = np.random.default_rng(0).integers(0, 7, (3, 5), np.int32)
_X = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
# Model, inputs, targets, and r (in + out) of each adapter of rank 2 together.
_CASES = {
    "unrolled": (_transformer, _TOKENS, _TARGETS, 2 * 2 * (8 + 8 + 8 + 12)),
    "stacked": (
        functools.partial(_transformer, stack_layers=True),
        *(_TOKENS, _TARGETS, 2 * 2 * (8 + 8 + 8 + 12)),
    ),
    "own": (lambda: _Own(nnx.Rngs(0)), _X, r"hidden\.1|head", 2 * (7 + 6)),
}


_each = pytest.mark.parametrize(
    "name",
    [
        "own",
        *(
            pytest.param(k, marks=pytest.mark.slow)
            for k in _CASES
            if k != "own"
        ),
    ],
)


@functools.cache
def _make(name):
  """The model, its adapted copy, and that one's parameters, none of them 0."""
  make, inputs, targets, _ = _CASES[name]
  model = make()
  adapted = lora.add(
      model, targets=targets, rank=2, alpha=3.0, rngs=nnx.Rngs(1)
  )
  apply_fn, params = models.functional(adapted)
  generator = np.random.default_rng(1)
  moved = jax.tree.map(
      lambda p: p + generator.normal(0.0, 0.3, p.shape).astype(np.float32),
      params,
  )
  return model, adapted, jax.jit(apply_fn), params, moved, inputs


@pytest.mark.slow
@_each
def test_a_fresh_adapter_changes_nothing_and_keeps_names(name):
  model, _, apply_fn, params, _, inputs = _make(name)
  plain_fn, plain = models.functional(model)
  adapters, frozen = lora.split(params)
  assert jax.tree.structure(frozen) == jax.tree.structure(plain)
  assert models.num_parameters(adapters) == _CASES[name][3]
  np.testing.assert_allclose(
      apply_fn(params, inputs), jax.jit(plain_fn)(plain, inputs), atol=1e-6
  )
  # The layers of the model itself were left as they are.
  assert not any(
      isinstance(node, lora.LoraLinear) for _, node in nnx.iter_graph(model)
  )


@_each
def test_merged_parameters_give_the_same_without_adapters(name):
  model, adapted, apply_fn, _, moved, inputs = _make(name)
  plain_fn, plain = models.functional(model)
  merged = lora.merge(adapted, moved)
  assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, plain)
  wanted = apply_fn(moved, inputs)
  # Float32: some 20 roundings of 2^-24 a path, on numbers of order 1 to 10.
  found = jax.jit(plain_fn)(merged, inputs)
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)
  # Planted: adapters that are dropped give something else.
  dropped = jax.jit(plain_fn)(lora.split(moved)[1], inputs)
  assert np.max(np.abs(dropped - wanted)) > 0.05


@pytest.mark.slow
def test_clipped_sums_are_of_adapters_alone():
  _, _, apply_fn, params, moved, _ = _make("unrolled")

  def loss_fn(adapters, tokens, frozen):
    logits = apply_fn(lora.join(adapters, frozen), tokens[None])[0]
    return jnp.sum(jnp.sin(logits))

  adapters, frozen = lora.split(moved)
  wanted, norms = oracle.clipped_sum(
      lambda p, row: loss_fn(p, row, frozen),
      adapters,
      _TOKENS,
      1.0,
      keep_batch_dim=False,
  )
  grad_fn = jax.jit(
      clipping.clipped_grad(
          loss_fn,
          l2_clip_norm=1.0,
          batch_argnums=1,
          keep_batch_dim=False,
          return_grad_norms=True,
          method="ghost",
      )
  )
  none = np.zeros(3, bool)
  found, aux = grad_fn(adapters, _TOKENS, frozen, is_padding_example=none)
  np.testing.assert_allclose(aux.grad_norms, norms, rtol=1e-4)
  np.testing.assert_allclose(oracle.flat64(found), wanted, rtol=1e-3, atol=1e-4)
  # Of fresh ones B alone has a gradient.
  found, _ = grad_fn(
      *(lora.split(params)[0], _TOKENS, frozen), is_padding_example=none
  )
  for path, grad in jax.tree_util.tree_leaves_with_path(found):
    assert np.any(np.asarray(grad) != 0) == ("lora_b" in str(path[-1]))


@pytest.mark.slow
def test_decoding_sees_adapters():
  _, adapted, apply_fn, _, moved, _ = _make("stacked")
  decode_fn = jax.jit(models.method(adapted, "decode"))
  found, _ = decode_fn(moved, _TOKENS, adapted.init_cache(3, 5))
  np.testing.assert_allclose(
      found, apply_fn(moved, _TOKENS), rtol=1e-4, atol=2e-5
  )


def test_an_option_of_any_model_adds_them():
  options = {"targets": "linear", "rank": 1}
  model = models.build(
      "linear", rngs=nnx.Rngs(0), image_shape=(2, 2, 1), lora=options
  )
  _, params = models.functional(model)
  assert models.num_parameters(lora.split(params)[0]) == 4 + 10
  for wrong in ({"rank": 1}, {"targets": "linear"}, {"range": 2}, "linear"):
    with pytest.raises(ValueError, match="lora must"):
      models.build("linear", rngs=nnx.Rngs(0), lora=wrong)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"targets": "("}, "targets must be a regular expression, got '.'"),
        ({"targets": "tail"}, "one of 3, such as head, hidden.0, hidden.1"),
        ({"targets": None}, "targets must be a regular expression, got None"),
        ({"rank": 0}, "rank must be an integer of at least 1, got 0"),
        ({"rank": 3}, "rank must be at most 2, the smaller side of a layer"),
        ({"alpha": 0.0}, "alpha must be a positive finite number, got 0.0"),
    ],
)
def test_wrong_options_are_refused(options, text):
  options = {"targets": "head", "rank": 1} | options
  with pytest.raises(ValueError, match=text):
    lora.add(_Own(nnx.Rngs(0)), rngs=nnx.Rngs(1), **options)


def test_no_layer_has_two_adapters():
  once = lora.add(_Own(nnx.Rngs(0)), targets="head", rank=1, rngs=nnx.Rngs(1))
  with pytest.raises(ValueError, match="targets must have no adapter yet"):
    lora.add(once, targets="head", rank=1, rngs=nnx.Rngs(1))
