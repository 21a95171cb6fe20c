"""All rows of one person move the sum by one clip norm; faults move it more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy import (
    privacy_unit,
    testing,
    unit_ids,
)
from tests.support import oracle, persons, toy

_OWNERS = np.repeat(np.arange(4), [1, 1, 4, 1])


_group = persons.group


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
    batch = persons.everyone(grouping, size)
    return jitted(
        toy.params(),
        grouping.take(batch, data),
        is_padding_example=batch.is_padding_example,
    )

  return run


def _movement(run):
  """How far the sum moves if all rows of a person go, at most."""
  data, moved = _rows(), []
  whole = oracle.flat64(run(data, _OWNERS))
  for person in range(4):
    kept = np.flatnonzero(_OWNERS != person)
    rest = oracle.flat64(run(persons.at(data, kept), _OWNERS[kept]))
    moved.append(whole - rest)
  return max(np.linalg.norm(m) for m in moved)


def _grad_fn(**options):
  return jax_privacy.clipped_grad(
      privacy_unit.over_rows(toy.loss), l2_clip_norm=persons.CLIP, **options
  )


def test_a_person_moves_the_sum_by_one_clip_norm():
  # Reached to rounding: every person is beyond the clip norm.
  for limit in (2, 4):
    moved = _movement(_sum_of(_grad_fn(), limit=limit))
    assert persons.CLIP * 0.999 < moved < persons.CLIP * (1 + 1e-5)


def _clipped_by_row():
  by_row = jax_privacy.clipped_grad(toy.loss, l2_clip_norm=persons.CLIP)

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
  assert _movement(_sum_of(plant())) > 2 * persons.CLIP


@pytest.mark.slow
@pytest.mark.parametrize("plant", _PLANTED)
def test_check_sensitivity_finds_a_fault(plant):
  grouping = _group(_as_ids(_OWNERS), limit=4)
  examples = grouping.take(persons.everyone(grouping), _rows())
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
  rest = oracle.flat64(run(persons.at(data, kept), _OWNERS[kept]))
  gap = oracle.flat64(run(data, _OWNERS)) - rest
  assert np.linalg.norm(gap) > 1.9 * persons.CLIP


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
  assert _movement(_sum_of(_grad_fn(), limit=1)) < persons.CLIP * (1 + 1e-5)
  monkeypatch.setitem(
      globals(), "_group", lambda ids, limit: planted_group(ids, limit)
  )
  assert _movement(_sum_of(_grad_fn(), limit=1)) > 1.2 * persons.CLIP


@pytest.mark.parametrize(
    "method", ["ghost", pytest.param("vmap", marks=pytest.mark.slow)]
)
def test_check_sensitivity_passes_for_persons(method):
  private = persons.private(method=method)
  grouping = _group(_as_ids(_OWNERS), limit=4, num_units=4)
  examples = grouping.take(persons.everyone(grouping), _rows())
  report = testing.check_sensitivity(
      private.grad_fn, toy.params(), examples, max_examples=2
  )
  # The expected number of persons a batch is 2.
  assert report.bounds["add_or_remove_one"] == persons.CLIP / 2


@pytest.mark.slow
def test_check_private_passes_for_persons():
  grouping = _group(_as_ids(_OWNERS), limit=4, num_units=4)
  examples = grouping.take(persons.everyone(grouping), _rows())
  report = testing.check_private(
      persons.private(), toy.params(), examples, mechanism=persons.mechanism(4)
  )
  assert report.noise.stddev == 1.5 * persons.CLIP / 2
