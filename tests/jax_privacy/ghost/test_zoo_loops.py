"""Ghost clipping through loops that are lifted: every way a weight gets in.

`test_zoo_control.py` has the plain ones. Every case also says which rules its
parameters' sites have; `vjp of scan` would be a loop that is not lifted.
"""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy.ghost import components, costs, loops, plans, sums
from tests.support import zoo

_ARRAYS = zoo.Arrays(31)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch
_W, _STACK = 0.6 * _normal(3, 3), 0.6 * _normal(4, 3, 3)
_BIASES, _BIAS = _normal(4, 3), _normal(3)
_X = _batch(5, 3)


def _scan(step, init, xs, **options):
  return jax.lax.scan(step, init, xs, **options)


def _stack(p, x, block=None, **options):
  """Layers with weights of their own, over [positions, width]."""

  def layer(h, q):
    h = jnp.tanh(h @ q["w"] + q["b"][None])
    return (h if block is None else block(h, q)), jnp.sum(h)

  h, sums = _scan(layer, x, p, **options)
  slopes = jnp.arange(1.0, 1.0 + sums.size, dtype=x.dtype)
  return zoo.readout(h) + jnp.sum(jnp.sin(sums) * slopes)


def _recurrent(p, x, **options):
  """One cell for all steps; its first state is learned."""

  def step(h, x):
    h = jnp.tanh(p["w"] @ h + x @ p["w"].T + p["b"])
    return h, h

  _, hs = _scan(step, p["b"], x, **options)
  return zoo.readout(hs)


def _nested(p, x):
  """Layers, each a recurrence over time, with one projection for all."""

  def layer(xs, q):
    def step(h, x):
      h = jnp.tanh(h @ q["w"] + x @ p["shared"] + q["b"])
      return h, h @ p["shared"]

    _, ys = _scan(step, q["b"], xs, reverse=True)
    return xs + ys, None

  return zoo.readout(_scan(layer, x, p["stack"])[0])


def _tied_across(p, x):
  """A layer of the stack is used once more, outside of the loop."""
  return _stack(p, x) + zoo.readout(x @ p["w"][1] @ p["w"][2].T)


def _tied_within(p, x):
  block = lambda h, q: jnp.tanh(h @ q["w"].T) * q["b"][None]
  return _stack(p, x, block, unroll=2)


def _made_in_the_body(p, x):
  """Weights of a layer are made of parameters, in the loop."""

  def layer(h, q):
    w, scale = q
    norm = jnp.sqrt(jnp.sum(w**2))
    return jnp.tanh(h @ (w / norm) @ jnp.sin(p["b"])[:, None]) * scale + h, norm

  scales = jnp.exp(p["b"][0] * jnp.arange(4, dtype=x.dtype))
  h, norms = _scan(layer, x, (p["w"], scales))
  return zoo.readout(h) + jnp.sum(norms**2)


def _handed_on(p, x):
  """A weight that each layer changes, and one that passes unchanged."""

  def layer(carry, b):
    w, same, h = carry
    return (w * 0.9 + jnp.sin(b)[None], same, jnp.tanh(h @ w @ same)), w[0]

  init = (p["w"], p["u"], x)
  (w, same, h), rows = _scan(layer, init, p["b"], reverse=True)
  return zoo.readout(h @ w @ same) + zoo.readout(rows)


def _counted(p, x):
  layer = lambda i, h: jnp.tanh(h @ p["w"][i] + p["b"][i][None])
  return zoo.readout(jax.lax.fori_loop(0, 4, layer, x))


@jax.custom_vjp
def _clipped_dense(h, w):
  return jnp.sin(h @ w)


_clipped_dense.defvjp(
    lambda h, w: (_clipped_dense(h, w), (h, w)),
    lambda res, g: (g @ res[1].T, res[0].T @ jnp.clip(g, -0.5, 0.5)),
)


def _custom(p, x):
  def layer(h, w):
    h = _clipped_dense(_clipped_dense(h, w), p["u"])
    return jax.nn.relu(h) + 0.1 * h, None

  return zoo.readout(_scan(layer, x, p["w"])[0])


def _branches(p, x):
  def layer(h, q):
    yes = lambda h: h @ q["w"] + jnp.sum(p["u"])
    no = lambda h: h * q["b"][None] @ p["u"]
    return jnp.tanh(jax.lax.cond(jnp.sum(h) > 0, yes, no, h)), None

  return zoo.readout(_scan(layer, x, p["stack"])[0])


def _jitted(p, x):
  block = jax.jit(lambda h, q: jax.jit(jnp.tanh)(h @ q["w"] * q["b"][None]))
  return _stack(p, x, block)


def _checkpointed(p, x):
  policy = jax.checkpoint_policies.dots_saveable
  block = jax.checkpoint(lambda h, q: jnp.sin(h @ q["w"]), policy=policy)
  inner = lambda h, q: (jax.checkpoint(block)(h, q), None)
  return zoo.readout(jax.checkpoint(lambda x: _scan(inner, x, p)[0])(x))


def _looked_up(p, ids):
  """An embedding in the body, and a table for each layer."""

  def step(h, i):
    return jnp.tanh(h + jnp.take(p["table"], i[None], axis=0)[0] @ p["u"]), h

  h, _ = _scan(step, jnp.zeros(3, p["u"].dtype), ids)

  def layer(h, table):
    return jnp.tanh(h + jnp.sum(table[ids], axis=0)), None

  return zoo.readout(_scan(layer, h, p["tables"])[0])


def _convolutions(p, x):
  def conv(x, w, dims):
    args = ((1,), "SAME")
    return jax.lax.conv_general_dilated(x, w, *args, dimension_numbers=dims)

  def layer(h, w):
    h = conv(h, w, ("NWC", "WIO", "NWC"))
    return jnp.tanh(conv(h, p["u"], ("NWC", "OIW", "NWC"))), None

  return zoo.readout(_scan(layer, x[None], p["kernels"])[0])


def _attended(p, x):
  """Layers that all read the same data, and a mask of constants."""
  memory = jnp.sin(x)
  mask = jnp.tril(jnp.ones((5, 5), bool))

  def layer(h, q):
    keys = memory @ q["w"]
    scores = jnp.where(mask, h @ keys.T, -30.0)
    return jax.nn.softmax(scores) @ keys + q["b"][None], None

  return zoo.readout(_scan(layer, x, p)[0])


def _dropout(p, x, key):
  """Layers that draw numbers, from keys of their own."""

  def layer(h, row):
    q, key = row
    keep = jax.random.bernoulli(key, 0.7, h.shape)
    return jnp.where(keep, jnp.tanh(h @ q["w"] + q["b"][None]), 0), None

  keys = jax.random.split(key, 4)
  return zoo.readout(_scan(layer, x, (p, keys))[0])


def _none_and_one(p, x):
  step = lambda h, w: (jnp.tanh(h @ w), None)
  h = _scan(step, x, p["w"][:0])[0]
  return zoo.readout(_scan(step, h, p["w"][:1])[0])


def _case(name, loss, params, *, rules, data=_X, run=zoo.F64, **options):
  options = {"keep_batch_dim": False, **options}
  case = zoo.Case(
      name=name,
      loss=loss,
      params=params,
      batch=(data,),
      options=options,
      run=run,
      runs=(zoo.F32,),
  )
  return case, rules


_LAYERS = {"w": _STACK, "b": _BIASES}
_CELL = {"w": _W, "b": _BIAS}
_TWO = {"stack": _LAYERS, "shared": _W}
_ADD, _MUL = "vjp of add", "vjp of mul"
_QUICK = [
    _case(
        "nested", _nested, _TWO,
        rules={"stack.w": "dense", "shared": "dense x2",
               "stack.b": f"vjp of copy, {_ADD}"},
    ),
    _case(
        "recurrent", functools.partial(_recurrent, reverse=True), _CELL,
        rules={"w": "dense x2", "b": f"vjp of copy, {_ADD}"},
    ),
    _case(
        "handed_on", _handed_on, {"w": _W, "u": _W.T, "b": _BIASES},
        rules={"u": "dense x2"},
    ),
    _case(
        "tied_across", _tied_across, _LAYERS,
        rules={"w": "dense x3", "b": _ADD},
    ),
    _case(
        "tied_within", _tied_within, _LAYERS,
        rules={"w": "dense x2", "b": f"{_ADD}, {_MUL}"},
        run=zoo.F32,
    ),
]  # fmt: skip
_SLOW = [
    _case("stack", _stack, _LAYERS, rules={"w": "dense", "b": _ADD}),
    _case(
        "made_in_the_body", _made_in_the_body, {"w": _STACK, "b": _BIAS},
        rules={"w": f"dense, {_ADD}", "b": f"dense, {_MUL}"},
    ),
    _case("counted", _counted, _LAYERS, rules={"w": "dense", "b": _ADD}),
    _case(
        "custom", _custom, {"w": _STACK, "u": _W},
        rules=dict.fromkeys("wu", "vjp of custom_vjp_call"),
    ),
    _case(
        "branches", _branches, {"stack": _LAYERS, "u": _W},
        rules={"u": "vjp of cond"},
    ),
    _case("jitted", _jitted, _LAYERS, rules={"w": "dense x2"}),
    _case("checkpointed", _checkpointed, _LAYERS, rules={"w": "dense"}),
    _case(
        "looked_up", _looked_up,
        {"table": _normal(6, 3), "tables": _normal(4, 6, 3), "u": _W},
        rules={"table": "embedding", "u": "dense"},
        data=_ARRAYS.integers(0, 6, 4, 5),
    ),
    _case(
        "convolutions", _convolutions,
        {"kernels": 0.4 * _normal(4, 3, 3, 2), "u": _normal(3, 2, 2)},
        rules={"kernels": "convolution", "u": "convolution"},
    ),
    _case(
        "attended", _attended, _LAYERS, rules={"w": "dense", "b": _ADD},
    ),
    _case("none_and_one", _none_and_one, {"w": _STACK}, rules={"w": "dense"}),
]  # fmt: skip


def _rules_of(case):
  grad_fn = jax_privacy.clipped_grad(
      case.loss, l2_clip_norm=1.0, method="ghost", passes=1, **case.options
  )
  args = zoo.cast(case.args, "float32")
  return {row.parameter: row.rule for row in grad_fn.explain(*args).rows}


@pytest.mark.parametrize(
    "case, rules",
    [pytest.param(*pair, id=pair[0].name) for pair in _QUICK + _SLOW],
)
def test_sites_of_a_loop_are_seen(case, rules):
  found = _rules_of(case)
  assert {name: found[name] for name in rules} == rules
  assert not any("scan" in rule for rule in found.values())


@pytest.mark.few(1)
@pytest.mark.parametrize("case", [case for case, _ in _QUICK], ids=str)
def test_loop(case):
  zoo.check(case)


@pytest.mark.slow
def test_loop_that_draws_numbers():
  zoo.check(
      zoo.Case(
          name="dropout",
          loss=_dropout,
          params=_LAYERS,
          batch=(_X, jax.random.key(3)),
          options={
              "keep_batch_dim": False,
              "batch_argnums": (1,),
              "prng_argnum": 2,
          },
          run=zoo.F32,
          runs=(zoo.F32,),  # In float64 it draws other numbers.
          reference_dtype="float32",
      )
  )


def _by_gram(monkeypatch):
  """Norms are of Gram matrices, and no gradient is made."""
  rates = dataclasses.replace(costs.RATES["cpu"], gram=1e30, moved=1e-3)
  monkeypatch.setitem(costs.RATES, "cpu", rates)


def test_padding_adds_nothing(monkeypatch):
  _by_gram(monkeypatch)
  case, _ = _case("padded", _stack, _LAYERS, rules={}, data=_X.copy())
  case.batch[0][1] = np.nan
  is_padding = np.array([False, True, False, True])
  zoo.check(dataclasses.replace(case, padding=is_padding))
  scaled = lambda x, factor, is_counted: sums.scaled(x, factor, factor >= 0)
  monkeypatch.setattr(
      plans, "sums", types.SimpleNamespace(scaled=scaled, outer=sums.outer)
  )
  with pytest.raises(AssertionError):
    zoo.check(dataclasses.replace(case, padding=is_padding))


def _check(name):
  zoo.check(next(case for case, _ in _QUICK if case.name == name))


def test_a_cross_term_that_is_dropped_is_seen(monkeypatch):
  # The two uses of a layer's weight would be components of their own.
  join = components.join

  def apart(eqns, sites, found):
    for i, site in enumerate(sites):
      for component in join(eqns, [site], found):
        yield dataclasses.replace(component, site_indices=(i,))

  monkeypatch.setattr(components, "join", apart)
  with pytest.raises(AssertionError):
    _check("tied_within")


def test_layers_that_are_added_before_they_are_squared_are_seen(monkeypatch):
  _by_gram(monkeypatch)
  case, _ = _case("stack", _stack, _LAYERS, rules={})
  zoo.check(case)

  def norm(form, x, z, unit):
    del unit
    return jnp.linalg.norm(jnp.sum(form.gradient(x, z), axis=0))

  wrong = types.SimpleNamespace(norm=norm)
  monkeypatch.setattr(plans, "norms", wrong)
  with pytest.raises(AssertionError, match="norms of"):
    zoo.check(case)


def test_records_in_a_wrong_order_are_seen(monkeypatch):
  operand = loops._operand

  def turned(body, var, *args):
    value = operand(body, var, *args)
    return jnp.flip(value, 0) if var in body.recorded else value

  monkeypatch.setattr(loops, "_operand", turned)
  with pytest.raises(AssertionError, match="norms of"):
    _check("recurrent")


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case, _ in _SLOW], ids=str)
def test_rarer_loop(case):
  zoo.check(case)
