"""Which parameters are cut into disjoint pieces, and putting them together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.ghost import graph, pieces
from tests.support import float16

_W = jnp.arange(48.0).reshape(6, 8)
_X = jnp.ones((5, 6))


def _split(fun, *leaves, row=_X):
  loss = lambda leaves, rows: (jnp.sum(jnp.sin(fun(*leaves, *rows))), [])
  return graph.split(loss, leaves, [row])


def _halves(w, x):
  a, b = jnp.split(w, 2, axis=1)
  return jnp.tanh(x @ a) * (x @ b)


def _grid(w, x):
  """Four blocks; no one axis tells them all apart."""
  upper = jnp.tanh(x[:, :3] @ w[:3, :4]) * (x[:, :3] @ w[:3, 4:])
  return upper + (x[:, 3:] @ w[3:, :4]) * (x[:, 3:] @ w[3:, 4:])


def _layers(w, x):
  stack = w.reshape(2, 4, 6).astype("float16").astype("float32")
  return (x @ stack[0].T) * (x @ stack[1].T)


def _nested(w, x):
  first, second = jnp.split(w.T, [5], axis=0)
  return (x @ first[::2].T) * (x @ first[1:4:2][:1].T) + x @ second[-1:].T


def _unstacked(w, x):
  rows = jnp.unstack(w)
  return sum(x[:, i : i + 1] * row[None] for i, row in enumerate(rows))


_CUT = {
    "halves": (_halves, [(6, 4), (6, 4)]),
    "grid": (_grid, [(3, 4)] * 4),
    "layers": (_layers, [(1, 4, 6)] * 2),
    "nested": (_nested, [(3, 6), (1, 6), (1, 6)]),
    "unstacked": (_unstacked, [(8,)] * 6),
    "one_slice": (lambda w, x: x @ w[:, 2:5], [(6, 3)]),
    "not_all_used": (lambda w, x: x @ jnp.split(w, 4, 1)[2], [(6, 2)]),
    "strides": (
        lambda w, x: jnp.sum(x @ w[:, 1::3]) * (x @ w[:, ::3]),
        [(6, 3), (6, 3)],
    ),
}


@pytest.mark.parametrize("name", list(_CUT))
def test_pieces_cover_what_is_used_once(name):
  fun, shapes = _CUT[name]
  split = _split(fun, _W)
  assert sorted(p.var.aval.shape for p in split.pieces) == sorted(shapes)
  assert {p.leaf for p in split.pieces} == {0}
  assert len(split.components) == len(shapes)


@pytest.mark.parametrize("name", list(_CUT))
def test_joined_pieces_are_the_parameter(name):
  if name == "layers":  # It rounds its parameter.
    float16.skip_if_missing(jnp.float16)
  split = _split(_CUT[name][0], _W)
  shared = split.run_shared([_W])
  values = {p.var: shared[p.var].astype("float32") for p in split.pieces}
  joined = pieces.join(split.cuts[0], values)
  assert joined.shape == _W.shape
  is_used = joined != 0  # All entries of w but the first are not 0.
  np.testing.assert_array_equal(joined, jnp.where(is_used, _W, 0))
  sizes = sum(p.var.aval.size for p in split.pieces)
  assert np.count_nonzero(is_used) in (sizes, sizes - 1)


@pytest.mark.parametrize(
    "fun",
    [
        lambda w, x: x @ w,
        lambda w, x: x @ w.T.T,
        # An entry in two pieces, ...
        lambda w, x: jnp.tanh(x @ w[:, :5]) * (x @ w[:, 3:]),
        lambda w, x: (x @ w[:, ::2]) * (x @ w[:, ::4])[:, :1],
        lambda w, x: (x @ w[:, ::2]) * (x @ w[:, 3:7]),
        lambda w, x: (x @ w[:, 1:2]) * (x @ w[:, 1:2]),
        # ... in a piece and in the whole, at a site or before it.
        lambda w, x: jnp.sum(x @ w[:, :4]) * (x @ w),
        lambda w, x: jnp.sum(x @ w[:, :4]) * (x @ jnp.tanh(w)),
        # Something that is no isometry comes first.
        lambda w, x: x @ (2 * w)[:, :4] * (x @ (2 * w)[:, 4:]),
        # Data say where it is cut.
        lambda w, x: x[:, :1] * jax.lax.dynamic_slice(
            w, (x[0, 0].astype(int), 0), (1, 8)
        ),
    ],
)  # fmt: skip
def test_what_is_not_cut_is_one_piece(fun):
  split = _split(fun, _W)
  (piece,) = split.pieces
  assert piece.var is split.leaf_vars[0] and len(split.components) == 1


def test_what_has_no_gradient_does_not_count():
  # Read whole, but by what no gradient flows through, and by aux.
  def loss(leaves, rows):
    (w,) = leaves
    scale = jnp.sum(jax.lax.stop_gradient(w))
    return jnp.sum(_halves(w, rows[0])) * scale, {"w": w}

  assert len(graph.split(loss, [_W], [_X]).pieces) == 2


def test_many_boxes_are_not_compared_pair_by_pair(monkeypatch):
  monkeypatch.setattr(pieces, "_share_nothing", None)
  rows = [(range(i, i + 1), range(2)) for i in range(1000)]
  assert pieces._are_disjoint(rows)
  # Where no axis tells them apart, they are taken to share an entry.
  assert not pieces._are_disjoint([*rows, (range(2), range(1))])


def test_boxes_that_share_an_entry_are_seen():
  box = lambda *ends: tuple(range(a, b) for a, b in ends)
  apart = [box((0, 2), (0, 9)), box((2, 4), (0, 4)), box((2, 4), (4, 9))]
  assert pieces._are_disjoint(apart)
  assert not pieces._are_disjoint([*apart, box((1, 3), (8, 9))])
  assert pieces._are_disjoint([box((3, 3), (0, 9)), box((0, 9), (0, 9))])
