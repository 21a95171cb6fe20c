"""What every model of sequences promises, whichever it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import clipping, models
from jax_privacy.models import sequences
from tests.support import oracle

_VOCABULARY = 7
# Name -> options, and the period of its layers. Three layers of a period of 2
# are a stack of one pair and a layer of its own.
_OPTIONS = {
    "transformer": {
        "width": 8,
        "num_layers": 3,
        "num_heads": 4,
        "num_kv_heads": 2,
        "hidden_size": 12,
        "windows": (2, None),
        "attention_cap": 5.0,
        "logit_cap": 6.0,
    },
    "griffin": {
        "width": 8,
        "num_layers": 3,
        "pattern": ("recurrent", "attention"),
        "recurrent_width": 6,
        "num_heads": 2,
        "hidden_size": 10,
        "window": 3,
        "scale_embedding": False,
    },
    "lru": {"width": 8, "num_layers": 2, "state_size": 6},
    "transformer: gpt2": {
        "width": 8,
        "num_layers": 2,
        "num_heads": 2,
        "num_kv_heads": None,
        "norm": "layer",
        "is_gated": False,
        "use_bias": True,
        "rotary": False,
        "num_positions": 9,
        "scale_embedding": False,
    },
}
_PERIODS = {"griffin": 2, "lru": 1, "transformer": 2, "transformer: gpt2": 1}
_REMAT = ("transformer: gpt2", "griffin")
# To compile these takes long; `test_transformer.py` and
# `test_recurrent_models.py` have quick tests of them.
_SLOW = ("griffin", "transformer: gpt2")


def _each(but=()):
  """A parameter of each name, some of them slow."""
  names = [
      pytest.param(name, marks=[pytest.mark.slow] * (name in (*_SLOW, *but)))
      for name in sorted(_OPTIONS)
  ]
  return pytest.mark.parametrize("name", names)


def _build(name, **options):
  return models.build(
      name.partition(":")[0],
      rngs=nnx.Rngs(0),
      vocabulary_size=_VOCABULARY,
      **(_OPTIONS[name] | options),
  )


@functools.cache
def _make(name, **options):
  """The model, jitted, and parameters none of which is 0."""
  model = _build(name, **options)
  apply_fn, params = models.functional(model)
  generator = np.random.default_rng(1)
  params = jax.tree.map(
      lambda p: p + generator.normal(0.0, 0.3, p.shape).astype(np.float32),
      params,
  )
  return jax.jit(apply_fn), params


def _tokens(num_sequences=3, length=6, seed=0):
  shape = (num_sequences, length)
  return np.random.default_rng(seed).integers(0, _VOCABULARY, shape, np.int32)


@functools.cache
def _logits(name):
  apply_fn, params = _make(name)
  return np.asarray(apply_fn(params, _tokens()))


# Two programs of the same sums in another order: some 10 steps of products of
# tens of terms of order 1, each rounded by 2^-24.
_SAME = {"rtol": 1e-4, "atol": 2e-5}


def test_every_model_of_sequences_is_in_this_test():
  assert {n.partition(":")[0] for n in _OPTIONS} == set(models.sequence_names())


@pytest.mark.few(1)
@_each()
def test_a_later_token_never_moves_an_earlier_logit(name):
  apply_fn, params = _make(name)
  tokens, logits = _tokens(), _logits(name)
  for place in range(6):
    changed = tokens.copy()
    changed[1, place] = (changed[1, place] + 1) % _VOCABULARY
    again = np.asarray(apply_fn(params, changed))
    # Of the same program: the same bits.
    np.testing.assert_array_equal(again[[0, 2]], logits[[0, 2]])
    np.testing.assert_array_equal(again[1, :place], logits[1, :place])
    assert (again[1, place] != logits[1, place]).any()
  # What was changed first is seen by the end, through all the layers.
  changed = tokens.copy()
  changed[1, 0] = (changed[1, 0] + 1) % _VOCABULARY
  assert (np.asarray(apply_fn(params, changed))[1, -1] != logits[1, -1]).any()


@pytest.mark.few(1)
@_each()
def test_decoding_with_a_cache_gives_the_logits_of_the_whole(name):
  model = _build(name)
  _, params = _make(name)
  decode_fn = jax.jit(models.method(model, "decode"))
  cache, tokens = model.init_cache(3, 6), _tokens()
  found = []
  for part in (tokens[:, :3], *np.split(tokens[:, 3:], 3, axis=1)):
    logits, cache = decode_fn(params, part, cache)
    found.append(np.asarray(logits))
  np.testing.assert_allclose(
      np.concatenate(found, axis=1), _logits(name), **_SAME
  )
  # There is no room for more: no number is better than a wrong one.
  assert np.isnan(decode_fn(params, tokens[:, :1], cache)[0]).all()


@_each(but=["lru"])
def test_layers_under_scan_and_remat_are_the_same_function(name):
  _, params = _make(name)
  remat = name in _REMAT
  stacked = sequences.stack_params(params, period=_PERIODS[name])
  model = _build(name, stack_layers=True, remat=remat)
  apply_fn, own = models.functional(model)
  assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, own)
  logits = jax.jit(apply_fn)(stacked, _tokens())
  np.testing.assert_allclose(logits, _logits(name), **_SAME)


@pytest.mark.slow
def test_stacked_layers_decode_too_and_unrolled_ones_have_remat():
  name = "transformer"
  _, params = _make(name)
  model = _build(name, stack_layers=True)
  stacked = sequences.stack_params(params, period=_PERIODS[name])
  decode_fn = jax.jit(models.method(model, "decode"))
  logits, _ = decode_fn(stacked, _tokens(), model.init_cache(3, 6))
  np.testing.assert_allclose(logits, _logits(name), **_SAME)
  apply_fn, _ = models.functional(_build(name, remat=True))
  logits = jax.jit(apply_fn)(params, _tokens())
  np.testing.assert_allclose(logits, _logits(name), **_SAME)
  text = str(jax.make_jaxpr(apply_fn)(params, _tokens()))
  assert "remat" in text or "checkpoint" in text  # By JAX's version.


def _loss_of(apply_fn):
  def loss_fn(params, tokens):
    logits = apply_fn(params, tokens[None])[0, :-1]
    logps = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.take_along_axis(logps, tokens[1:, None], axis=1))

  return loss_fn


# Quick for the transformer in `test_language.py`, with that task's loss.
@pytest.mark.slow
@_each()
def test_clipped_sums_and_norms_are_those_of_one_example_at_a_time(name):
  apply_fn, params = _make(name, num_layers=_PERIODS[name])
  loss_fn, tokens = _loss_of(apply_fn), _tokens()
  wanted, norms = oracle.clipped_sum(
      loss_fn, params, tokens, 5.0, keep_batch_dim=False
  )
  assert (norms > 5.0).any()
  grad_fn = clipping.clipped_grad(
      loss_fn,
      l2_clip_norm=5.0,
      keep_batch_dim=False,
      return_grad_norms=True,
      method="ghost",
  )
  none = np.zeros(3, bool)
  found, aux = jax.jit(grad_fn)(params, tokens, is_padding_example=none)
  # Float32 sums of some 1000 terms: 1000 x 2^-24 of the largest at most.
  np.testing.assert_allclose(aux.grad_norms, norms, rtol=1e-4)
  np.testing.assert_allclose(oracle.flat64(found), wanted, rtol=1e-3, atol=1e-4)
  for path, grad in jax.tree_util.tree_leaves_with_path(found):
    assert np.any(np.asarray(grad) != 0), jax.tree_util.keystr(path)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
@_each()
def test_clipped_sums_of_stacked_layers_are_vmap_s(name, remat):
  options = {"stack_layers": True, "remat": remat}
  options["num_layers"] = 2 * _PERIODS[name]
  apply_fn, params = _make(name, **options)
  loss_fn, tokens = _loss_of(apply_fn), _tokens()
  found = {}
  for method in ("ghost", "vmap"):
    grad_fn = clipping.clipped_grad(
        loss_fn,
        l2_clip_norm=5.0,
        keep_batch_dim=False,
        return_grad_norms=True,
        method=method,
    )
    none = np.zeros(3, bool)
    sums, aux = jax.jit(grad_fn)(params, tokens, is_padding_example=none)
    found[method] = oracle.flat64(sums), np.asarray(aux.grad_norms)
  # Float32 sums of some 1000 terms: 1000 x 2^-24 of the largest at most.
  sums, norms = found["vmap"]
  np.testing.assert_allclose(found["ghost"][1], norms, rtol=1e-4)
  np.testing.assert_allclose(found["ghost"][0], sums, rtol=1e-3, atol=1e-4)


@_each(but=["lru"])
def test_bfloat16_is_for_products_alone(name):
  """Parameters, and so gradients, stay float32; and so do the logits."""
  apply_fn, params = models.functional(_build(name, compute_dtype="bfloat16"))
  assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  _, params = _make(name)
  logits = jax.jit(apply_fn)(params, _tokens())
  assert logits.dtype == jnp.float32
  off = np.asarray(logits) - _logits(name)
  # Some 50 roundings of 2^-9 a path, at random: sqrt(50) 2^-9 = 1.4%, times
  # what layers amplify. Float32 by another name would be off by 1e-6.
  size = np.sqrt(np.mean(_logits(name) ** 2))
  assert 1e-4 * size < np.sqrt(np.mean(off**2)) < 0.15 * size


@_each()
def test_wrong_tokens_are_refused(name):
  apply_fn, params = _make(name)
  with pytest.raises(ValueError, match=r"tokens must be integers of shape \[n"):
    apply_fn(params, _tokens()[0])
  with pytest.raises(ValueError, match=r"tokens must be integers of shape \[n"):
    apply_fn(params, _tokens().astype(np.float32))


def test_more_tokens_than_learned_positions_are_refused():
  model = _build("transformer: gpt2")
  with pytest.raises(ValueError, match="at most .* positions, 9, got 10"):
    jax.eval_shape(model, jnp.zeros((1, 10), jnp.int32))
  with pytest.raises(ValueError, match="at most .* positions, 9, got 10"):
    model.init_cache(1, 10)


@pytest.mark.parametrize(
    "options, text",
    [
        (
            {"vocabulary_size": 0},
            "vocabulary_size must be an integer of at lea",
        ),
        ({"width": 6}, "num_heads must divide width = 6"),
        ({"num_kv_heads": 3}, "num_kv_heads must divide num_heads = 4, got 3"),
        ({"head_size": 3}, "head_size must be even with rotary, got 3"),
        ({"windows": ()}, "windows must be positive integers or None"),
        ({"windows": (0,)}, "windows must be an integer of at least 1, got 0"),
        ({"norm": "batch"}, "norm must be one of rms, layer, got 'batch'"),
        ({"compute_dtype": "float16"}, "compute_dtype must be one of bfloat16"),
        ({"logit_cap": float("nan")}, "logit_cap must be a positive finite"),
        ({"stack_layers": 1}, "stack_layers must be True or False, got 1"),
        ({"depth": 3}, "option of 'transformer' must be one of .*got 'depth'"),
    ],
)
def test_wrong_options_are_refused(options, text):
  options = {"vocabulary_size": 5} | options
  with pytest.raises(ValueError, match=text):
    models.build("transformer", rngs=nnx.Rngs(0), **options)
