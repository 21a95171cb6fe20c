"""User-level privacy: all rows of a person are one example.

`group` groups rows by person, or by any other privacy unit (a patient, a
hospital, a device), from a column of ids. The sampler then draws persons,
`Grouping.take` gives the rows of each drawn person, and `over_rows` turns the
loss of one row into the loss of one person. So `make_private` clips each
person's gradient once, and epsilon is that person's, however many rows they
have. Evaluation stays by row.

The invariant: every row is in at most one example, and an example depends on
its own unit's rows and id alone. So adding or removing all rows of a unit
changes one example.

Source: user-level sampling and clipping, McMahan et al. 2018 (1710.06963), with
one gradient a person in place of local training.

Example:
  >>> import types
  >>> import numpy as np, jax, jax.numpy as jnp, optax
  >>> from jax_privacy import dp_sgd, privacy_unit
  >>> x = np.arange(6, dtype=np.float32)
  >>> people = privacy_unit.group(
  ...     ["al", "bo", "al", "cy", "al", "bo"],
  ...     num_units=3, max_rows_per_unit=2, key=0)
  >>> mechanism = types.SimpleNamespace(  # or accounting.Mechanism(...)
  ...     noise_multiplier=1.0, num_steps=5, sampling="poisson",
  ...     sampling_prob=0.5, num_examples=people.num_units, max_batch_size=None)
  >>> loss_fn = lambda w, rows: jnp.mean((w - rows["x"]) ** 2)
  >>> private = dp_sgd.make_private(
  ...     privacy_unit.over_rows(loss_fn), optax.sgd(0.1), mechanism,
  ...     l2_clip_norm=1.0, key=jax.random.key(1))
  >>> batch = private.sampler.batch(0)
  >>> examples = people.take(batch, {"x": x})
  >>> examples["rows"]["x"].shape[1:], examples["is_real"].shape[1:]
  ((2,), (2,))
  >>> grads = private.grad_fn(
  ...     jnp.zeros(()), examples, is_padding_example=batch.is_padding_example)
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NoReturn

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import (
    _validate,
    padded_batch,
    root_key,
    unit_ids,
)

REDUCTIONS = ("mean", "sum")
_FORM = (
    '{"rows": arrays [batch_size, max_rows_per_unit, ...], "is_real": bool'
    " [batch_size, max_rows_per_unit]}, as Grouping.take gives it"
)


def group(
    ids: Any,
    *,
    num_units: int | None,
    max_rows_per_unit: int,
    key: root_key.RootKey | chex.PRNGKey | int,
) -> "Grouping":
  """Returns rows grouped by the person, or other unit, that they are of.

  Args:
    ids: One id a row: strings or whole numbers [num_rows], or [num_rows,
      num_columns] where several columns name a unit together; see
      `unit_ids.read`.
    num_units: STATED, public number of units, which accounting uses; None where
      nothing is accounted.
    max_rows_per_unit: Most rows of a unit that are used, and the length that
      its example is padded to.
    key: Chooses the rows of a unit that has more. May be `make_private`'s,
      since what is derived from it is used for nothing else.

  Raises:
    ValueError: If an id is missing, or may be a second spelling of another; if
      there are not `num_units` units; or if an argument breaks its rule. Row
      numbers in its text are private.

  Guarantee: Which rows of a unit are used is a function of the key, the unit's
    id and the number of its rows, for the whole run: other units and other
    rows' order change nothing. It is uniform among sets of that size, as far as
    SHAKE-256 is a random function.
  """
  limit = _validate.integer("max_rows_per_unit", max_rows_per_unit, at_least=1)
  secret = root_key.RootKey.of(key).derive("rows of a unit", 16)
  found = unit_ids.read(ids)
  order = np.argsort(found.codes, kind="stable")
  counts = np.bincount(found.codes)
  if num_units is not None:
    num_units = _validate.integer("num_units", num_units, at_least=1)
    if num_units != len(counts):
      rule = (
          f"the number of units in ids, {len(counts)} (private, not for"
          " release, unless you state it; in a config: data.num_examples, the"
          " number of units of data.unit)"
      )
      _validate.fail("num_units", rule, num_units)
  starts = np.cumsum(counts) - counts
  kept = np.ones(len(order), bool)
  for unit in np.flatnonzero(counts > limit):
    own = slice(starts[unit], starts[unit] + counts[unit])
    name = found.name(order[starts[unit]])
    kept[own] = _chosen(secret + name, counts[unit], limit)
  return Grouping(
      order[kept],
      np.minimum(counts, limit),
      num_rows=len(order),
      num_units=num_units,
      max_rows_per_unit=limit,
  )


def _chosen(seed: bytes, count: int, limit: int) -> np.ndarray:
  """Returns which `limit` of `count` rows are used, bool [count]."""
  digest = hashlib.shake_256(seed).digest(8 * count)
  scores = np.frombuffer(digest, "<u8")
  chosen = np.zeros(count, bool)
  chosen[np.argsort(scores, kind="stable")[:limit]] = True
  return chosen


class Grouping:
  """Which rows are whose; see `group`. PRIVATE but for the numbers below.

  Its length is the number of units that there are: private, where
  add-or-remove-one is the neighbouring relation.

  Args:
    rows: Indices of the rows in use, unit by unit, integers [sum of counts].
    counts: Numbers of rows in use of each unit, integers [number of units].
    num_rows: Number of rows that were grouped.
    num_units: Stated number of units; None where nothing is accounted.
    max_rows_per_unit: Number of rows that an example is padded to.

  Attributes:
    max_rows_per_unit: Rows that an example is padded to.
  """

  def __init__(
      self,
      rows: np.ndarray,
      counts: np.ndarray,
      *,
      num_rows: int,
      num_units: int | None,
      max_rows_per_unit: int,
  ):
    self.max_rows_per_unit = max_rows_per_unit
    self._rows = rows  # Unit by unit.
    self._counts = counts
    self._starts = np.cumsum(counts) - counts
    self._num_rows = num_rows
    self._num_units = num_units

  def __len__(self) -> int:
    return len(self._counts)

  def __repr__(self) -> str:
    return f"Grouping(private; max_rows_per_unit={self.max_rows_per_unit})"

  @property
  def num_units(self) -> int:
    """The stated number of units.

    Raises:
      ValueError: If none was stated.
    """
    if self._num_units is None:
      rule = "stated to be used in accounting (group(..., num_units=...))"
      _validate.fail("num_units", rule, None)
    return self._num_units

  def rows(self, indices: np.ndarray) -> np.ndarray:
    """Returns the numbers of units' rows.

    Args:
      indices: Units, integers [batch_size], each in [0, len(self)) or -1, which
        is padding.

    Returns:
      int64 [batch_size, max_rows_per_unit]: rows in ascending order, then -1.

    Raises:
      ValueError: If they are no such integers.
    """
    indices = np.asarray(indices)
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
      got = f"{indices.dtype} {list(indices.shape)}"
      _validate.fail("indices", "integers [batch_size]", got)
    wrong = (indices < -1) | (indices >= len(self))
    if wrong.any():
      rule = f"-1 (padding) or in [0, {len(self)})"
      _validate.fail("indices", rule, int(indices[wrong.argmax()]))
    indices = indices.astype(np.int64)
    slots = np.arange(self.max_rows_per_unit)
    is_real = slots < np.where(indices < 0, 0, self._counts[indices])[:, None]
    places = np.where(is_real, self._starts[indices][:, None] + slots, 0)
    return np.where(is_real, self._rows[places], -1)

  def take(self, batch: padded_batch.PaddedBatch, examples: Any) -> Any:
    """Returns the rows of a batch of units.

    Args:
      batch: The sampler's batch, of a mechanism whose `num_examples` is the
        number of units; not traced.
      examples: A pytree of arrays [num_rows, ...].

    Returns:
      {"rows": the same pytree of arrays [batch_size, max_rows_per_unit, ...],
      "is_real": bool [batch_size, max_rows_per_unit]}; zeros where no row is.

    Raises:
      ValueError: If the batch is drawn from another number of examples, or an
        array is not of one row an id.
    """
    if not isinstance(batch, padded_batch.PaddedBatch):
      rule = "the sampler's, a PaddedBatch"
      _validate.fail("batch", rule, type(batch).__name__)
    if isinstance(batch.indices, jax.core.Tracer):
      rule = "concrete: call take outside jit, and pass on what it gives"
      _validate.fail("batch", rule, "a traced one")
    if batch.num_examples not in (None, len(self)):
      rule = (
          f"the number of units, {len(self)} ({_validate.PRIVATE}, unless"
          " you state it), since each is one example (make the mechanism and"
          " its sampler with that)"
      )
      _validate.fail("num_examples of the mechanism", rule, batch.num_examples)
    for path, leaf in jax.tree_util.tree_leaves_with_path(examples):
      if np.shape(leaf)[:1] != (self._num_rows,):
        name = f"examples{jax.tree_util.keystr(path)}"
        rule = f"an array of {self._num_rows} rows, one an id"
        _validate.fail(name, rule, f"shape {np.shape(leaf)}")
    rows = self.rows(np.asarray(batch.indices))
    flat = padded_batch.PaddedBatch(rows.reshape(-1), self._num_rows)
    taken = jax.tree.map(
        lambda x: x.reshape(*rows.shape, *x.shape[1:]), flat.take(examples)
    )
    return {"rows": taken, "is_real": rows >= 0}


def over_rows(
    loss_fn: Callable[..., Any],
    *,
    reduction: str = "mean",
    has_aux: bool = False,
    keep_batch_dim: bool = True,
    prng_argnum: int | None = None,
) -> Callable[..., Any]:
  """Turns the loss of one row into the loss of one unit, over its real rows.

  Args:
    loss_fn: `loss_fn(params, row, ...)`, as for `make_private`.
    reduction: Name, "mean" or "sum", of what to take of the losses of a unit's
      own rows. A mean gives every person the same weight before clipping.
    has_aux: Whether `loss_fn` returns `(loss, aux)`. Aux then has an
      entry for every row, [max_rows_per_unit, ...]; where no row is, another
      row's.
    keep_batch_dim: Whether `loss_fn` takes rows with a leading axis of size 1,
      as `make_private`'s option of that name says; give both the same.
    prng_argnum: Position of an argument of `loss_fn` that is a PRNG key. The
      unit has one key, and each row its own, by its place in the unit.

  Returns:
    A loss of one unit, with the same arguments; the second is what
    `Grouping.take` returns. Of several units, it is their mean.

  Raises:
    ValueError: If an argument breaks its rule. From the loss, if it is given
      rows that are not grouped.

  Guarantee: Slots without a row add exactly zero, whatever the loss makes of
    zeros; a unit without rows has a loss and a gradient of zero. The number of
    rows that a mean is divided by is the unit's own.
  """
  if reduction not in REDUCTIONS:
    _validate.fail("reduction", f"one of {REDUCTIONS}", reduction)

  @functools.wraps(loss_fn)
  def unit_loss_fn(params, units, *rest):
    rows, is_real = _split(units, keep_batch_dim)
    num_slots = is_real.size
    # Slots without a row get a copy of the unit's first: of zeros, a loss may
    # be NaN, and a gradient of NaN times zero is NaN.
    rows = jax.tree.map(lambda x: _filled(x, is_real), rows)
    places = jnp.tile(jnp.arange(is_real.shape[1]), len(is_real))

    def row_loss_fn(row, place):
      args = [params, row, *rest]
      if keep_batch_dim:
        args[1] = jax.tree.map(lambda x: jnp.expand_dims(x, 0), row)
      if prng_argnum is not None:
        args[prng_argnum] = jax.random.fold_in(args[prng_argnum], place)
      out = loss_fn(*args)
      return out if has_aux else (out, None)

    losses, aux = jax.vmap(row_loss_fn)(rows, places)
    losses = jnp.reshape(losses, is_real.shape)
    loss = jnp.mean(_reduced(losses, is_real, reduction))
    if not has_aux:
      return loss
    shape = is_real.shape if keep_batch_dim else (num_slots,)
    return loss, jax.tree.map(lambda x: _of_rows(x, shape), aux)

  return unit_loss_fn


def _split(units, keep_batch_dim) -> tuple[Any, jax.Array]:
  """Returns rows [n, num_slots, ...] and which are real, [n, num_slots]."""
  is_grouped = isinstance(units, dict) and set(units) == {"rows", "is_real"}
  if not is_grouped:
    got = "an array" if hasattr(units, "shape") else type(units).__name__
    if isinstance(units, dict):
      got = f"a dict of {', '.join(map(str, units))}"
    _fail_batch(got)
  rows, is_real = units["rows"], jnp.asarray(units["is_real"])
  ndim = 2 if keep_batch_dim else 1
  shapes = {jnp.shape(x)[:ndim] for x in jax.tree.leaves(rows)}
  if (
      is_real.dtype != jnp.bool_
      or is_real.ndim != ndim
      or (shapes != {is_real.shape})
  ):
    got = f"is_real {is_real.dtype} {is_real.shape} and rows {sorted(shapes)}"
    _fail_batch(got)
  rows = jax.tree.map(jnp.asarray, rows)
  if keep_batch_dim:
    return rows, is_real
  return jax.tree.map(lambda x: x[None], rows), is_real[None]


def _fail_batch(got) -> NoReturn:
  raise ValueError(f"the batch must be {_FORM}, got {got}.")


def _filled(x, is_real) -> jax.Array:
  """Returns [n * num_slots, ...] with no slot empty."""
  mask = is_real.reshape(*is_real.shape, *[1] * (x.ndim - 2))
  first = jnp.broadcast_to(x[:, :1], x.shape)
  # Not -1: an array without columns has no size to go by.
  return jnp.where(mask, x, first).reshape(is_real.size, *x.shape[2:])


def _reduced(losses, is_real, reduction) -> jax.Array:
  """Returns a loss for each unit, [n]."""
  total = jnp.sum(jnp.where(is_real, losses, jnp.zeros_like(losses)), axis=1)
  if reduction == "sum":
    return total
  num_real = jnp.maximum(jnp.sum(is_real, axis=1), 1)
  return total / num_real.astype(losses.dtype)


def _of_rows(x, shape) -> jax.Array:
  """Returns aux of rows by unit, without the axis of size 1 of each row."""
  x = jnp.squeeze(x, 1) if x.shape[1:2] == (1,) else x
  return x.reshape(*shape, *x.shape[1:])
