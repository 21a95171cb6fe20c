"""Ghost clipping through scans, loops and branches."""

import functools

import jax
import jax.numpy as jnp
import pytest

from tests.support import zoo

_ARRAYS = zoo.Arrays(6)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch
_RNN = {"w": 0.5 * _normal(3, 3), "u": _normal(2, 3), "b": _normal(3)}


def _steps(x, width):
  """[time, features] of either layout, and a first state of zeros."""
  x = x.reshape(-1, x.shape[-1])
  return x, jnp.zeros((1, width), x.dtype)


def _cell(params, h, x):
  inner = h @ params["w"] + x[None] @ params["u"]
  return jnp.tanh(zoo.add_bias(inner, params["b"]))


def _rnn(params, x, **options):
  x, h = _steps(x, 3)

  def step(h, x):
    h = _cell(params, h, x)
    return h, h

  _, hs = jax.lax.scan(step, h, x, **options)
  return zoo.readout(hs)


def _gru(params, x):
  x, h = _steps(x, 3)

  def step(h, x):
    gates = zoo.add_bias(x[None] @ params["x"] + h @ params["h"], params["b"])
    z, r = jnp.split(jax.nn.sigmoid(gates), 2, axis=-1)
    new = jnp.tanh(x[None] @ params["new_x"] + (r * h) @ params["new_h"])
    h = (1 - z) * h + z * new
    return h, h

  _, hs = jax.lax.scan(step, h, x)
  return zoo.readout(hs)


def _stacked_layers(params, x):
  """Weights that the scan itself slices, one layer a step."""

  def layer(h, layer_params):
    return jnp.tanh(zoo.add_bias(h @ layer_params["w"], layer_params["b"])), ()

  return zoo.readout(jax.lax.scan(layer, x, params)[0])


def _weight_in_the_carry(params, x):
  x, h = _steps(x, 3)

  def step(carry, x):
    w, h = carry
    h = jnp.tanh(h @ w + x[None] @ params["u"])
    return (w * 0.9, h), None

  (w, h), _ = jax.lax.scan(step, (params["w"], h), x)
  return zoo.readout(h @ w) + jnp.sum(params["b"] ** 2)


def _recurrence(params, x):
  """h_t = a_t h_{t-1} + b_t, all at once."""
  x, _ = _steps(x, 3)
  b = x @ params["u"]
  a = jax.nn.sigmoid(b @ params["w"] + params["b"][None])

  def combine(left, right):
    return left[0] * right[0], right[0] * left[1] + right[1]

  return zoo.readout(jax.lax.associative_scan(combine, (a, b))[1])


def _case(name, loss, params=_RNN, shape=(4, 2), runs=zoo.RUNS, **fields):
  options = fields.pop("options", {})
  return zoo.Case(
      name=name,
      loss=loss,
      params=params,
      batch=(_batch(*shape),),
      options=options,
      runs=runs,
      **fields,
  )


_GRU = {
    "x": _normal(2, 6), "h": 0.5 * _normal(3, 6), "b": _normal(6),
    "new_x": _normal(2, 3), "new_h": 0.5 * _normal(3, 3),
}  # fmt: skip
_STACK = {"w": 0.7 * _normal(4, 3, 3), "b": _normal(4, 3)}
_DROPPED = {"options": {"keep_batch_dim": False}}


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "case",
    [
        _case("rnn", _rnn, runs=zoo.NOT_JITTED, run=zoo.EAGER),
        _case("rnn_dropped", _rnn, **_DROPPED, run=zoo.F32),
        _case("reverse", functools.partial(_rnn, reverse=True), run=zoo.F32),
        _case("unrolled", functools.partial(_rnn, unroll=2)),
        _case("gru", _gru, _GRU, run=zoo.F32),
        _case("gru_dropped", _gru, _GRU, **_DROPPED, run=zoo.F32),
        _case(
            "stacked",
            _stacked_layers,
            _STACK,
            (2, 3),
            zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        _case("weight_in_the_carry", _weight_in_the_carry, run=zoo.F32),
        _case("associative_scan", _recurrence, runs=zoo.NOT_JITTED),
        _case("associative_scan_dropped", _recurrence, **_DROPPED),
        _case(
            "map",
            lambda p, x: zoo.readout(
                jax.lax.map(lambda row: row @ p["u"], x[0])
            ),
            run=zoo.F32,
        ),
        _case(
            "scan_over_data_alone",
            lambda p, x: zoo.readout(jnp.cumsum(x[0], axis=0) @ p["u"]),
            runs=zoo.NOT_JITTED,
        ),
    ],
    ids=str,
)
def test_scan(case):
  zoo.check(case)


def _fori(params, x):
  x, h = _steps(x, 3)
  return zoo.readout(
      jax.lax.fori_loop(0, 4, lambda i, h: _cell(params, h, x[i]), h)
  )


def _while_on_parameters(params, x):
  """A scale found by a loop; the loop itself is not differentiated."""
  w = jax.lax.stop_gradient(params["w"])
  scale = jax.lax.while_loop(
      lambda s: jnp.sum((s * w) ** 2) > 0.5, lambda s: s / 2, jnp.ones_like(w)
  )
  return zoo.readout(x @ params["u"] @ (scale * params["w"]))


def _while_on_data(params, x):
  steps = jax.lax.while_loop(
      lambda s: jnp.sum(s**2) > 0.5, lambda s: s / 2, jax.lax.stop_gradient(x)
  )
  return zoo.readout((x + steps) @ params["u"])


def _cond(of_params):
  def loss(params, x):
    told = params["b"] if of_params else x
    return jax.lax.cond(
        jnp.sum(told) > 0,
        lambda p: zoo.readout(x @ p["u"] @ p["w"]),
        lambda p: zoo.readout(zoo.add_bias(x @ p["u"], p["b"])),
        params,
    )

  return loss


def _cond_that_picks_a_weight(params, x):
  w = jax.lax.cond(
      jnp.sum(params["b"]) > 0, jnp.sin, lambda w: 2 * w, params["w"]
  )
  return zoo.readout(x @ params["u"] @ w)


def _switch(params, x):
  index = jnp.argmax(jnp.mean(x.reshape(-1, 2), axis=0))
  branches = [lambda p: p["w"], lambda p: p["w"].T, lambda p: p["w"] @ p["w"]]
  w = jax.lax.switch(index, branches, params)
  return zoo.readout(x @ params["u"] @ w)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "case",
    [
        _case("fori_loop", _fori, run=zoo.F32),
        _case(
            "while_on_parameters",
            _while_on_parameters,
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        _case(
            "while_on_data", _while_on_data, runs=zoo.NOT_JITTED, run=zoo.EAGER
        ),
        _case("cond_on_parameters", _cond(True), runs=zoo.NOT_JITTED),
        _case("cond_on_data", _cond(False), **_DROPPED),
        _case("cond_that_picks_a_weight", _cond_that_picks_a_weight),
        _case("switch_on_data", _switch),
    ],
    ids=str,
)
def test_branches_and_loops(case):
  zoo.check(case)
