"""All rows of a person are one example: grouped, sampled and clipped so."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_privacy
from jax_privacy import (
    dp_sgd,
    padded_batch,
    privacy_unit,
    testing,
    unit_ids,
    views,
)
from tests.support import oracle, toy

_IDS = np.array(["al", "bo", "al", "cy", "al", "bo", "di", "al"])
_CLIP = 0.5


def _mechanism(num_examples):
  return types.SimpleNamespace(
      noise_multiplier=1.5,
      num_steps=6,
      sampling="poisson",
      sampling_prob=0.5,
      num_examples=num_examples,
      max_batch_size=None,
  )


def _group(ids=_IDS, *, limit=2, num_units=None, key=0):
  return privacy_unit.group(
      ids, num_units=num_units, max_rows_per_unit=limit, key=key
  )


def _everyone(grouping, size=None):
  """A batch of all units, padded to a size."""
  size = len(grouping) if size is None else size
  indices = np.full(size, -1, np.int32)
  indices[: len(grouping)] = np.arange(len(grouping))
  return padded_batch.PaddedBatch(indices)


def _private(num_units=4, **options):
  return dp_sgd.make_private(
      privacy_unit.over_rows(toy.loss),
      optax.sgd(0.1),
      _mechanism(num_units),
      l2_clip_norm=_CLIP,
      key=jax.random.key(0),
      **options,
  )


def _at(data, rows):
  rows = np.asarray(rows)
  return jax.tree.map(lambda x: np.asarray(x)[rows], data)


def _used(grouping):
  """Rows used, as a set for each unit."""
  rows = grouping.rows(np.arange(len(grouping)))
  return [{*own[own >= 0].tolist()} for own in rows]


def test_every_row_is_of_one_unit_and_up_to_the_limit():
  assert _used(_group(limit=4)) == [{0, 2, 4, 7}, {1, 5}, {3}, {6}]
  used = _used(_group(limit=2))
  assert used[0] < {0, 2, 4, 7} and [len(own) for own in used] == [2, 2, 1, 1]
  rows = _group(limit=3).rows(np.array([1, -1, 2], np.int8))
  np.testing.assert_array_equal(rows, [[1, 5, -1], [-1] * 3, [3, -1, -1]])
  assert _group().rows(np.zeros(0, np.int32)).shape == (0, 2)


def test_chosen_rows_are_uniform():
  # Each of the 6 pairs of 4 rows; over 600 keys a count is binomial(600, 1/6),
  # of standard deviation 9.1: 6 of them off is a chance below 1e-8.
  counts = {}
  for key in range(600):
    own = tuple(sorted(_used(_group(key=key))[0]))
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
    grouping = _group(names, limit=3)
    places = np.argsort(values[names == "bo"])
    unit = [*np.unique(names)].index("bo")
    rows = grouping.rows(np.array([unit]))[0]
    # By place among the person's own rows, in the order of the file.
    got = np.flatnonzero(np.isin(np.flatnonzero(names == "bo"), rows))
    assert len(got) == 3 and len(places) == 5
    want = got if want is None else want
    np.testing.assert_array_equal(got, want)
  others = {tuple(_used(_group(ids, limit=3, key=k))[1]) for k in range(9)}
  assert len(others) > 1


def test_the_sum_is_each_persons_mean_clipped_once():
  # The oracle: a loop over persons and rows, in float64.
  params, data = toy.params(), _at(toy.batch(8), range(8))
  grouping = _group(limit=4)
  batch = padded_batch.PaddedBatch(np.array([0, 1, 2, -1, 3]))
  row_grad = jax.jit(jax.grad(toy.loss))
  want = {name: 0.0 for name in privacy_unit.REDUCTIONS}
  for own in _used(grouping):
    grads = [oracle.flat64(row_grad(params, _at(data, [r]))) for r in own]
    for name, total in (("mean", np.mean(grads, 0)), ("sum", np.sum(grads, 0))):
      want[name] += total * min(1, _CLIP / np.linalg.norm(total))
  for name, method in (("mean", "ghost"), ("mean", "vmap"), ("sum", "ghost")):
    grad_fn = jax_privacy.clipped_grad(
        privacy_unit.over_rows(toy.loss, reduction=name),
        l2_clip_norm=_CLIP,
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
  grouping = _group(limit=4)
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
      _group(),
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
      l2_clip_norm=_CLIP,
      keep_batch_dim=False,
      prng_argnum=2,
      keys_by_example=True,
  )
  batch, grouping = padded_batch.PaddedBatch(np.arange(3)), _group()
  examples = grouping.take(batch, toy.batch(8))
  keys = views.example_keys(
      jax.random.key(0), step=0, indices=jnp.asarray(batch.indices)
  )
  testing.check_sensitivity(
      grad_fn, jnp.ones(4), examples, keys, max_examples=2
  )


def test_aux_is_that_of_rows():
  loss_fn = privacy_unit.over_rows(toy.loss_aux, has_aux=True)
  grouping = _group()
  grad_fn = jax_privacy.clipped_grad(loss_fn, has_aux=True, l2_clip_norm=_CLIP)
  data = toy.batch(8)
  examples = grouping.take(_everyone(grouping), data)
  _, out = jax.jit(grad_fn)(toy.params(), examples)
  assert out.aux["double"].shape == (4, 2) and out.aux["x"].shape == (4, 2, 4)
  np.testing.assert_array_equal(out.aux["x"][1], data["x"][np.array([1, 5])])


# ---- Neighbours that differ by all rows of one person.

_OWNERS = np.repeat(np.arange(4), [1, 1, 4, 1])


def _rows():
  """Rows that pull together, and far past the clip norm."""
  data = jax.tree.map(np.asarray, toy.batch(len(_OWNERS)))
  return {"x": 1 + abs(data["x"]), "y": -50 - abs(data["y"])}


def _as_ids(owners):
  return np.array(["al", "bo", "cy", "di"])[owners]


def _sum_of(grad_fn, *, limit=4, size=5):
  """A pipeline: (rows, owners) -> the sum that noise is added to."""
  jitted = jax.jit(grad_fn)

  def run(data, owners):
    grouping = _group(_as_ids(owners), limit=limit)
    batch = _everyone(grouping, size)
    return jitted(
        toy.params(),
        grouping.take(batch, data),
        is_padding_example=batch.is_padding_example,
    )

  return run


def _movement(run, persons=range(4)):
  """How far the sum moves if all rows of a person go, at most."""
  data, moved = _rows(), []
  whole = oracle.flat64(run(data, _OWNERS))
  for person in persons:
    kept = np.flatnonzero(_OWNERS != person)
    rest = oracle.flat64(run(_at(data, kept), _OWNERS[kept]))
    moved.append(whole - rest)
  return max(np.linalg.norm(m) for m in moved)


def _grad_fn(**options):
  return jax_privacy.clipped_grad(
      privacy_unit.over_rows(toy.loss), l2_clip_norm=_CLIP, **options
  )


def test_a_person_moves_the_sum_by_one_clip_norm():
  # Reached to rounding: every person is beyond the clip norm.
  for limit in (2, 4):
    moved = _movement(_sum_of(_grad_fn(), limit=limit))
    assert _CLIP * 0.999 < moved < _CLIP * (1 + 1e-5)


def _clipped_by_row():
  by_row = jax_privacy.clipped_grad(toy.loss, l2_clip_norm=_CLIP)

  def planted(params, units, *, is_padding_example):
    del is_padding_example
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), units)
    return by_row(params, flat["rows"], is_padding_example=~flat["is_real"])

  planted.sensitivity = by_row.sensitivity
  return planted


def _over_the_rows_of_the_batch():
  by_person = _grad_fn()

  def planted(params, units, *, is_padding_example):
    total = by_person(params, units, is_padding_example=is_padding_example)
    num_rows = jnp.sum(units["is_real"]).astype(jnp.float32)
    factor = len(_OWNERS) / num_rows  # Of the same size as before.
    return jax.tree.map(lambda x: x * factor, total)

  planted.sensitivity = by_person.sensitivity
  return planted


_PLANTED = [_clipped_by_row, _over_the_rows_of_the_batch]


@pytest.mark.parametrize("plant", _PLANTED)
def test_a_fault_moves_the_sum_further(plant):
  assert _movement(_sum_of(plant())) > 2 * _CLIP


@pytest.mark.slow
@pytest.mark.parametrize("plant", _PLANTED)
def test_check_sensitivity_finds_a_fault(plant):
  grouping = _group(_as_ids(_OWNERS), limit=4)
  examples = grouping.take(_everyone(grouping), _rows())
  with pytest.raises(testing.SensitivityError):
    testing.check_sensitivity(plant(), toy.params(), examples)


def test_a_person_in_two_spellings_would_be_caught(monkeypatch):
  spelt = lambda owners: np.array(["al", "bo", "cy", "cy "])[owners]
  monkeypatch.setitem(globals(), "_as_ids", spelt)
  with pytest.raises(ValueError, match="spelt in one way"):
    _movement(_sum_of(_grad_fn()))
  # Without that rule, the neighbours differ in "cy" and "cy " at once.
  monkeypatch.setattr(unit_ids, "_check_spelling", lambda values: None)
  run, data = _sum_of(_grad_fn()), _rows()
  kept = np.flatnonzero(_OWNERS < 2)
  rest = oracle.flat64(run(_at(data, kept), _OWNERS[kept]))
  gap = oracle.flat64(run(data, _OWNERS)) - rest
  assert np.linalg.norm(gap) > 1.9 * _CLIP


def test_a_choice_of_rows_that_sees_other_persons_is_caught(monkeypatch):
  # As with one generator for all, in the order of persons: who comes before
  # decides which rows of the others are used. Rows pull apart here.
  def planted_group(ids, limit):
    codes, chosen = unit_ids.read(ids).codes, []
    for unit in range(codes.max() + 1):
      own = np.flatnonzero(codes == unit)
      chosen.append(np.roll(own, unit)[:limit])
    counts = np.array([len(own) for own in chosen])
    return privacy_unit.Grouping(
        np.concatenate(chosen),
        counts,
        num_rows=len(ids),
        num_units=None,
        max_rows_per_unit=limit,
    )

  signs = np.where(np.arange(len(_OWNERS)) % 2, -1, 1)
  data = _rows()
  apart = {"x": data["x"] * signs[:, None], "y": data["y"]}
  monkeypatch.setitem(globals(), "_rows", lambda: apart)
  assert _movement(_sum_of(_grad_fn(), limit=1)) < _CLIP * (1 + 1e-5)
  monkeypatch.setitem(
      globals(), "_group", lambda ids, limit: planted_group(ids, limit)
  )
  assert _movement(_sum_of(_grad_fn(), limit=1)) > 1.2 * _CLIP


@pytest.mark.parametrize(
    "method", ["ghost", pytest.param("vmap", marks=pytest.mark.slow)]
)
def test_check_sensitivity_passes_for_persons(method):
  private = _private(method=method)
  grouping = _group(_as_ids(_OWNERS), limit=4, num_units=4)
  examples = grouping.take(_everyone(grouping), _rows())
  report = testing.check_sensitivity(
      private.grad_fn, toy.params(), examples, max_examples=2
  )
  # The expected number of persons a batch is 2.
  assert report.bounds["add_or_remove_one"] == _CLIP / 2


@pytest.mark.slow
def test_check_private_passes_for_persons():
  grouping = _group(_as_ids(_OWNERS), limit=4, num_units=4)
  examples = grouping.take(_everyone(grouping), _rows())
  report = testing.check_private(
      _private(), toy.params(), examples, mechanism=_mechanism(4)
  )
  assert report.noise.stddev == 1.5 * _CLIP / 2


# ---- What a user can forget.


def test_rows_that_are_not_grouped_are_refused():
  private, data = _private(), toy.batch(8)
  batch = private.sampler.batch(0)
  padding = {"is_padding_example": batch.is_padding_example}
  with pytest.raises(
      ValueError, match="the batch must be .*got a dict of x, y"
  ):
    private.grad_fn(toy.params(), batch.take(data), **padding)
  with pytest.raises(ValueError, match="the batch must be .*got an array"):
    private.grad_fn(toy.params(), batch.take(data["x"]), **padding)
  # Nor does a loss of rows read persons, nor a mask of persons fit rows.
  examples = _group(num_units=4).take(batch, data)
  plain = dp_sgd.make_private(
      toy.loss, optax.sgd(0.1), _mechanism(4), l2_clip_norm=1.0, key=0
  )
  with pytest.raises(KeyError):
    plain.grad_fn(toy.params(), examples, **padding)
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), examples["rows"])
  with pytest.raises(ValueError, match="is_padding_example"):
    plain.grad_fn(toy.params(), flat, **padding)


def test_a_mechanism_of_rows_is_refused():
  batch = _private(num_units=8).sampler.batch(0)  # Rows, and not persons.
  rule = "num_examples of the mechanism must be the number of units, 4 .private"
  with pytest.raises(ValueError, match=rule):
    _group().take(batch, toy.batch(8))


@pytest.mark.parametrize("size", [4, 7, 9])
def test_data_of_other_rows_are_refused(size):
  rule = r"examples\['x'\] must be an array of 8 rows, one an id"
  with pytest.raises(ValueError, match=rule):
    _group().take(_private().sampler.batch(0), toy.batch(size))


def test_arguments():
  with pytest.raises(
      ValueError,
      match="number of units in ids, 4 .private, not for release, .* got 8",
  ):
    _group(num_units=8)
  with pytest.raises(ValueError, match="num_units must be stated"):
    _ = _group().num_units
  assert _group(num_units=4).num_units == 4
  for limit in (0, 1.5, None, True):
    with pytest.raises(
        ValueError, match="max_rows_per_unit must be an integer"
    ):
      _group(limit=limit)
  with pytest.raises(ValueError, match="key must be"):
    _group(key=None)
  for indices in ([4], [-2], [0.0], [[0]]):
    with pytest.raises(ValueError, match="indices must be"):
      _group().rows(np.array(indices))
  with pytest.raises(ValueError, match="reduction must be one of"):
    privacy_unit.over_rows(toy.loss, reduction="max")
  with pytest.raises(ValueError, match="batch must be the sampler's"):
    _group().take(np.arange(4), toy.batch(8))
  jitted = jax.jit(lambda batch: _group().take(batch, toy.batch(8)))
  with pytest.raises(ValueError, match="call take outside jit"):
    jitted(_everyone(_group()))
  assert "al" not in repr(_group())


@pytest.mark.slow
def test_batch_norm_is_refused_as_for_rows():
  class Model(nn.Module):

    @nn.compact
    def __call__(self, x):
      return nn.BatchNorm(use_running_average=False)(nn.Dense(2)(x))

  model = Model()
  x = np.asarray(toy.batch(8)["x"])
  variables = model.init(jax.random.key(0), x)

  def loss_fn(params, x):
    held = {"params": params, "batch_stats": variables["batch_stats"]}
    out, _ = model.apply(held, x, mutable=["batch_stats"])
    return jnp.mean(out**2)

  private = dp_sgd.make_private(
      privacy_unit.over_rows(loss_fn),
      optax.sgd(0.1),
      _mechanism(4),
      l2_clip_norm=1.0,
      key=0,
  )
  batch = private.sampler.batch(0)
  with pytest.raises(ValueError, match="BatchNorm"):
    private.grad_fn(
        variables["params"],
        _group().take(batch, x),
        is_padding_example=batch.is_padding_example,
    )
