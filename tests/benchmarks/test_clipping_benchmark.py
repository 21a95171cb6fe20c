"""The clipping benchmark: its report, and that its steps are comparable.

No time is looked at but for being one.
"""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import clipping, footprint, models, steps, transformers

# Compiles every model of the benchmark.
pytestmark = pytest.mark.slow

_QUARTILES = {"lower", "median", "upper"}


@pytest.mark.slow  # Compiles in a process of its own for each method.
def test_the_command_reports_every_method(tmp_path, capsys):
  file = tmp_path / "report.json"
  clipping.main(
      [
          "--model=cnn_small",
          "--batch-size=2",
          "--rounds=1",
          f"--json={file}",
      ]
  )
  report = json.loads(file.read_text(encoding="utf-8"))
  assert report["model"] == "cnn_small"
  assert report["batch_size"] == 2
  assert report["rounds"] == 1
  # 160 + 4640 for the convolutions, 96 for the norms, 62,730 for the rest.
  assert report["num_parameters"] == 67_626
  assert report["device"] and report["platform"] and report["cores"] >= 1
  assert {"python", "jax", "jaxlib"} <= set(report["versions"])
  assert [row["method"] for row in report["rows"]] == list(steps.METHODS)
  for row in report["rows"]:
    assert set(row["step_seconds"]) == set(row["ratio"]) == _QUARTILES
    assert row["examples_per_second"] > 0
    assert row["trace_seconds"] > 0 and row["compile_seconds"] > 0
    assert row["temp_bytes"] > 0
    # A step holds what its inputs hold, and then some. The allocator's noise
    # is a few pages; a unit taken wrongly would be a factor of 1024.
    inputs = report["inputs"]["resident_peak_bytes"]
    assert 0.9 * inputs < row["resident_peak_bytes"] < 100 * inputs
    assert row["resident_peak_of_all_bytes"] >= row["resident_peak_bytes"]
  assert report["rows"][0]["ratio"] == dict.fromkeys(_QUARTILES, 1.0)
  printed = capsys.readouterr().out
  assert all(method in printed for method in steps.METHODS)


def test_the_peak_of_a_large_array_is_seen_and_forgotten():
  footprint._forget_resident_peak()
  before = footprint._resident_peak_bytes()
  array = np.ones(50_000_000 // 8)
  during = footprint._resident_peak_bytes()
  # What was resident before may have been freed meanwhile, hence the half.
  assert 25e6 < during - before < 100e6
  del array
  footprint._forget_resident_peak()
  assert footprint._resident_peak_bytes() < during - 25e6


@pytest.mark.parametrize("name", ["mlp", "cnn_small"])
@pytest.mark.parametrize("kind", steps.KINDS)
def test_all_methods_agree_where_nothing_is_clipped(name, kind):
  workload = models.build(name, batch_size=3)
  results = [
      steps.make(method, workload, kind=kind, l2_clip_norm=1e6)
      for method in steps.METHODS
  ]
  want, *rest = [jax.jit(f)(workload.params, *workload.batch) for f in results]
  for got in rest:
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(_close, got, want)


def _close(got, want):
  assert got.dtype == want.dtype
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_private_steps_clip():
  workload = models.build("mlp", batch_size=3)
  for method in ("vmap", "ghost"):
    step_fn = steps.make(method, workload, kind="grad", l2_clip_norm=1e-3)
    _, grads = jax.jit(step_fn)(workload.params, *workload.batch)
    # A mean of three gradients, each of a norm cut to 0.001.
    assert 1e-5 < optax.tree.norm(grads) <= 1e-3


def test_an_update_descends_in_the_dtype_of_the_parameters():
  workload = models.build("mlp", batch_size=3, dtype="bfloat16")
  for method in steps.METHODS:
    step_fn = steps.make(method, workload, kind="update", l2_clip_norm=1.0)
    _, params = jax.eval_shape(step_fn, workload.params, *workload.batch)
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("name", models.names())
def test_every_model_has_a_loss_and_a_gradient(name):
  traced = jax.eval_shape(lambda: _run(name))
  loss, grads, params = traced
  assert loss.shape == () and loss.dtype == jnp.float32
  assert jax.tree.structure(grads) == jax.tree.structure(params)


def _run(name):
  workload = models.build(name, batch_size=2)
  loss, grads = jax.value_and_grad(workload.loss)(
      workload.params, *workload.batch
  )
  return loss, grads, workload.params


def test_the_loss_of_an_example_is_the_mean_over_its_views():
  apply_fn = lambda params, x: x.reshape(x.shape[0], -1) * params
  loss_fn = models._mean_loss(apply_fn, 8)
  rng = np.random.default_rng(0)
  views = jnp.asarray(rng.normal(size=(2, 8, 1, 1, 3)), jnp.float32)
  labels = jnp.array([2, 0], jnp.int32)
  want = 0.0
  for i in range(2):
    for k in range(8):
      logits = np.asarray(views[i, k]).ravel() * 0.5
      want += math.log(np.exp(logits).sum()) - logits[labels[i]]
  np.testing.assert_allclose(loss_fn(0.5, views, labels), want / 16, rtol=1e-5)


def test_inputs_are_as_asked_for_and_always_the_same():
  views, labels = models.build("wrn_16_4_8views", batch_size=2).batch
  assert views.shape == (2, 8, 32, 32, 3) and labels.shape == (2,)
  words, targets = models._batch(models._SPECS["transformer"], 2)
  assert words.shape == targets.shape == (2, 128)
  # The word to predict is the next one.
  np.testing.assert_array_equal(words[:, 1:], targets[:, :-1])
  first, second = (models.build("mlp", batch_size=2).batch for _ in range(2))
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_decoder_does_not_see_what_comes_next():
  model = transformers.Decoder(
      num_words=7, length=5, width=8, depth=2, num_heads=2, rngs=_rngs()
  )
  words = jnp.array([[1, 2, 3, 4, 5]], jnp.int32)
  changed = words.at[0, 3].set(6)
  same = jnp.all(model(words) == model(changed), axis=-1)[0]
  assert same.tolist() == [True, True, True, False, False]


def test_attention_equals_its_formula():
  attention = transformers._Attention(8, 2, causal=False, rngs=_rngs())
  x = np.random.default_rng(0).normal(size=(1, 3, 8)).astype(np.float32)
  kernel = np.asarray(attention.qkv.kernel[...])
  query, key, value = np.split(x[0] @ kernel, 3, axis=1)  # The bias is 0.
  heads = []
  for part in (slice(0, 4), slice(4, 8)):
    logits = np.exp(query[:, part] @ key[:, part].T / 2.0)
    weights = logits / logits.sum(axis=1, keepdims=True)
    heads.append(weights @ value[:, part])
  want = np.concatenate(heads, axis=1) @ np.asarray(attention.out.kernel[...])
  got = attention(jnp.asarray(x))[0]
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def _rngs():
  return transformers.nnx.Rngs(0)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--methods=none,ghosts", "must be distinct ones of none,vmap,ghost"),
        ("--methods=none,none", "must be distinct ones of none,vmap,ghost"),
        ("--batch-size=0", "batch_size must be at least 1, got 0."),
        ("--rounds=0", "rounds must be at least 1, got 0."),
        ("--model=vgg", "invalid choice: 'vgg'"),
    ],
)
def test_wrong_options_are_refused(option, text, capsys):
  with pytest.raises(SystemExit):
    clipping.main(["--model=mlp", option])
  assert text in capsys.readouterr().err


def test_a_wrong_name_is_refused():
  with pytest.raises(ValueError, match="name must be one of wrn_16_4, .* 'x'"):
    models.build("x")
