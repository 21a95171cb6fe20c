"""Losses that were written to break clipping through loops and checkpoints.

Each is clipped in one pass, and in two if it may be. It may not where squares
of norms must not be added; the reason is part of the case.
"""

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

import jax_privacy
from jax_privacy import jaxprs
from jax_privacy.ghost import loops
from tests.support import zoo

_ARRAYS = zoo.Arrays(77)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch
_W, _STACK, _BIASES = 0.6 * _normal(3, 3), 0.6 * _normal(4, 3, 3), _normal(4, 3)
_X = _batch(5, 3)
_LAYERS = {"w": _STACK, "b": _BIASES}
_SAME = "is the same in every iteration of a loop"
_ELSEWHERE = "is used elsewhere too"
_SEVERAL = "is used in several places of a loop or checkpoint"
_BACK = "gives a parameter back"
_CHANGED = "is changed before it enters a loop"


def _scan(step, init, xs, **options):
  return jax.lax.scan(step, init, xs, **options)


def _last(step, init, xs, **options):
  return zoo.readout(_scan(step, init, xs, **options)[0])


_DENSE = jax.checkpoint(lambda h, w: (jnp.tanh(h @ w), None))


def _loop_in_branch(p, x):
  yes = lambda x: _scan(_DENSE, x, p)[0]
  return zoo.readout(jax.lax.cond(jnp.sum(x) > 0, yes, lambda x: x @ p[0], x))


def _branch_in_checkpoint(p, x):
  @jax.checkpoint
  def step(h, w):
    yes, no = (lambda h: jnp.tanh(h @ w)), (lambda h: h * w[0][None])
    return jax.lax.cond(jnp.sum(h) > 0, yes, no, h), None

  return _last(step, x, p)


def _both_ways(p, x):
  return _last(_DENSE, _scan(_DENSE, x, p)[0], p, reverse=True)


def _odd_unroll(p, x):
  return _last(_DENSE, x, p[:3], unroll=2)


def _no_iterations(p, x):
  step = jax.checkpoint(lambda h, w: (h, jnp.tanh(h @ w)))
  h, ys = _scan(step, x, p[:0])
  return zoo.readout(h @ p[1]) + jnp.sum(ys)


def _counted_inside(p, x):
  @jax.checkpoint
  def step(h, w):
    start = jax.lax.stop_gradient(jnp.sum(h) + w[0, 0])
    scale, _ = jax.lax.while_loop(
        lambda c: c[1] < 3, lambda c: (c[0] * 1.5, c[1] + 1), (start, 0)
    )
    return jnp.tanh(h @ w) * jnp.cos(scale), None

  return _last(step, x, p)


def _join(left, right):
  return left[0] * right[0], right[0] * left[1] + right[1]


def _associative(p, x):
  decay = jax.nn.sigmoid(p["a"])[None] * jnp.ones_like(x)
  _, h = jax.lax.associative_scan(_join, (decay, x @ p["w"]))
  return zoo.readout(h @ p["o"])


def _complex_recurrence(p, x):
  decay = jnp.exp(jax.lax.complex(-jnp.exp(p["a"]), p["w"][0]))
  decay = jnp.broadcast_to(decay[None], x.shape)
  u = (x @ p["w"]).astype(decay.dtype)
  _, h = jax.lax.associative_scan(_join, (decay, u))
  return zoo.readout(jnp.real(h) @ p["o"])


def _named(p, x):
  policy = jax.checkpoint_policies.save_only_these_names("h")

  def step(h, w):
    return jnp.tanh(checkpoint_name(h @ w, "h")), None

  return _last(jax.checkpoint(step, policy=policy), x, p)


def _indexed(p, x):
  @jax.checkpoint
  def step(h, i):
    return jnp.tanh(h @ p["w"][i] + p["b"][i][None]), None

  return _last(step, x, jnp.arange(4))


def _numbered(p, x):
  """Layers by their number, the biases from the last to the second."""

  def layer(i, h):
    return _DENSE(h + p["b"][4 - i][None], p["w"][i])[0]

  return zoo.readout(jax.lax.fori_loop(1, 4, layer, x @ p["w"][0]))


def _numbers_that_repeat(p, x):
  layer = lambda i, h: jnp.tanh(h @ p["w"][i // 2] + p["b"][i + 2][None])
  return zoo.readout(jax.lax.fori_loop(0, 4, layer, x))


def _numbers_of_data(p, x):
  layer = lambda h, i: (jnp.tanh(h @ p[i]), None)
  return _last(layer, x, jnp.argmax(x, axis=1))


def _fast_weights(p, x):
  """A weight that starts as a parameter, and goes on as data."""

  def step(carry, row):
    w, h = carry
    h = jnp.tanh(row @ w + h)
    return (w + 0.1 * h[:, None] * row[None], h), h

  return zoo.readout(_scan(step, (p, x[0]), x)[1])


def _given_back(p, x):
  step = lambda h, w: (jnp.tanh(h @ w), jnp.sin(w))
  h, ws = _scan(step, x, p)
  return zoo.readout(h @ ws[1]) + zoo.readout(x @ ws[3])


def _layers_in_time(p, x):
  """Each step of time runs all layers: their weights are scanned, again."""

  @jax.checkpoint
  def cell(row, layer):
    w, h = layer
    y = jnp.tanh(row @ w + h)
    return y, y

  def step(hs, row):
    y, hs = _scan(cell, row, (p, hs))
    return hs, y

  zeros = jnp.zeros((4, 3), x.dtype)
  return zoo.readout(_scan(jax.checkpoint(step), zeros, x)[1])


def _reshaped(p, x):
  step = lambda h, w: (jnp.tanh(h @ w.reshape(3, 3).T), None)
  return _last(jax.checkpoint(step), x, p.reshape(4, 9))


def _overlapping(p, x):
  step = lambda h, w: (jnp.tanh(h[:, :2] @ w[:2] + h[:, 1:] @ w[1:]), None)
  return _last(jax.checkpoint(step), x, p)


def _heads(p, x):
  def step(h, ws):
    return h + jnp.mean(jax.vmap(lambda w: jnp.tanh(h @ w))(ws), 0), None

  return _last(jax.checkpoint(step), x, p.reshape(2, 2, 3, 3))


def _gradient_inside(p, x):
  energy = lambda x: jnp.sum(_scan(_DENSE, x, p)[0])
  return zoo.readout(jax.grad(energy)(x))


def _twice(p, x):
  layer = jax.checkpoint(lambda w, v, h: jnp.tanh(h @ w) @ v)
  return zoo.readout(layer(p, p, x))


def _overlapping_operands(p, x):
  layer = jax.checkpoint(lambda w, v, h: jnp.tanh(h @ w[0]) @ v[1])
  return zoo.readout(layer(p[:2], p[1:], x))


def _returned(p, x):
  layer = jax.checkpoint(lambda w, h: (jnp.tanh(h @ w), w * 2))
  h, doubled = layer(p, x)
  return zoo.readout(h @ doubled)


def _carried(p, x):
  @jax.checkpoint
  def step(carry, row):
    w, h = carry
    return (w, jnp.tanh(h @ w + row[None])), None

  return zoo.readout(_scan(step, (p, x), x)[0][1])


def _two_roles(p, x):
  step = lambda h, w: (jnp.tanh(h @ w) @ p[1], None)
  return _last(jax.checkpoint(step), x, p)


def _one_layer_outside(p, x):
  return zoo.readout(_scan(_DENSE, x, p[:3])[0] @ p[3])


def _made_of_two(p, x):
  step = lambda h, q: (jnp.tanh(h @ (q["w"] * q["b"][None])), None)
  return _last(jax.checkpoint(step), x, p)


def _weight_norm(p, x):
  def step(h, q):
    norm = jnp.sqrt(jnp.sum(q["w"] ** 2, 0, keepdims=True))
    return jnp.tanh(h @ (q["b"][None] * q["w"] / norm)), None

  return _last(jax.checkpoint(step), x, p)


def _experts(p, x):
  def step(h, ws):
    return jnp.tanh(h @ ws[jnp.argmax(jnp.sum(h, 0)) % 2]), None

  return _last(jax.checkpoint(step), x, p.reshape(2, 2, 3, 3))


def _stopped(p, x):
  def step(h, w):
    return jnp.tanh(h @ w) + h @ jax.lax.stop_gradient(w), None

  return _last(jax.checkpoint(step), x, p)


def _bias_in_parts(p, x):
  def step(h, b):
    return jnp.tanh(h + b[:1][None] + jnp.pad(b[1:], (0, 1))[None]), None

  return _last(jax.checkpoint(step), x, p)


def _terms(p, x):
  """A sum of products and biases, and what its terms do by themselves."""

  def step(h, q):
    a, b = h @ q["w"], x @ p["u"]
    y = a + b + q["b"][None]
    z = x @ q["v"] + h @ p["u"].T
    return jnp.tanh(y) + (z + z), jnp.sum(b) + z[0]

  h, ys = _scan(step, x, p["layers"])
  return zoo.readout(h) + zoo.readout(ys)


_CELL = {"a": _normal(3), "w": _W, "o": _W.T}
_TERMS = {"layers": {**_LAYERS, "v": _STACK[::-1] / 3}, "u": _W / 2}
# Loss, parameters, and why two passes are refused; "" if they are not.
_CASES = [
    (_loop_in_branch, _STACK, ""),
    (_branch_in_checkpoint, _STACK, ""),
    (_both_ways, _STACK, _ELSEWHERE),
    (_odd_unroll, _STACK, ""),
    (_no_iterations, _STACK, ""),
    (_counted_inside, _STACK, ""),
    (_associative, _CELL, ""),
    (_complex_recurrence, _CELL, ""),
    (_named, _STACK, ""),
    (_indexed, _LAYERS, _SAME),
    (_numbered, _LAYERS, ""),
    (_numbers_that_repeat, _LAYERS, _SAME),
    (_numbers_of_data, _STACK, _SAME),
    (_fast_weights, _W, _SAME),
    (_given_back, _STACK, _BACK),
    (_layers_in_time, _STACK, _SAME),
    (_reshaped, _STACK, ""),
    (_overlapping, _STACK, _SEVERAL),
    (_heads, _STACK, ""),
    (_gradient_inside, _STACK, _SEVERAL),
    (_twice, _W, _ELSEWHERE),
    (_overlapping_operands, _STACK, _CHANGED),
    (_returned, _W, _BACK),
    (_carried, _W, _SAME),
    (_two_roles, _STACK, _SAME),
    (_one_layer_outside, _STACK, ""),
    (_made_of_two, _LAYERS, ""),
    (_weight_norm, _LAYERS, ""),
    (_experts, _STACK, ""),
    (_stopped, _STACK, ""),
    (_bias_in_parts, _BIASES, ""),
    (_terms, _TERMS, _SAME),
]


def _name(value):
  return value.__name__ if callable(value) else ""


def _check(loss, params, passes):
  zoo.check(
      zoo.Case(
          name=loss.__name__,
          loss=loss,
          params=params,
          batch=(_X,),
          options={"keep_batch_dim": False, "passes": passes},
          runs=(),
      )
  )


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "loss, params, passes",
    [
        (_terms, _TERMS, 1),
        (_numbered, _LAYERS, None),
        (_layers_in_time, _STACK, None),
        (_branch_in_checkpoint, _STACK, None),
    ],
    ids=_name,
)
def test_hostile_loops(loss, params, passes):
  _check(loss, params, passes)


@pytest.mark.slow
@pytest.mark.parametrize("loss, params, reason", _CASES, ids=_name)
def test_all_hostile_loops(loss, params, reason):
  _check(loss, params, 1)
  if not reason:
    _check(loss, params, 2)
    return
  grad_fn = jax_privacy.clipped_grad(
      loss, l2_clip_norm=1.0, keep_batch_dim=False, passes=2
  )
  with pytest.raises(ValueError, match=reason):
    grad_fn.explain(*zoo.cast((params, _X), "float32"))


def test_layers_that_are_cut_out_by_number_have_the_rule_of_layers():
  grad_fn = jax_privacy.clipped_grad(
      _numbered, l2_clip_norm=1.0, keep_batch_dim=False, passes=1
  )
  args = zoo.cast((_LAYERS, _X), "float32")
  rows = {row.parameter: row for row in grad_fn.explain(*args).rows}
  assert rows["w"].rule == "dense" and rows["b"].rule == "vjp of add"


def test_terms_of_a_sum_share_one_stack_of_zeros():
  # They have one cotangent: it is kept once, not for each of the three.
  def loss(w, u, b, x):
    step = lambda h, x: (jnp.tanh(x @ w + h @ u + b), None)
    return jnp.sum(_scan(step, jnp.zeros(3), x)[0])

  shapes = [jax.ShapeDtypeStruct(s, "float32") for s in ((5, 3), (3, 3), (3,))]
  x = jax.ShapeDtypeStruct((7, 5), "float32")
  closed = jax.make_jaxpr(loss)(*shapes, x)
  flags = [True, True, True, False]
  lifted = loops.lift(closed, flags, [not flag for flag in flags])
  assert len(lifted.sites) == 3
  (eqn,) = (e for e in lifted.closed.jaxpr.eqns if e.primitive.name == "scan")
  loop = jaxprs.scan(eqn)
  rows = loop.body.invars[loop.num_consts + loop.num_carry :]
  assert [v.aval.shape for v in rows] == [(5,), (3,)]  # X, and zeros.
