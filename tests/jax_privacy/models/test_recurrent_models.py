"""Griffin, Hawk and the LRU against slow references, one position at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models
from jax_privacy.models import griffin, lru, recurrences


def _parameters(model, seed=1):
  apply_fn, params = models.functional(model)
  generator = np.random.default_rng(seed)
  params = jax.tree.map(
      lambda p: p + generator.normal(0.0, 0.3, p.shape).astype(np.float32),
      params,
  )
  return apply_fn, params, jax.tree.map(np.float64, params)


def _map(x, p):
  return x @ p["kernel"] + p.get("bias", 0.0)


def _gelu(x):
  inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
  return 0.5 * x * (1 + np.tanh(inner))


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _rms(x, p):
  return x / np.sqrt(np.mean(x**2) + 1e-6) * (1 + p["scale"])


def _layer_norm(x, p):
  x = x - np.mean(x)
  return x / np.sqrt(np.mean(x**2) + 1e-5) * p["scale"] + p["bias"]


def _blocks(x, p, num_blocks):
  parts = np.split(x, num_blocks)
  mixed = [part @ p["kernel"][h] for h, part in enumerate(parts)]
  return np.concatenate(mixed) + p["bias"]


def _recurrent(xs, p, num_heads):
  """The recurrent block of Hawk, from the formulas."""
  us, state, out = [], 0.0, []
  softplus = np.log1p(np.exp(p["rg_lru"]["decay"]))
  for t, x in enumerate(xs):
    us.append(_map(x, p["inputs"]))
    u = p["conv"]["bias"].copy()
    for back in range(min(4, t + 1)):
      u += p["conv"]["kernel"][3 - back] * us[t - back]
    r, i = (
        _sigmoid(_blocks(u, p["rg_lru"][name], num_heads))
        for name in ("recurrence_gate", "input_gate")
    )
    a = np.exp(-8 * r * softplus)
    if t == 0:
      state = i * u
    else:
      state = a * state + np.sqrt(1 - a**2) * i * u
    out.append(_map(state * _gelu(_map(x, p["gate"])), p["out"]))
  return out


@pytest.mark.slow
def test_hawk_is_its_formulas_one_position_at_a_time():
  config = griffin.GriffinConfig(
      vocabulary_size=7,
      width=8,
      recurrent_width=6,
      num_heads=2,
      num_layers=2,
      pattern=("recurrent",),
      logit_cap=3.0,
  )
  model = griffin.Griffin(config, rngs=nnx.Rngs(0))
  apply_fn, params, p = _parameters(model)
  tokens = np.random.default_rng(0).integers(0, 7, 9, np.int32)
  table = p["embedding"]["embedding"]
  xs = [table[token] * np.sqrt(8) for token in tokens]
  for i in range(2):
    layer = p["layers"][str(i)]
    mixed = [_rms(x, layer["mixer_norm"]) for x in xs]
    mixed = _recurrent(mixed, layer["mixer"], 2)
    xs = [x + y for x, y in zip(xs, mixed, strict=True)]
    for t, x in enumerate(xs):
      y, mlp = _rms(x, layer["mlp_norm"]), layer["mlp"]
      inner = _gelu(_map(y, mlp["gate"])) * _map(y, mlp["up"])
      xs[t] = x + _map(inner, mlp["down"])
  wanted = np.array([table @ _rms(x, p["norm"]) for x in xs])
  wanted = 3.0 * np.tanh(wanted / 3.0)
  found = jax.jit(apply_fn)(params, tokens[None])[0]
  # Float32: tens of roundings of 2^-24 a path, on numbers of order 1 to 10.
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=5e-5)


def test_the_lru_is_its_formulas_one_position_at_a_time():
  config = lru.LRUConfig(
      vocabulary_size=7, width=8, state_size=5, num_layers=2, logit_cap=None
  )
  apply_fn, params, p = _parameters(lru.LRU(config, rngs=nnx.Rngs(0)))
  tokens = np.random.default_rng(0).integers(0, 7, 9, np.int32)
  table = p["embedding"]["embedding"]
  xs = [table[token] * np.sqrt(8) for token in tokens]
  for i in range(2):
    layer = p["layers"][str(i)]
    unit = layer["lru"]
    factor = np.exp(-np.exp(unit["nu"]) + 1j * np.exp(unit["theta"]))
    gamma = np.sqrt(1 - np.abs(factor) ** 2)
    b = unit["in_re"]["kernel"] + 1j * unit["in_im"]["kernel"]
    c = unit["out_re"]["kernel"] + 1j * unit["out_im"]["kernel"]
    state = np.zeros(5, complex)
    for t, x in enumerate(xs):
      u = _layer_norm(x, layer["norm"])
      state = factor * state + gamma * (u @ b)
      y = _gelu((state @ c).real + unit["skip"] * u)
      gate = _sigmoid(_map(y, layer["gate"]))
      xs[t] = x + _map(y, layer["value"]) * gate
  wanted = np.array([table @ _layer_norm(x, p["norm"]) for x in xs])
  found = jax.jit(apply_fn)(params, tokens[None])[0]
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=5e-5)


def test_an_associative_scan_is_the_loop_from_any_state():
  rng = np.random.default_rng(0)
  a, b = rng.uniform(0, 1, (2, 3, 7, 4))
  state = initial = rng.normal(size=(3, 4))
  wanted = []
  for t in range(7):
    state = a[:, t] * state + b[:, t]
    wanted.append(state)
  found = recurrences.real_scan(*map(jnp.float32, (a, b, initial)))
  np.testing.assert_allclose(found, np.stack(wanted, 1), rtol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(griffin.RECURRENT_GEMMA_2B, marks=pytest.mark.slow),
        griffin.GriffinConfig(
            vocabulary_size=9, width=16, recurrent_width=12, num_layers=5
        ),
        lru.LRUConfig(vocabulary_size=9, width=8, state_size=3, num_layers=3),
    ],
    ids=["recurrent_gemma_2b", "griffin", "lru"],
)
def test_numbers_of_parameters_are_their_closed_form(config):
  kind = griffin if isinstance(config, griffin.GriffinConfig) else lru
  make = griffin.Griffin if kind is griffin else lru.LRU
  model = nnx.eval_shape(lambda: make(config, rngs=nnx.Rngs(0)))
  _, params = models.functional(model)
  assert models.num_parameters(params) == kind.num_parameters(config)


def test_first_decays_lie_on_the_ring():
  unit = griffin.RGLRU(4096, num_blocks=64, rngs=nnx.Rngs(0))
  ring = np.exp(-jax.nn.softplus(unit.decay[...]))
  # Within the float32 rounding of log, expm1 and exp.
  assert 0.9 - 1e-5 <= ring.min() < 0.905 and 0.998 < ring.max() <= 0.999 + 1e-5
  # The square is uniform: its mean is (.81 + .998) / 2, and its deviation
  # .188 / sqrt(12 x 4096) = 8.5e-4, of which this is 5.
  assert np.mean(ring**2) == pytest.approx(0.904, abs=4.3e-3)


def test_the_square_root_keeps_a_finite_slope():
  slope = jax.grad(griffin.bounded_sqrt)
  assert float(slope(0.0)) == pytest.approx(1000.0, rel=1e-6)
  assert float(slope(0.25)) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("griffin", {"pattern": ()}, "pattern must be some of recurrent"),
        ("griffin", {"pattern": ("rnn",)}, "pattern must be one of recurrent"),
        ("griffin", {"num_heads": 3}, "num_heads must divide width = 64"),
        ("griffin", {"recurrent_width": 6}, "must divide recurrent_width = 6"),
        ("griffin", {"num_heads": 32}, "heads of a multiple of 4 features"),
        ("lru", {"r_max": 1.5}, r"r_max must be in \(r_min, 1\]"),
        ("lru", {"r_min": 0.99}, r"r_max must be in \(r_min, 1\]"),
        ("lru", {"max_phase": 0.0}, "max_phase must be a positive finite"),
        ("lru", {"state_size": 0}, "state_size must be an integer of at least"),
    ],
)
def test_wrong_options_are_refused(name, options, text):
  options = {"vocabulary_size": 5} | options
  with pytest.raises(ValueError, match=text):
    models.build(name, rngs=nnx.Rngs(0), **options)
