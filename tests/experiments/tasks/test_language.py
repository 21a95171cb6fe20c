"""The task of language: what is counted, what is protected, what is written."""

import doctest
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import families
from experiments.plan import experiment as experiment_lib
from experiments.plan import fields
from experiments.release import sampling
from experiments.tasks import language, parts, registry
from jax_privacy import clipping
from jax_privacy.data.text import tokenisers
from tests.support import launch, oracle


def test_doctests():
  for module in (language, sampling):
    assert doctest.testmod(module)[0] == 0


def _config(**options):
  config = families.language(epsilon=8.0)
  config.data.source = "copy"
  config.data.options = {"length": 4, "num_symbols": 3}
  config.data.num_examples = 50
  config.model.options = {"width": 4, "num_layers": 1, "num_heads": 2}
  with config.unlocked():
    config.update_from_flattened_dict(
        {key.replace("__", "."): value for key, value in options.items()}
    )
  return config.lock()


def _task(**options):
  return registry.build(**fields.task_sections(_config(**options)))


@pytest.fixture(scope="module")
def made():
  """A task, a batch with a context, padding and both, and its model."""
  task = _task()
  source = task.load("train", num_examples=50)
  batch = source[np.array([0, 1, 2, -1])]
  batch["num_context"] = np.array([0, 2, 1, 0], np.int32)
  batch["num_tokens"] = np.array([4, 4, 2, 0], np.int32)
  model = task.build_model(source, jax.random.key(0))
  return task, source, batch, model


def _wanted(params, batch, task, source):
  """Sums of -log p in float64, one token at a time."""
  module = task._module(source, 0)
  from jax_privacy import models

  apply_fn, _ = models.functional(module)
  logits = np.asarray(apply_fn(params, batch["tokens"][:, :-1]), np.float64)
  sums, right = np.zeros(4), np.zeros(4, int)
  for i in range(4):
    for j in range(batch["num_context"][i], batch["num_tokens"][i]):
      token = batch["tokens"][i, j + 1]
      row = logits[i, j]
      sums[i] += np.log(np.sum(np.exp(row - row.max()))) + row.max()
      sums[i] -= row[token]
      right[i] += row.argmax() == token
  return sums, right


@pytest.mark.slow
def test_the_loss_sums_over_real_tokens_and_nothing_else(made):
  task, source, batch, model = made
  sums, right = _wanted(model.params, batch, task, source)
  predict_fn = jax.jit(task.build_predictor(source, model).predict_fn)
  found = predict_fn(model.params, batch)
  # Float32 sums of 4 terms of order 1.
  np.testing.assert_allclose(found["nll"], sums, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(found["is_right"], right)
  assert sums[3] == 0 and (sums[:3] > 0).all()
  # What is behind the last token, and what a context says of itself, is free.
  changed = dict(batch, tokens=batch["tokens"].copy())
  changed["tokens"][2, 3:] = 0
  again = predict_fn(model.params, changed)
  np.testing.assert_array_equal(again["nll"], found["nll"])
  outcomes = task.outcomes(source, batch, jax.device_get(found))
  assert outcomes.num_tokens.tolist() == [4, 2, 1, 0]


def test_clipped_sums_of_the_loss_are_vmap_s(made):
  _, _, batch, model = made
  key = jax.random.key(1)

  def loss_fn(params, example):
    return model.loss_fn(params, example, key)

  wanted, norms = oracle.clipped_sum(
      loss_fn, model.params, batch, 1.0, keep_batch_dim=False
  )
  assert norms[3] == 0
  grad_fn = clipping.clipped_grad(
      loss_fn, l2_clip_norm=1.0, keep_batch_dim=False, method="ghost"
  )
  found = jax.jit(grad_fn)(
      model.params, batch, is_padding_example=np.array([0, 0, 0, 1], bool)
  )
  np.testing.assert_allclose(oracle.flat64(found), wanted, rtol=1e-3, atol=1e-5)


def test_evaluation_never_packs_and_the_statement_says_what_an_example_is(
    tmp_path,
):
  path = tmp_path / "a.jsonl"
  path.write_text(
      "".join(json.dumps({"text": f"line {i}"}) + "\n" for i in range(40))
  )
  options = {"path": str(path), "length": 16, "packing": "pack"}
  task = _task(data__source="text", data__options=options)
  assert task.load("train").packing == "pack"
  assert task.load("test", for_evaluation=True).packing == "split"
  assert task.example_is().startswith("a packed sequence of 16 tokens")
  assert "no document is protected as a whole" in task.example_is()
  assert _task().example_is() == ""
  config = _config(
      data__source="text", data__options=options, data__unit="document",
      data__max_rows_per_unit=2, train__expected_batch_size=10,
      train__num_steps=2, dp__delta=1e-3,
  )  # fmt: skip
  with pytest.raises(ValueError, match="packing must be truncate or split"):
    experiment_lib.build(config)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "options, text",
    [
        (
            {"model__name": "cnn_small"},
            "model.name must be one of griffin, lru",
        ),
        (
            {"data__source": "digits"},
            "data.source must be one of copy, listops",
        ),
        (
            {"loss__name": "sigmoid"},
            "loss.name must be 'softmax' for task 'lan",
        ),
        ({"data__mean": (0.5,)}, "data.mean must be"),
        ({"model__options": {"vocabulary_size": 3}}, "model.options must be"),
        (
            {"model__options": {"num_positions": 3}},
            "num_positions must be at le",
        ),
    ],
)
def test_fields_of_other_tasks_are_refused(options, text):
  with pytest.raises(ValueError, match=text):
    task = _task(**options)
    task.build_model(task.load("train"), jax.random.key(0))


def test_other_tasks_write_no_text():
  task = registry.build(**fields.task_sections(launch.linear()))
  with pytest.raises(ValueError, match="task must be one that writes text"):
    task.generator(None)


def _chain(probs):
  """A generator whose next token depends on the last alone; no model."""
  logits = jnp.log(jnp.asarray(probs, jnp.float32))
  return parts.Generator(
      tokeniser=tokenisers.Symbols(3),
      cache_fn=lambda params, n, length: jnp.zeros(n),
      decode_fn=lambda params, tokens, cache: (logits[tokens], cache),
  )


# From a to b, from b to c or the end, from c to a; the end begins with a.
_PROBS = [[0, 1, 0, 0], [0, 0, 0.75, 0.25], [1, 0, 0, 0], [1, 0, 0, 0]]


def test_texts_follow_the_chain_and_end_with_the_document():
  texts = sampling.generate(
      _chain(_PROBS), None, "", num_tokens=6, num_samples=400, seed=3
  )
  assert set(texts) == {"ab", "abcab", "abcabc"}
  # Binomial: 400 x 0.25 = 100, deviation 8.7, of which this is 5.
  assert abs(texts.count("ab") - 100) < 44
  again = sampling.generate(
      _chain(_PROBS), None, "", num_tokens=6, num_samples=400, seed=3
  )
  assert again == texts


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.7}]
)
def test_the_likeliest_alone_is_taken(options):
  texts = sampling.generate(
      _chain(_PROBS), None, "b", num_tokens=4, num_samples=50, **options
  )
  assert set(texts) == {"cabc"}


def test_top_p_keeps_the_fewest_that_reach_it():
  logits = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.3]]))
  for top_p, kept in ((0.3, {1}), (0.5, {1, 3}), (0.8, {1, 2, 3}), (1.0, None)):
    found = sampling.filtered(logits, temperature=1.0, top_k=None, top_p=top_p)
    places = set(np.flatnonzero(np.isfinite(found[0])).tolist())
    assert places == (kept or {0, 1, 2, 3}), top_p


@pytest.mark.parametrize(
    "options, text",
    [
        ({"temperature": -1.0}, "temperature must be in"),
        ({"temperature": float("nan")}, "temperature must be in"),
        ({"top_k": 0}, "top_k must be an integer of at least 1"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\]"),
        ({"num_tokens": 0}, "num_tokens must be an integer of at least 1"),
        ({"num_samples": 2**11}, "num_samples must be at most"),
        ({"seed": -1}, "seed must be in"),
    ],
)
def test_wrong_options_of_sampling_are_refused(options, text):
  options = {"num_tokens": 2} | options
  with pytest.raises(ValueError, match=text):
    sampling.generate(_chain(_PROBS), None, "", **options)
