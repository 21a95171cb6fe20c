"""The choice of a plan: which way it moves as its inputs do."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import pytest

from jax_privacy.ghost import costs, graph, paths, rules


def _choose(x, w, op=jnp.matmul, *, batch_size=32, closed=True, platform="cpu"):
  """The plan of op(x, w); nothing of these shapes is made."""
  loss = lambda leaves, rows: (jnp.sum(jnp.sin(op(rows[0], leaves[0]))), [])
  structs = [[jax.ShapeDtypeStruct(shape, "float32")] for shape in (w, x)]
  split = graph.split(loss, *structs)
  (component,) = split.components
  return costs.choose(
      component,
      [rules.find(site) for site in split.sites],
      batch_size=batch_size,
      has_path=isinstance(paths.find(split, component), paths.Path),
      has_closed_norm=closed,
      platform=platform,
  )


def _moves_once(plans, before, after):
  """Whether `plans` are `before`, at least one, then `after`, at least one."""
  runs = [key for key, _ in itertools.groupby(plans)]
  return runs == [before, after]


def test_more_positions_make_gram_matrices_dear():
  positions = [2**i for i in range(15)]
  plans = [_choose((t, 256), (256, 256)) for t in positions]
  is_ghost = [plan == "ghost" for plan in plans]
  assert _moves_once(is_ghost, True, False)


def test_more_channels_make_gradients_dear():
  plans = [_choose((64, 2**i), (2**i, 2**i)) for i in range(3, 12)]
  assert _moves_once([plan == "ghost" for plan in plans], False, True)


def test_one_position_is_always_ghost():
  assert all(_choose((n,), (n, n)) == "ghost" for n in (64, 1024, 8192))


def _without_form(x, w):
  return x * w


def _without_path(x, w):
  return x.reshape(1, -1) @ jnp.tanh(w).reshape(-1, 1)


@pytest.mark.parametrize("platform", list(costs.RATES))
@pytest.mark.parametrize("op", [_without_form, _without_path])
def test_what_is_large_is_made_again(op, platform):
  options = {"op": op, "platform": platform, "closed": False}
  plans = [_choose((2**n,), (2**n,), **options) for n in range(4, 28)]
  assert _moves_once(plans, "keep", "redo")
  # It is the batch's gradients that are kept, 4 bytes a number.
  numbers = int(costs.RATES[platform].kept // 4 // 64)
  for batch_size, plan in ((64, "keep"), (65, "redo")):
    shapes = (numbers,), (numbers,)
    assert _choose(*shapes, batch_size=batch_size, **options) == plan


def test_a_platform_has_rates_of_its_own():
  # Gradients that a GPU keeps and a CPU does not.
  numbers = int(costs.RATES["gpu"].kept) // 4 // 32
  choose = lambda platform: _choose(
      (numbers,), (numbers,), _without_form, platform=platform
  )
  assert (choose("cpu"), choose("gpu")) == ("redo", "keep")
  # One that is not listed is taken for a GPU; none is the one that runs.
  assert choose("tpu") == "keep"
  default = "redo" if jax.default_backend() == "cpu" else "keep"
  assert choose(None) == default


@pytest.mark.parametrize("platform", list(costs.RATES))
@pytest.mark.parametrize("positions", [1, 16, 4096])
@pytest.mark.parametrize("width", [4, 256, 4096])
def test_no_ghost_without_a_closed_norm(platform, positions, width):
  options = {"closed": False, "platform": platform}
  plan = _choose((positions, width), (width, width), **options)
  assert plan in ("keep", "redo")


@pytest.mark.parametrize(
    "rate, before, after, closed",
    [
        ("gram", "redo", "ghost", True),
        ("moved", "redo", "keep", False),
        ("batched_gradient", "keep", "redo", False),
        ("gradient", "ghost", "redo", True),
        ("launched", "redo", "keep", False),
    ],
)
def test_a_faster_way_is_taken(monkeypatch, rate, before, after, closed):
  # At the other rates all ways take about as long; this one goes up.
  base = costs.Rates(
      gram=1e12, gradient=1e12, batched_gradient=1e12, moved=1e9, kept=0.0,
      launched=0.0,
  )  # fmt: skip
  if rate == "gradient":
    base = dataclasses.replace(base, moved=1e3)
  if rate == "gram":
    base = dataclasses.replace(base, moved=1e3)
  plans = []
  for value in [10.0**i for i in range(-9, 20)]:
    rates = dataclasses.replace(base, **{rate: value})
    monkeypatch.setitem(costs.RATES, "cpu", rates)
    plans.append(_choose((64, 64), (64, 64), closed=closed))
  assert _moves_once(plans, before, after)
