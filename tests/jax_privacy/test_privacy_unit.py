"""All rows of a person are one example: grouped, sampled and clipped so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy import (
    padded_batch,
    privacy_unit,
    testing,
    views,
)
from tests.support import oracle, persons, toy


def test_every_row_is_of_one_unit_and_up_to_the_limit():
  assert persons.used(persons.group(limit=4)) == [
      {0, 2, 4, 7},
      {1, 5},
      {3},
      {6},
  ]
  used = persons.used(persons.group(limit=2))
  assert used[0] < {0, 2, 4, 7} and [len(own) for own in used] == [2, 2, 1, 1]
  rows = persons.group(limit=3).rows(np.array([1, -1, 2], np.int8))
  np.testing.assert_array_equal(rows, [[1, 5, -1], [-1] * 3, [3, -1, -1]])
  assert persons.group().rows(np.zeros(0, np.int32)).shape == (0, 2)


def test_chosen_rows_are_uniform():
  # Each of the 6 pairs of 4 rows; over 600 keys a count is binomial(600, 1/6),
  # of standard deviation 9.1: 6 of them off is a chance below 1e-8.
  counts = {}
  for key in range(600):
    own = tuple(sorted(persons.used(persons.group(key=key))[0]))
    counts[own] = counts.get(own, 0) + 1
  assert len(counts) == 6
  assert max(abs(count - 100) for count in counts.values()) < 6 * 9.2


def test_chosen_rows_depend_on_key_and_own_rows_alone():
  ids = np.repeat(["al", "bo", "cy"], [9, 5, 7])
  x = np.arange(len(ids))
  shuffle = np.random.default_rng(0).permutation(len(ids))
  # As they come; others between them; without others; others renamed.
  sets = [
      (x, ids),
      (x[shuffle], ids[shuffle]),
      (x[ids != "al"], ids[ids != "al"]),
      (x, np.where(ids == "al", "zoe", ids)),
  ]
  want = None
  for values, names in sets:
    grouping = persons.group(names, limit=3)
    places = np.argsort(values[names == "bo"])
    unit = [*np.unique(names)].index("bo")
    rows = grouping.rows(np.array([unit]))[0]
    # By place among the person's own rows, in the order of the file.
    got = np.flatnonzero(np.isin(np.flatnonzero(names == "bo"), rows))
    assert len(got) == 3 and len(places) == 5
    want = got if want is None else want
    np.testing.assert_array_equal(got, want)
  others = {
      tuple(persons.used(persons.group(ids, limit=3, key=k))[1])
      for k in range(9)
  }
  assert len(others) > 1


def test_the_sum_is_each_persons_mean_clipped_once():
  # The oracle: a loop over persons and rows, in float64.
  params, data = toy.params(), persons.at(toy.batch(8), range(8))
  grouping = persons.group(limit=4)
  batch = padded_batch.PaddedBatch(np.array([0, 1, 2, -1, 3]))
  row_grad = jax.jit(jax.grad(toy.loss))
  want = {name: 0.0 for name in privacy_unit.REDUCTIONS}
  for own in persons.used(grouping):
    grads = [
        oracle.flat64(row_grad(params, persons.at(data, [r]))) for r in own
    ]
    for name, total in (("mean", np.mean(grads, 0)), ("sum", np.sum(grads, 0))):
      want[name] += total * min(1, persons.CLIP / np.linalg.norm(total))
  for name, method in (("mean", "ghost"), ("mean", "vmap"), ("sum", "ghost")):
    grad_fn = jax_privacy.clipped_grad(
        privacy_unit.over_rows(toy.loss, reduction=name),
        l2_clip_norm=persons.CLIP,
        method=method,
    )
    got = jax.jit(grad_fn)(
        params,
        grouping.take(batch, data),
        is_padding_example=batch.is_padding_example,
    )
    np.testing.assert_allclose(oracle.flat64(got), want[name], atol=2e-6)


def test_slots_without_a_row_add_nothing_even_where_zeros_are_nan():
  def loss_fn(w, row):  # NaN, and a gradient of NaN, where x is zero.
    return jnp.sum(w * row["x"] / jnp.linalg.norm(row["x"]))

  unit_loss_fn = privacy_unit.over_rows(loss_fn)
  data = {"x": 1 + np.arange(8, dtype=np.float32)[:, None]}
  grouping = persons.group(limit=4)
  grad_fn = jax.jit(jax.grad(unit_loss_fn))
  for unit in range(4):
    batch = padded_batch.PaddedBatch(np.array([unit]))
    grad = grad_fn(jnp.ones((1, 1)), grouping.take(batch, data))
    np.testing.assert_allclose(grad, 1.0, rtol=1e-6)
  # Nothing at all: zero, where zeros are finite; clipping sees to the rest.
  nobody = grouping.take(padded_batch.PaddedBatch(np.array([-1])), data)
  square = privacy_unit.over_rows(lambda w, row: jnp.sum((w - row["x"]) ** 2))
  value, grad = jax.jit(jax.value_and_grad(square))(jnp.ones((1, 1)), nobody)
  assert value == 0 and grad == 0
  grad_fn = jax_privacy.clipped_grad(unit_loss_fn, l2_clip_norm=1.0)
  assert jax.jit(grad_fn)(jnp.ones((1, 1)), nobody) == 0


def test_keys_follow_rows_and_dropout_does_not_meet():
  seen = []

  def loss_fn(w, row, key):
    return jnp.sum(w * jax.random.normal(key)) + 0 * jnp.sum(row)

  grad_fn = jax_privacy.clipped_grad(
      privacy_unit.over_rows(loss_fn, reduction="sum", prng_argnum=2),
      l2_clip_norm=100.0,
      prng_argnum=2,
      keys_by_example=True,
      return_grad_norms=True,
  )
  key, data, grouping = (
      jax.random.key(3),
      np.zeros((8, 1), np.float32),
      persons.group(),
  )
  for indices in ([0, 1, 2, 3], [3, -1, 0, -1]):
    batch = padded_batch.PaddedBatch(np.array(indices))
    keys = views.example_keys(key, step=1, indices=jnp.array(indices))
    _, aux = jax.jit(grad_fn)(
        jnp.ones(()),
        grouping.take(batch, data),
        keys,
        is_padding_example=batch.is_padding_example,
    )
    seen.append(dict(zip(indices, np.asarray(aux.grad_norms), strict=True)))
  assert seen[0][0] == seen[1][0] and seen[0][3] == seen[1][3]
  # Row by row, by the documented derivation.
  unit_key = views.example_keys(key, step=1, indices=jnp.array([0]))[0]
  draws = [jax.random.normal(jax.random.fold_in(unit_key, j)) for j in range(2)]
  np.testing.assert_allclose(seen[0][0], abs(sum(draws)), rtol=1e-5)


@pytest.mark.slow
def test_views_of_rows_are_clipped_with_their_person():
  view_loss_fn = views.augmult(
      lambda w, images: images @ w,
      views.mean_over_views(lambda logits, label: (logits - label) ** 2),
      augment_fn=lambda key, x: x + jax.random.normal(key, x.shape),
      num_views=3,
  )

  def loss_fn(w, row, key):
    return view_loss_fn(w, row["x"], row["y"], key)[0]

  unit_loss_fn = privacy_unit.over_rows(
      loss_fn, keep_batch_dim=False, prng_argnum=2
  )
  grad_fn = jax_privacy.clipped_grad(
      unit_loss_fn,
      l2_clip_norm=persons.CLIP,
      keep_batch_dim=False,
      prng_argnum=2,
      keys_by_example=True,
  )
  batch, grouping = padded_batch.PaddedBatch(np.arange(3)), persons.group()
  examples = grouping.take(batch, toy.batch(8))
  keys = views.example_keys(
      jax.random.key(0), step=0, indices=jnp.asarray(batch.indices)
  )
  testing.check_sensitivity(
      grad_fn, jnp.ones(4), examples, keys, max_examples=2
  )


def test_aux_is_that_of_rows():
  loss_fn = privacy_unit.over_rows(toy.loss_aux, has_aux=True)
  grouping = persons.group()
  grad_fn = jax_privacy.clipped_grad(
      loss_fn, has_aux=True, l2_clip_norm=persons.CLIP
  )
  data = toy.batch(8)
  examples = grouping.take(persons.everyone(grouping), data)
  _, out = jax.jit(grad_fn)(toy.params(), examples)
  assert out.aux["double"].shape == (4, 2) and out.aux["x"].shape == (4, 2, 4)
  np.testing.assert_array_equal(out.aux["x"][1], data["x"][np.array([1, 5])])
