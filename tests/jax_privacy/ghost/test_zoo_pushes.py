"""Ghost clipping where a weight is made of parameters, part by part.

The parts meet the data by themselves, so each has a rule; a mask stays.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy.ghost import costs, lookups, masks, products
from tests.support import zoo

_SLOW = pytest.mark.slow
_ARRAYS = zoo.Arrays(51)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch
_X, _ONE = _batch(5, 8), _batch(8)
_IDS = _ARRAYS.integers(-8, 11, 4, 5)  # Some are out of range, some negative.
_W, _TABLE = _normal(8, 8), _normal(9, 3)
_LORA = {"a": _normal(8, 2), "b": _normal(2, 8), "c": _normal(2, 8)}
_FIXED, _MASK = _normal(8, 8), np.tril(np.ones((8, 8)))


def _lora(p, x):
  """A merged update, transposed updates, and one that all layers share."""
  fixed = jnp.asarray(_FIXED, x.dtype)
  h = jnp.tanh(x @ (fixed + 0.5 * (p["a"] @ p["b"])))
  h = jnp.tanh(h @ (fixed - (p["b"].T @ p["c"]).T))
  h = ((fixed + p["c"].T @ p["b"]).T @ h.T).T
  layer = lambda h, w: (jnp.tanh(h @ (w + p["a"] @ p["c"] / 3)), None)
  return zoo.readout(jax.lax.scan(layer, h, jnp.stack([fixed, 2 * fixed]))[0])


def _scales(p, x):
  """Scales along rows and columns, some learned, before and behind a move."""
  w = p["w"] * p["row"][:, None] / jnp.arange(1.0, 9.0, dtype=x.dtype)[None]
  h = x @ (2 * w).T
  h = jnp.einsum("ti,gio->gto", h, p["grouped"] * p["group"][:, None, None])
  last = p["last"] * p["row"][:, None]
  return zoo.readout(last.T @ jnp.tanh(x).T) + zoo.readout(h)


def _rows(p, ids):
  """Tables with a row that is masked, with rows of padding, of two tables."""
  keep = (jnp.arange(9) > 0)[:, None]
  masked = jnp.where(keep, p["table"], 0.25) * p["gain"][None]
  padded = jnp.pad(p["other"], ((1, 2), (0, 0)), constant_values=0.5)
  joined = jnp.concatenate([p["other"], jnp.zeros((1, 3), masked.dtype)])
  h = masked[ids] + jnp.take(padded, ids, axis=0, mode="clip")
  h = h * jnp.take(joined, ids, axis=0, fill_value=0.1)
  return zoo.readout(jnp.tanh(h) @ (3 * p["table"]).T)


def _masked(p, x):
  """Masks of whole matrices, at several positions and at one."""
  mask = jnp.asarray(_MASK, x.dtype)
  h = jnp.tanh(x @ (p["v"] * mask + mask))
  h = h @ jnp.where(mask > 0, 1.5, p["w"]).T
  return zoo.readout(jnp.mean(h, axis=0) @ (mask.T * p["u"] / 3))


_PARAMS = {
    "scales": {"w": _W, "row": _normal(8), "grouped": _normal(2, 8, 3),
               "group": _normal(2), "last": _normal(8, 3)},
    "rows": {"table": _TABLE, "other": _normal(6, 3), "gain": _normal(3)},
    "masked": {"v": _W, "w": _normal(8, 8), "u": _normal(8, 8)},
}  # fmt: skip


def _case(name, loss, params, data, run=zoo.F64, **options):
  options = {"keep_batch_dim": False, **options}
  return zoo.Case(
      name=name,
      loss=loss,
      params=params,
      batch=(data,),
      options=options,
      run=run,
      runs=(zoo.F32,),
  )


_CASES = {
    "lora": _case("lora", _lora, _LORA, _X),
    "scales": _case("scales", _scales, _PARAMS["scales"], _X),
    "rows": _case("rows", _rows, _PARAMS["rows"], np.clip(_IDS, 0, 8)),
    "masked": _case("masked", _masked, _PARAMS["masked"], _X, run=zoo.F32),
}


def _by_gram(monkeypatch):
  """Norms are in closed form wherever there is one."""
  rates = dataclasses.replace(costs.RATES["cpu"], gram=1e30, moved=1e-3)
  monkeypatch.setitem(costs.RATES, "cpu", rates)


def test_masked_in_closed_form(monkeypatch):
  _by_gram(monkeypatch)
  assert _explained(_CASES["masked"])["u"].plan == "ghost"
  zoo.check(_CASES["masked"])


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "name",
    [
        "lora",
        "rows",
        *(pytest.param(n, marks=_SLOW) for n in ("scales", "masked")),
    ],
)
def test_made_of_parts(name):
  zoo.check(_CASES[name])


def _explained(case):
  grad_fn = jax_privacy.clipped_grad(
      case.loss, l2_clip_norm=1.0, **case.options
  )
  rows = grad_fn.explain(*zoo.cast(case.args, "float32")).rows
  return {row.parameter: row for row in rows}


def test_parts_have_rules():
  rows = _explained(_CASES["lora"])
  assert {row.rule for row in rows.values()} == {"dense x3", "dense x4"}
  rows = _explained(_CASES["scales"])
  assert rows["w"].rule == rows["grouped"].rule == rows["last"].rule == "dense"
  assert rows["row"].rule == "vjp of mul x2"
  rows = _explained(_CASES["rows"])
  assert rows["table"].rule == "embedding, dense"
  assert rows["other"].rule == "embedding x2"
  rows = _explained(_CASES["masked"])
  assert all(row.rule == "dense" for row in rows.values())


@pytest.mark.parametrize(
    "mode", ["fill", *(pytest.param(m, marks=_SLOW) for m in ("clip", None))]
)
def test_ids_out_of_range_read_what_they_read(mode):
  def loss(p, ids):
    keep = (jnp.arange(9) > 0)[:, None]
    masked = jnp.where(keep, p["table"], 0.25)
    joined = jnp.concatenate([p["other"], p["other"][:3]])
    take = lambda t: jnp.nan_to_num(jnp.take(t, ids, axis=0, mode=mode))
    return (
        zoo.readout(take(masked))
        + zoo.readout(take(joined))
        + 0 * jnp.sum(p["gain"])
    )

  zoo.check(_case("ids", loss, _PARAMS["rows"], _IDS))


def _temporary(case, shapes):
  grad_fn = jax_privacy.clipped_grad(
      case.loss, l2_clip_norm=1.0, **case.options
  )
  compiled = jax.jit(grad_fn).lower(*shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_no_table_is_made_for_each_example():
  shape = lambda *axes: jax.ShapeDtypeStruct(axes, "float32")
  keep = jnp.ones((4000, 1)).at[0].set(0)
  loss = lambda p, ids: jnp.sum(jnp.sin((p * keep)[ids]))
  ids = jax.ShapeDtypeStruct((64, 3), "int32")
  case = _case("table", loss, None, None)
  # One table is 4000 x 5 numbers of 4 bytes.
  assert _temporary(case, (shape(4000, 5), ids)) < 3 * 80_000


def test_a_masked_gradient_is_made_a_few_examples_at_a_time():
  shape = lambda *axes: jax.ShapeDtypeStruct(axes, "float32")
  mask = jnp.tri(256)
  loss = lambda w, x: jnp.sum(jnp.sin(x @ (w * mask)))
  case = _case("mask", loss, None, None)
  for axes in ((64, 256), (64, 4, 256)):
    # One gradient is 256 x 256 numbers of 4 bytes; x and z are 1 or 4 of 64.
    assert _temporary(case, (shape(256, 256), shape(*axes))) < 1_200_000


@pytest.mark.parametrize(
    "name, module, function",
    [
        pytest.param("lora", products, "_with", marks=_SLOW),
        pytest.param("rows", lookups, "_rows", marks=_SLOW),
        ("masked", masks, "scale"),
    ],
)
def test_a_part_that_is_off_is_seen(monkeypatch, name, module, function):
  _by_gram(monkeypatch)
  right = getattr(module, function)

  def off(*args):
    value = right(*args)
    return value * jnp.asarray(1.01).astype(value.dtype)

  monkeypatch.setattr(module, function, off)
  with pytest.raises(AssertionError):
    zoo.check(_CASES[name])
