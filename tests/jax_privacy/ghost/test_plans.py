"""Each plan by itself, on records made by hand, in each of its forms.

The oracle is float64 NumPy on gradients by `jax.vmap` of `jax.grad`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import weight_standardisation as ws
from jax_privacy.ghost import (
    clip,
    graph,
    paths,
    plans,
    recorded,
    standardised,
    sums,
)
from tests.support import zoo

_ARRAYS = zoo.Arrays(26)
_normal = _ARRAYS.normal
_FACTOR = np.array([0.5, 1.0, 0.25, 2.0])
_KEEP = np.array([True, True, False, True])
_ALL, _MADE = ("ghost", "keep", "redo"), ("keep", "redo")


def _standardised(w, gain, x):
  return zoo.readout(x @ ws.standardise_weight(w, gain))


# Loss, parameters, and the plans that are possible.
_CASES = {
    "dense": (lambda w, x: zoo.readout(x @ w), [_normal(3, 2)], _ALL),
    "one_position": (lambda w, x: zoo.readout(x[0] @ w), [_normal(3, 2)], _ALL),
    "standardised": (_standardised, [_normal(3, 4), _normal(4)], _ALL),
    "tied": (
        lambda w, x: zoo.readout(jnp.sin(x @ w) @ w.T),
        [_normal(3, 2)],
        _MADE,
    ),
    # No path: `Redo` accumulates.
    "no_rule": (
        lambda b, x: zoo.readout(zoo.add_bias(x, b)),
        [_normal(3)],
        _MADE,
    ),
    "transformed": (
        lambda a, b, x: zoo.readout(x @ (jnp.tanh(a) * b)),
        [_normal(3, 2), _normal(3, 2)],
        _MADE,
    ),
}
_LOOPS = (True, False, None)
_RUNS = [
    (name, plan, loops)
    for name, (_, _, possible) in _CASES.items()
    for plan in possible
    for loops in (_LOOPS if name == "dense" and plan != "ghost" else (None,))
]


@pytest.fixture(autouse=True)
def _compiled_quickly():
  # The algebra is tested, not LLVM.
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


def _recorded(loss, leaves, x, loops, plan):
  """The record of the loss's one component, run as that plan asks for."""
  fun = lambda leaves, rows: (loss(*leaves, *rows), [])
  row = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
  split = graph.split(fun, leaves, [row])
  (component,) = split.components
  path = paths.find(split, component)
  shared = split.run_shared(leaves)
  rescaled = {}
  if plan == "ghost" and path.standardise is not None:
    way = standardised.rescaled(split, component, path.standardise, shared)
    rescaled = {component.site_indices[0]: way}
  zeros = split.zeros()

  def one(row):
    run = functools.partial(split.run_data, shared, [row], rescaled=rescaled)
    value, pull, (_, data, unscaled) = jax.vjp(run, zeros, has_aux=True)
    return data, pull(jnp.ones_like(value))[0], unscaled

  data, cotangents, unscaled = jax.vmap(one)(x)
  return recorded.Recorded(
      split=split,
      component=component,
      path=path,
      shared=shared,
      pieces=[leaves[i] for i in component.piece_indices],
      data=data,
      cotangents=cotangents,
      unscaled=unscaled.get(0),
      dtype=x.dtype,
      loops=loops,
  )


def _program(name, plan, loops):
  """Squared norms and clipped sums, per parameter, by one plan."""
  loss = _CASES[name][0]

  @jax.jit
  def run(leaves, x, factor, keep):
    made = plans.PLANS[plan](_recorded(loss, leaves, x, loops, plan))
    norms, kept = made.norms()
    squares = [jnp.square(n) for n in norms]
    return squares, made.clipped_sums(kept, factor, keep)

  return run


_kept_program = functools.cache(_program)


@functools.cache
def _oracle(name):
  """Gradients per parameter, each [batch_size, ...], of `_x()` in float64."""
  loss, leaves, _ = _CASES[name]
  grad_fn = jax.grad(loss, tuple(range(len(leaves))))
  axes = (*(None for _ in leaves), 0)
  with jax.enable_x64(True):
    grads = jax.jit(jax.vmap(grad_fn, axes))(*leaves, _x())
  return [np.asarray(g) for g in grads]


def _x():
  return zoo.Arrays(27).batch(5, 3)


def _check(name, plan, loops, *, poison=None, program=_kept_program):
  x, leaves, grads = _x(), _CASES[name][1], _oracle(name)
  if poison is not None:
    x[2, 1, 1] = poison  # Of the example that is not kept.
  with jax.enable_x64(True):
    squares, sums = program(name, plan, loops)(leaves, x, _FACTOR, _KEEP)
  assert len(squares) == len(sums) == len(grads)
  for square, total, grad in zip(squares, sums, grads, strict=True):
    wanted = np.sum(grad**2, axis=tuple(range(1, grad.ndim)))
    good = np.ones(4, bool) if poison is None else _KEEP
    np.testing.assert_allclose(
        np.asarray(square)[good], wanted[good], rtol=1e-11
    )
    wanted = np.tensordot(_FACTOR * _KEEP, grad, axes=1)
    np.testing.assert_allclose(total, wanted, rtol=1e-11, atol=1e-13)
  if poison is not None:
    # Unless no gradient sees it, some norm says that it must not be kept.
    assert not np.isfinite(sum(np.asarray(s)[2] for s in squares))


@pytest.mark.few(3)
@pytest.mark.parametrize("name, plan, loops", _RUNS)
def test_norms_and_sums(name, plan, loops):
  _check(name, plan, loops)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize(
    "name, plan, loops",
    [
        ("dense", "ghost", None),
        ("dense", "keep", True),
        ("dense", "keep", False),
        ("dense", "redo", None),
        ("standardised", "ghost", None),
        ("tied", "redo", False),
        ("transformed", "keep", None),
        ("transformed", "redo", True),  # It accumulates.
        ("no_rule", "redo", None),
    ],
)
def test_what_is_not_finite_adds_nothing(name, plan, loops, poison):
  _check(name, plan, loops, poison=poison)


def test_redo_accumulates_only_without_a_path(monkeypatch):
  called = []
  accumulated = plans.Redo._accumulated
  monkeypatch.setattr(
      plans.Redo,
      "_accumulated",
      lambda *args: called.append(1) or accumulated(*args),
  )
  for name, count in (("dense", 0), ("transformed", 1), ("no_rule", 2)):
    _check(name, "redo", None, program=_program)
    assert len(called) == count


def test_a_sum_that_scales_by_multiplication_alone_is_seen(monkeypatch):
  # 0 x NaN is NaN.
  def scaled(x, factor, keep):
    return x * jnp.expand_dims(jnp.where(keep, factor, 0), range(1, x.ndim))

  monkeypatch.setattr(sums, "scaled", scaled)
  program = functools.cache(_program)
  _check("dense", "ghost", None, program=program)
  with pytest.raises(AssertionError):
    _check("dense", "ghost", None, poison=np.nan, program=program)


def _while_loops(fun, *args):
  return jax.jit(fun).lower(*args).as_text().count("stablehlo.while")


@pytest.mark.parametrize("plan", _MADE)
def test_the_form_for_a_gpu_is_batched(plan):
  loss, leaves, _ = _CASES["dense"]

  def norms(x, loops):
    leaf = jnp.asarray(leaves[0], x.dtype)
    record = _recorded(loss, [leaf], x, loops, plan)
    return plans.PLANS[plan](record).norms().norms

  x = jnp.ones((4, 5, 3))
  for loops in (True, False):
    count = _while_loops(lambda x, loops=loops: norms(x, loops), x)
    assert count == int(loops)
  # Of one position there is nothing to keep in cache: no loop unless told.
  loss, leaves, _ = _CASES["one_position"]
  for loops in (None, False):
    assert not _while_loops(lambda x, loops=loops: norms(x, loops), x)


@pytest.mark.few(1)
@pytest.mark.parametrize("plan", _MADE)
def test_the_form_for_a_gpu_can_be_had_anywhere(plan):
  # As `clipped_grad` runs it there, with padding, on whatever runs here.
  loss, (w,), _ = _CASES["dense"]
  w, x = jnp.asarray(w, "float32"), jnp.asarray(_x(), "float32")
  is_padding = jnp.array([False, True, False, False])

  def clipped(loops):
    clipped_sum = clip.GhostSum(
        fun=lambda w, x: (loss(w, x), None),
        argnums=0,
        batch_argnums=(1,),
        prng_argnum=None,
        clip_norms=1.0,
        divide_by=1.0,
        keep_batch_dim=False,
        nan_safe=True,
        dtype=None,
        spmd_axis_name=None,
        choose=lambda *_, **__: plan,
        loops=loops,
    )
    return jax.jit(lambda w, x: clipped_sum((w, x), is_padding)[:3])

  total, losses, norms = clipped(False)(w, x)
  assert "stablehlo.while" not in clipped(False).lower(w, x).as_text()
  # In float32, some 20 terms of order 1: 20 x 2^-24 = 1e-6 of each.
  for got, wanted in zip(
      clipped(True)(w, x), (total, losses, norms), strict=True
  ):
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
  grads = _oracle("dense")[0]
  wanted = np.linalg.norm(grads.reshape(4, -1), axis=1)
  np.testing.assert_allclose(norms, wanted, rtol=1e-5)
  scale = np.minimum(1.0, 1.0 / wanted) * ~np.asarray(is_padding)
  wanted = np.tensordot(scale, grads, axes=1)
  np.testing.assert_allclose(total, wanted, rtol=1e-5, atol=1e-5)
