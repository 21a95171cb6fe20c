"""Ghost clipping of dense layers and einsums: every rank, both norm forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo

_ARRAYS = zoo.Arrays(0)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch


def _dense_loss(params, x, y):
  out = x @ params["w"]
  if "b" in params:
    out = zoo.add_bias(out, params["b"])
  return jnp.sum(jnp.tanh(out) * y)


def _dense(*shape, width, bias):
  params = {"w": _normal(shape[-1], width) / np.sqrt(shape[-1])}
  if bias:
    params["b"] = _normal(width)
  return zoo.both(
      name=f"{'x'.join(map(str, shape))}-{width}{'-bias' * bias}",
      loss=_dense_loss,
      params=params,
      batch=(_batch(*shape), _normal(4, *shape[:-1], width)),
      runs=zoo.NOT_JITTED if len(shape) < 3 else zoo.RUNS,
  )


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "case",
    # One position; few positions of many features, where the Gram form is the
    # cheaper one; many positions of few features, where x^T z is.
    [c for bias in (False, True) for c in _dense(6, width=3, bias=bias)]
    + [c for bias in (False, True) for c in _dense(2, 16, width=12, bias=bias)]
    + [c for bias in (False, True) for c in _dense(9, 3, width=2, bias=bias)]
    + [c for bias in (False, True) for c in _dense(2, 3, 7, width=5, bias=bias)]
    + _dense(2, 3, 2, 3, width=2, bias=True),
    ids=str,
)
def test_dense(case):
  zoo.check(case)


def _mlp_loss(params, x, label):
  x = x.reshape(-1, x.shape[-1])
  for layer in params[:-1]:
    x = jax.nn.relu(zoo.add_bias(x @ layer["w"], layer["b"]))
  logits = zoo.add_bias(x @ params[-1]["w"], params[-1]["b"])
  log_probs = jax.nn.log_softmax(logits)
  picked = jnp.take_along_axis(log_probs, label.reshape(-1, 1), axis=1)
  return -jnp.mean(picked)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "case",
    zoo.both(
        name="mlp",
        loss=_mlp_loss,
        params=[
            {"w": _normal(i, o) / np.sqrt(i), "b": _normal(o)}
            for i, o in [(7, 6), (6, 9), (9, 3)]
        ],
        batch=(_batch(7), np.array([0, 2, 1, 2])),
    ),
    ids=str,
)
def test_mlp(case):
  zoo.check(case)


def _einsum(spec, x, w, run=zoo.F64):
  return zoo.Case(
      name=spec.replace("->", "_to_").replace(",", "_"),
      loss=lambda w, x: jnp.mean(jnp.sin(jnp.einsum(spec, x, w))),
      params=_normal(*w),
      batch=(_batch(*x),),
      options={"keep_batch_dim": False},
      run=run,
      runs=zoo.NOT_JITTED,
  )


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "case",
    [
        _einsum("i,i->", (4,), (4,)),
        _einsum("i,ij->j", (4,), (4, 3), zoo.F32),
        _einsum("i,ji->j", (4,), (3, 4), zoo.F32),
        _einsum("ti,io->ot", (3, 4), (4, 2), zoo.EAGER),
        _einsum("it,io->to", (4, 3), (4, 2), zoo.F32),
        _einsum("td,dhk->htk", (3, 4), (4, 2, 5)),  # Query, key or value.
        _einsum(
            "hsk,hko->so", (2, 3, 5), (2, 5, 4), zoo.F32
        ),  # Attention's output.
        _einsum("stij,ij->st", (2, 3, 4, 2), (4, 2), zoo.F32),
        _einsum("stij,jiok->tsko", (2, 3, 4, 2), (2, 4, 3, 2), zoo.F32),
        # Axes that stay in both operands: a weight of its own for each.
        _einsum("gi,gio->go", (3, 4), (3, 4, 2)),
        _einsum("gti,gio->gto", (3, 5, 4), (3, 4, 2)),
        _einsum("tgi,ogi->gto", (5, 3, 4), (2, 3, 4)),
        _einsum("ghti,hgio->thgo", (2, 3, 4, 3), (3, 2, 3, 2), zoo.F32),
        _einsum("ti,ti->t", (3, 4), (3, 4)),
        _einsum("ti,ti->ti", (3, 4), (3, 4), zoo.F32),
        _einsum("ti,i->ti", (3, 4), (4,)),
        # No axis in common, and axes that are summed in one operand alone.
        _einsum("t,d->td", (3,), (4,), zoo.F32),
        _einsum("ti,do->td", (3, 4), (2, 5), zoo.F32),
        _einsum("ti,->t", (3, 4), ()),
    ],
    ids=str,
)
def test_einsum(case):
  zoo.check(case)


def _expert_loss(params, x):
  gate = jax.nn.softmax(x @ params["gate"])
  out = jnp.einsum("...i,gio->...go", x, params["experts"])
  return jnp.sum(jnp.sin(out) * gate[..., None])


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        zoo.Case(
            name="weight_on_the_left",
            loss=lambda w, x: jnp.sum(jnp.cos(w @ x)),
            params=_normal(3, 4),
            batch=(_batch(4, 5),),
            options={"keep_batch_dim": False},
        ),
        zoo.Case(
            name="transposed_weight",
            loss=lambda w, x: jnp.sum(jnp.cos(x @ w.T)),
            params=_normal(3, 4),
            batch=(_batch(5, 4),),
            run=zoo.F32,
        ),
        zoo.Case(
            name="weight_meets_activations_of_another_weight",
            loss=lambda p, x: jnp.sum(
                jnp.tanh(x @ p["a"]) @ p["b"] @ jnp.cos(p["b"]).T
            ),
            params={"a": _normal(4, 3), "b": _normal(3, 2)},
            batch=(_batch(5, 4),),
        ),
        zoo.Case(
            name="product_of_two_weights_before_the_data",
            loss=lambda p, x: jnp.sum(jnp.sin(x @ (p["a"] @ p["b"]))),
            params={"a": _normal(4, 2), "b": _normal(2, 3)},
            batch=(_batch(2, 4),),
        ),
        zoo.Case(
            name="bilinear",
            loss=lambda w, x, y: jnp.sin(jnp.einsum("bi,ijk,bj->", x, w, y)),
            params=_normal(4, 3, 2),
            batch=(_batch(4), _batch(3)),
        ),
        zoo.Case(
            name="data_between_two_uses_of_a_weight",
            loss=lambda w, x: jnp.sum(w.T @ (x.T @ jnp.sin(x @ w))),
            params=_normal(4, 3),
            batch=(_batch(3, 4),),
            options={"keep_batch_dim": False},
            run=zoo.F32,
        ),
        zoo.Case(
            name="weight_masked_by_the_data",
            loss=lambda w, x: jnp.sum(
                jnp.sin(x @ jnp.where(x[0][:, None] > 0, w, 0.5 * w))
            ),
            params=_normal(4, 3),
            batch=(_batch(4),),
            run=zoo.F32,
        ),
        *zoo.both(
            name="mixture_of_experts",
            loss=_expert_loss,
            params={"gate": _normal(4, 3), "experts": _normal(3, 4, 2)},
            batch=(_batch(5, 4),),
        ),
        zoo.Case(
            name="highest_precision",
            loss=lambda w, x: jnp.sum(
                jnp.sin(jnp.dot(x, w, precision=jax.lax.Precision.HIGHEST))
            ),
            params=_normal(4, 3),
            batch=(_batch(2, 4),),
            run=zoo.F32,
        ),
    ],
    ids=str,
)
def test_products(case):
  zoo.check(case)


@pytest.mark.few(1)
@pytest.mark.parametrize("num_positions", [1, 16, 2048])
def test_cancelling_positions_stay_under_the_clip_norm(num_positions):
  # Positions in pairs whose gradients, of 1e6, cancel to 1: a Gram form that
  # loses the difference of large squares must err towards clipping.
  arrays = zoo.Arrays(num_positions)
  base = np.repeat(arrays.normal(num_positions, 3), 2, axis=0)
  signs = np.tile([1.0, -1.0], num_positions)
  x = 1e6 * base + arrays.normal(*base.shape)
  loss = lambda w, x, y: jnp.sum((x @ w) * y)
  zoo.check_bound(
      zoo.Case(
          name="cancelling",
          loss=loss,
          params=arrays.normal(3, 2),
          batch=(x[None], np.repeat(signs[:, None], 2, axis=1)[None]),
      ),
      clip_norms=(1e-3, 1.0, 1e3),
  )
