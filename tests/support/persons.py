"""Rows of four persons, one of whom has four, and a pipeline over persons."""

import types

import jax
import numpy as np
import optax

from jax_privacy import dp_sgd, padded_batch, privacy_unit
from tests.support import toy

IDS = np.array(["al", "bo", "al", "cy", "al", "bo", "di", "al"])
CLIP = 0.5


def mechanism(num_examples):
  return types.SimpleNamespace(
      noise_multiplier=1.5,
      num_steps=6,
      sampling="poisson",
      sampling_prob=0.5,
      num_examples=num_examples,
      max_batch_size=None,
  )


def group(ids=IDS, *, limit=2, num_units=None, key=0):
  return privacy_unit.group(
      ids, num_units=num_units, max_rows_per_unit=limit, key=key
  )


def everyone(grouping, size=None):
  """A batch of all units, padded to a size."""
  size = len(grouping) if size is None else size
  indices = np.full(size, -1, np.int32)
  indices[: len(grouping)] = np.arange(len(grouping))
  return padded_batch.PaddedBatch(indices)


def private(num_units=4, **options):
  return dp_sgd.make_private(
      privacy_unit.over_rows(toy.loss),
      optax.sgd(0.1),
      mechanism(num_units),
      l2_clip_norm=CLIP,
      key=jax.random.key(0),
      **options,
  )


def at(data, rows):
  rows = np.asarray(rows)
  return jax.tree.map(lambda x: np.asarray(x)[rows], data)


def used(grouping):
  """Rows used, as a set for each unit."""
  rows = grouping.rows(np.arange(len(grouping)))
  return [{*own[own >= 0].tolist()} for own in rows]
