"""Cases for ghost clipping, and the one comparison that all of them go through.

A case is a loss and tiny arrays. Its per-example gradients are made here by
`jax.vmap` of `jax.value_and_grad` in float64, and clipped in NumPy: no code of
the library. Ghost's norms, losses, aux and clipped sum must equal that within
1e-5 in float32 and 1e-12 in float64, jitted and not. Some examples' norms are
above the clip norm and some below; padding and what is not finite counts zero.

In float64 a term that is missing or counted twice cannot hide behind rounding,
however small it is beside the rest of the gradient.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_privacy

METHOD = "ghost"
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
# A run is (dtype, jitted). In float64 a term that is missing or counted twice
# shows best, in float32 what is rounded. One that is not jitted compiles each
# operation by itself, which takes as long as two that are.
F64, F32, EAGER = ("float64", True), ("float32", True), ("float32", False)
# `make test` gives each case its `run`, `make test-slow` all its `runs` too.
RUNS = (F64, F32)
NOT_JITTED = (F64, EAGER)
_ALL_RUNS = os.environ.get("ZOO_RUNS") == "all"
_COMPLEX = {"float32": "complex64", "float64": "complex128"}
# The algebra and the rounding are tested, not LLVM: this saves a third.
UNOPTIMISED = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """A loss and what it is given.

  Attributes:
    name: Of the test.
    loss: `loss(params, *batch)`; must not name a dtype, since it is run in two.
    params: A pytree of NumPy arrays; with several argnums, one per argument.
    batch: The other arguments. Leaves have a leading batch axis, unless
      `options["batch_argnums"]` says otherwise.
    options: For `clipped_grad`.
    clip_norm: None for one in the middle of the examples' norms.
    padding: Which examples are padding; None for none.
    run: The one that every run of the tests does.
    runs: Those of `make test-slow`; see RUNS.
    cancels: The norms of the terms of a gradient, added, over that of their
      sum: rounding is relative to the terms.
    reference_dtype: "float32" for code that does not run in float64.
    twins: Where cases of the same gradients keep these; None for a lone case.
    programs: Where cases of one loss and the same options keep what is
      compiled, for each clip norm; it must be given, and be between the
      examples' norms. None for a lone case.
  """

  name: str
  loss: Callable[..., Any]
  params: Any
  batch: tuple[Any, ...]
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  clip_norm: Any = None
  padding: Any = None
  run: tuple[str, bool] = F64
  runs: tuple[tuple[str, bool], ...] = RUNS
  cancels: float = 1.0
  reference_dtype: str = "float64"
  twins: dict[str, Any] | None = None
  programs: dict[Any, Any] | None = None

  def __str__(self):  # The test's id.
    return self.name

  @property
  def args(self):
    return (self.params, *self.batch)

  @property
  def batch_argnums(self):
    default = tuple(range(1, len(self.args)))
    return self.options.get("batch_argnums", default)


def both(*, kept=F64, dropped=F32, **fields):
  """The case with an example's leading axis of 1 kept, and without.

  Either has the other's gradients: the reference is the same. Each has a run of
  its own.
  """
  options = fields.pop("options", {})
  name = fields.pop("name")
  twins = {}
  return [
      Case(
          name=f"{name}-{'kept' if keep else 'dropped'}",
          options={**options, "keep_batch_dim": keep},
          twins=twins,
          run=kept if keep else dropped,
          **fields,
      )
      for keep in (True, False)
  ]


class Arrays:
  """Random arrays; the same ones in each process, from one seed a file."""

  def __init__(self, seed):
    self._rng = np.random.default_rng(seed)

  def normal(self, *shape):
    return self._rng.normal(size=shape)

  def integers(self, low, high, *shape):
    return self._rng.integers(low, high, size=shape)

  def batch(self, *shape, size=4):
    """Examples of that shape, each at a scale of its own."""
    scale = np.geomspace(0.5, 2.0, size).reshape((-1,) + (1,) * len(shape))
    return self.normal(size, *shape) * scale


def readout(y):
  """A scalar of y, with a slope of its own for every entry."""
  slopes = jnp.cos(jnp.arange(y.size, dtype=y.dtype))
  return jnp.sum(jnp.sin(y) * slopes.reshape(y.shape))


def add_bias(y, bias):
  """y + bias along the last axis, with the ranks made equal."""
  return y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


def cast(tree, dtype):
  """Floats in `dtype`, integers in int32, anything else as it is."""

  def one(leaf):
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    if jax.dtypes.issubdtype(leaf.dtype, np.floating):
      return jnp.asarray(leaf, dtype)
    if jax.dtypes.issubdtype(leaf.dtype, np.complexfloating):
      return jnp.asarray(leaf, _COMPLEX[dtype])
    if leaf.dtype == np.int64:
      return jnp.asarray(leaf, np.int32)
    return leaf

  return jax.tree.map(one, tree)


def _made_once(kept, key, make):
  """What `make()` returns, kept under that key if there is where to."""
  if kept is None:
    return make()
  if key not in kept:
    kept[key] = make()
  return kept[key]


def reference(case):
  """Losses, aux and gradients per example, each with a batch axis."""
  return _made_once(case.twins, "reference", lambda: _reference(case))


def _reference(case):
  options = case.options
  argnums = options.get("argnums", 0)
  prng_argnum = options.get("prng_argnum")
  mapped = {*case.batch_argnums, prng_argnum}
  keep = options.get("keep_batch_dim", True)
  has_aux = options.get("has_aux", False)

  def one_example(*args):
    if keep:
      args = [
          jax.tree.map(lambda x: x[None], arg)
          if i in case.batch_argnums
          else arg
          for i, arg in enumerate(args)
      ]
    fun = case.loss if has_aux else lambda *a: (case.loss(*a), None)
    return jax.value_and_grad(fun, argnums, has_aux=True)(*args)

  with jax.enable_x64(case.reference_dtype == "float64"):
    args = list(cast(case.args, case.reference_dtype))
    size = len(jax.tree.leaves(args[case.batch_argnums[0]])[0])
    if prng_argnum is not None:
      args[prng_argnum] = jax.random.split(args[prng_argnum], size)
    axes = [0 if i in mapped else None for i in range(len(args))]
    per_example = lambda: jax.jit(
        jax.vmap(one_example, axes), compiler_options=UNOPTIMISED
    )
    per_example = _made_once(case.programs, "reference", per_example)
    (losses, aux), grads = per_example(*args)
  grads = jax.tree.map(lambda g: np.asarray(g, np.float64), grads)
  return np.asarray(losses), aux, grads


def example_norms(grads):
  """L2 norms of per-example gradients, [batch_size]."""
  squares = [
      np.sum(np.square(g.reshape(len(g), -1)), axis=1)
      for g in jax.tree.leaves(grads)
  ]
  return np.sqrt(sum(squares))


def between(norms):
  """A clip norm with examples on both sides: the middle of the middle gap."""
  ordered = np.sort(norms[np.isfinite(norms)])
  middle = len(ordered) // 2
  assert ordered[-1] > ordered[0], "All norms are equal: give a clip norm."
  clip_norm = float(ordered[middle - 1] + ordered[middle]) / 2
  assert _is_between(clip_norm, norms)
  return clip_norm


def _is_between(clip_norm, norms):
  return (norms < clip_norm).any() and (norms > clip_norm).any()


def expected(case, grads):
  """Clip norms, norms [batch_size] and the clipped sum, part by part."""
  clip_norm = case.clip_norm
  if clip_norm is None:
    clip_norm = between(example_norms(grads))
  elif case.programs is not None:
    norms = example_norms(grads)
    assert _is_between(clip_norm, norms), f"{clip_norm} is not between {norms}"
  treedef = jax.tree.structure(clip_norm)
  parts = treedef.flatten_up_to(grads)
  norms = [example_norms(part) for part in parts]
  counted = np.all(np.isfinite(norms), axis=0)
  if case.padding is not None:
    counted &= ~np.asarray(case.padding)
  divide_by = case.options.get("normalize_by", 1.0)
  if case.options.get("rescale_to_unit_norm"):
    divide_by *= np.linalg.norm(jax.tree.leaves(clip_norm))

  total = []
  bounds = jax.tree.leaves(clip_norm)
  for part, norm, bound in zip(parts, norms, bounds, strict=True):
    with np.errstate(divide="ignore"):
      factors = np.minimum(1.0, bound / norm[counted]) / divide_by
    add = lambda g, f=factors: np.tensordot(f, g[counted], axes=1)
    total.append(jax.tree.map(add, part))
  return clip_norm, treedef.unflatten(norms), treedef.unflatten(total)


def check(case, *, method=None):
  """Compares `clipped_grad` of the case with the reference, in every run."""
  losses, aux, grads = reference(case)
  clip_norm, norms, total = expected(case, grads)
  losses, aux, norms = without_padding(case, (losses, aux, norms))
  runs = dict.fromkeys([case.run, *(case.runs if _ALL_RUNS else ())])
  for dtype, jitted in runs:
    tol = TOLERANCE[dtype] * case.cancels
    run = f"{case.name}, {dtype}, {'jitted' if jitted else 'not jitted'}"
    got, got_aux = clipped(
        case, clip_norm, dtype=dtype, jitted=jitted, method=method
    )
    jax.tree.map(
        lambda g, w: close_norms(g, w, tol, f"norms of {run}"),  # noqa: B023
        got_aux.grad_norms,
        norms,
    )
    close(got_aux.values, losses, tol, f"losses of {run}")
    close_whole(got, total, tol, f"sum of {run}")
    if case.options.get("has_aux"):
      jax.tree.map(
          lambda g, w: close(g, w, tol, f"aux of {run}"),  # noqa: B023
          got_aux.aux,
          aux,
      )


def without_padding(case, outputs):
  """Per-example outputs, zero in rows of padding."""
  if case.padding is None:
    return outputs

  def one(rows):
    rows = np.array(rows)
    rows[np.asarray(case.padding)] = 0
    return rows

  return jax.tree.map(one, outputs)


def clipped(case, clip_norm, *, dtype, jitted, method=None):
  """`clipped_grad` of the case, asked for everything."""

  def make():
    grad_fn = jax_privacy.clipped_grad(
        case.loss,
        l2_clip_norm=clip_norm,
        return_values=True,
        return_grad_norms=True,
        method=method or METHOD,
        **{"batch_argnums": case.batch_argnums, **case.options},
    )
    if not jitted:
      return grad_fn
    return jax.jit(grad_fn, compiler_options=UNOPTIMISED)

  with jax.enable_x64(dtype == "float64"):
    key = (str(clip_norm), dtype, jitted, method)
    grad_fn = _made_once(case.programs, key, make)
    args = cast(case.args, dtype)
    got = grad_fn(*args, is_padding_example=case.padding)
    return jax.block_until_ready(got)


def close_norms(got, want, tol, what):
  """Each example's norm, relative to itself; not finite where it should be."""
  finite = np.isfinite(want)
  assert got.shape == want.shape, what
  np.testing.assert_array_equal(np.isfinite(got), finite, err_msg=what)
  np.testing.assert_allclose(
      np.asarray(got)[finite], want[finite], rtol=tol, err_msg=what
  )


def close(got, want, tol, what):
  """Elementwise, relative to the largest entry: terms may cancel."""
  got, want = np.asarray(got), np.asarray(want)
  want = want.reshape(got.shape)  # It may have `keep_batch_dim`'s axis of 1.
  finite = np.abs(want[np.isfinite(want)])
  np.testing.assert_allclose(
      got, want, rtol=tol, atol=tol * finite.max(initial=0), err_msg=what
  )


def close_whole(got, want, tol, what):
  """Two pytrees of one structure, relative to the norm of all."""
  assert jax.tree.structure(got) == jax.tree.structure(want), what
  assert jax.tree.map(np.shape, got) == jax.tree.map(np.shape, want), what
  flat = lambda tree: np.concatenate(
      [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
  )
  error = np.linalg.norm(flat(got) - flat(want))
  size = np.linalg.norm(flat(want))
  # Not `error > ...`: NaN must fail.
  assert error <= tol * size, f"{what}: {error:.3g} beside {size:.3g}"


def check_bound(case, *, clip_norms):
  """One example, whose gradient is hard: its part of the sum is bounded.

  Of its direction float32 may know nothing. The first run is not jitted.
  """
  for i, clip_norm in enumerate(clip_norms):
    got, _ = clipped(case, clip_norm, dtype="float32", jitted=i > 0)
    flat = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(got)]
    norm = np.linalg.norm(np.concatenate(flat))
    assert norm <= clip_norm * (1 + 1e-5), f"{norm} above {clip_norm}"
