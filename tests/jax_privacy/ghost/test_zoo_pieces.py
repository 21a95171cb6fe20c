"""Ghost clipping of parameters that are cut before use: losses of all kinds."""

import jax.numpy as jnp
import pytest

from jax_privacy.ghost import pieces
from jax_privacy.models import layers
from tests.support import zoo

_ARRAYS = zoo.Arrays(41)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch


def _halves(w, x):
  gate, value = jnp.split(w, 2, axis=1)
  return zoo.readout(jnp.tanh(x @ gate) * (x @ value))


def _attention(p, x):
  query, key, value = jnp.split(p["qkv"], 3, axis=1)
  scores = jnp.tanh(x @ query @ jnp.swapaxes(x @ key, -1, -2))
  bias = p["bias"].reshape(3, 3)
  return zoo.readout(scores @ zoo.add_bias(x @ value, bias[1]) @ p["out"])


def _stacked(p, x):
  for i in range(2):
    y = zoo.add_bias(x @ p["w"][i], p["b"][i])
    x = x + jnp.sin(y) @ p["back"].reshape(2, 4, 3)[i]
  return zoo.readout(x)


def _some_rows(table, ids):
  return zoo.readout(jnp.sin(table[1:-2][ids]))


def _strided(w, x):
  return zoo.readout(jnp.tanh(x @ w[:, ::2]) * (x @ w[:, 1::2]))


def _standardised(p, x):
  first, second = jnp.split(p["w"], 2)
  y = jnp.tanh(x @ layers.standardise_weight(first, p["gain"][:3]))
  return zoo.readout(y * (x @ layers.standardise_weight(second, p["gain"][3:])))


def _tied_piece(w, x):
  # One of the pieces is used at two sites.
  first, second = jnp.split(w, 2, axis=0)
  return zoo.readout(jnp.tanh(x @ first) @ first.T @ jnp.tanh(second))


def _overlapping(w, x):
  return zoo.readout(jnp.tanh(x @ w[:, :3]) * (x @ w[:, 1:]))


def _case(name, loss, params, batch, **options):
  return zoo.Case(
      name=name, loss=loss, params=params, batch=(batch,), **options
  )


_ATTENTION = {"qkv": _normal(4, 9), "bias": _normal(9), "out": _normal(3, 2)}
_CASES = [
    _case("halves", _halves, _normal(4, 6), _batch(5, 4)),
    _case("one_position", _halves, _normal(4, 6), _batch(1, 4), run=zoo.F32),
    _case("attention", _attention, _ATTENTION, _batch(5, 4)),
    _case(
        "clipped_by_part",
        _attention,
        _ATTENTION,
        _batch(5, 4),
        clip_norm={"qkv": 1.0, "bias": 0.5, "out": 2.0},
        padding=[False, True, False, False],
    ),
    _case(
        "stacked",
        _stacked,
        {"w": _normal(2, 3, 4), "b": _normal(2, 4), "back": _normal(8, 3)},
        _batch(5, 3),
        runs=zoo.NOT_JITTED,
    ),
    _case(
        "some_rows",
        _some_rows,
        _normal(9, 3),
        _ARRAYS.integers(-7, 8, 4, 5),
        run=zoo.F32,
    ),
    _case("strided", _strided, _normal(4, 6), _batch(5, 4)),
    _case(
        "standardised",
        _standardised,
        {"w": _normal(8, 3), "gain": _normal(6)},
        _batch(5, 4),
    ),
    _case("tied_piece", _tied_piece, _normal(6, 4), _batch(5, 3)),
    _case("overlapping", _overlapping, _normal(4, 4), _batch(5, 4)),
]


@pytest.mark.few(2)
@pytest.mark.parametrize("case", _CASES, ids=str)
def test_pieces(case):
  zoo.check(case)


def test_pieces_that_overlap_unseen_are_seen(monkeypatch):
  # An entry of two pieces would count as two.
  monkeypatch.setattr(pieces, "_are_disjoint", lambda boxes: True)
  with pytest.raises(AssertionError):
    zoo.check(_CASES[-1])
