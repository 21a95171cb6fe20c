"""Canaries: made-up gradients or examples whose trace an audit looks for.

A gradient-space canary replaces the clipped gradient of one example: where it
takes part, it is added to the clipped sum, before the noise. It is as large as
an example's share may be and does not depend on the parameters, which is the
worst case that accounting assumes. An input-space canary is an odd example in
the data set, trained on as any other.

Invariant: a gradient-space canary's L2 norm is at most `l2_norm` and below it
by at most one part in 10^5, whatever the parameters' shapes; so a run with
canaries has the sensitivity, and the epsilon, that it has without.

Example:
  >>> import jax.numpy as jnp, numpy as np
  >>> from jax_privacy import auditing
  >>> params = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}
  >>> canaries = auditing.dirac_canaries(
  ...     params, num_canaries=2, l2_norm=4.0, seed=0)
  >>> total = canaries.insert(params, np.array([True, False]))
  >>> print(canaries.project(total))
  [4. 0.]
"""

import dataclasses
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import _validate

# More than a float32 sum of squares is off, however many terms it has (XLA adds
# in trees); a direction is scaled down by it, so that rounding keeps its norm
# below l2_norm.
_MARGIN = 5e-6


class GradientCanaries(Protocol):
  """What the loop and the scores ask of gradient-space canaries.

  Attributes:
    l2_norm: L2 norm of each canary.
    num_canaries: Number of canaries.
  """

  l2_norm: float

  @property
  def num_canaries(self) -> int:
    """Number of canaries."""

  def insert(self, clipped_sum: Any, selected: Any) -> Any:
    """Returns a clipped sum with the selected canaries added.

    Args:
      clipped_sum: Pytree as the parameters.
      selected: Whether each canary takes part, bool [num_canaries].
    """

  def project(self, tree: Any) -> jax.Array:
    """Returns dot products with canaries / l2_norm, float32 [num_canaries].

    Args:
      tree: Pytree as the parameters.
    """


@dataclasses.dataclass(frozen=True, eq=False)
class DiracCanaries:
  """Canaries of one coordinate each, no two of them the same.

  They do not interfere: scores of different canaries have independent noise.
  `insert` and `project` touch num_canaries coordinates and may be traced.

  Attributes:
    positions: Coordinates of the canaries in each flattened leaf of the
      parameters, int [number in that leaf]. Canaries are numbered in order of
      leaf and coordinate.
    l2_norm: Value of a canary at its coordinate.
  """

  positions: tuple[np.ndarray, ...]
  l2_norm: float

  @property
  def num_canaries(self) -> int:
    """Number of canaries."""
    return sum(len(where) for where in self.positions)

  def insert(
      self, clipped_sum: chex.ArrayTree, selected: chex.Array
  ) -> chex.ArrayTree:
    """Adds the selected canaries to a clipped sum.

    Args:
      clipped_sum: Pytree as the parameters, of float32 or float64 leaves.
      selected: Whether each canary takes part, bool [num_canaries].

    Returns:
      The sum, of which each canary is one example's share.

    Raises:
      ValueError: If shapes do not fit, or `selected` is not bool.
      TypeError: If a leaf is shorter than float32, which would round a canary
        above its norm.

    Guarantee: Adding or removing one canary moves the result by at most
      `l2_norm`, up to the rounding of the sum itself.
    """
    selected = _checked_selection(selected, self.num_canaries)
    leaves, treedef = self._leaves(clipped_sum)
    value = np.float32(self.l2_norm)
    if float(value) > self.l2_norm:  # Rounded up, above what is allowed.
      value = np.nextafter(value, np.float32(0))
    ends = np.cumsum([len(where) for where in self.positions])
    parts = jnp.split(selected, ends[:-1])
    added = []
    for leaf, where, part in zip(leaves, self.positions, parts, strict=True):
      _check_leaf(leaf)
      amount = jnp.where(part, value, np.float32(0)).astype(leaf.dtype)
      total = jnp.ravel(leaf).at[where].add(amount)
      added.append(jnp.reshape(total, leaf.shape))
    return treedef.unflatten(added)

  def project(self, tree: chex.ArrayTree) -> jax.Array:
    """Returns projections on all canaries, float32 [num_canaries].

    Args:
      tree: Pytree as the parameters.

    Returns:
      The dot products with the canaries, each over `l2_norm`: in the units of
      `tree`, and `l2_norm` for a canary itself.

    Raises:
      ValueError: If shapes do not fit.
    """
    leaves, _ = self._leaves(tree)
    found = [
        jnp.ravel(leaf)[where].astype(jnp.float32)
        for leaf, where in zip(leaves, self.positions, strict=True)
    ]
    return jnp.concatenate(found)

  def linear_loss(
      self,
      params: chex.ArrayTree,
      index: chex.Numeric,
      *,
      gradient_norm: float,
  ) -> jax.Array:
    """Returns a loss whose gradient is a canary's direction, to be clipped.

    `insert` comes after clipping, so an audit with it does not see whether
    clipping works. This does: use it as the loss of the canary's row, `jnp.
    where(index >= 0, canaries.linear_loss(...), loss)`, with `gradient_norm`
    well above the clip norm, and do not `insert`.

    Args:
      params: The parameters.
      index: Number of the canary, an integer scalar; below 0, the loss is 0.
      gradient_norm: Norm of the loss's gradient with respect to `params`.

    Returns:
      gradient_norm times the canary's coordinate, float32.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    gradient_norm = _validate.positive("gradient_norm", gradient_norm)
    index = jnp.asarray(index)
    value = self.project(params)[jnp.maximum(index, 0)]
    return jnp.where(index >= 0, np.float32(gradient_norm) * value, 0.0)

  def _leaves(self, tree):
    leaves, treedef = jax.tree.flatten(tree)
    if len(leaves) != len(self.positions):
      rule = f"of {len(self.positions)} leaves, as the parameters"
      _validate.fail("tree", rule, len(leaves))
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    for leaf, where in zip(leaves, self.positions, strict=True):
      if len(where) and where[-1] >= leaf.size:  # JAX would clip or drop it.
        _validate.fail("tree", "of the parameters' shapes", leaf.shape)
    return leaves, treedef


def dirac_canaries(
    params: chex.ArrayTree, *, num_canaries: int, l2_norm: float, seed: int
) -> DiracCanaries:
  """Makes canaries of one coordinate each, drawn without replacement.

  Args:
    params: The parameters, of which only shapes are used.
    num_canaries: Number of canaries, at least 1 and at most the number of
      parameters.
    l2_norm: Most that one example may add to the clipped sum, in L2 norm:
      `grad_fn.sensitivity("add_or_remove_one")` (the clip norm over
      `normalize_by`).
    seed: Whole number. Coordinates may be public.

  Returns:
    The canaries.

  Raises:
    ValueError: If an argument breaks its rule.

  Source: Nasr et al. 2023 (2302.07956); Steinke, Nasr and Jagielski 2023
    (2305.08846).
  """
  num_canaries = _validate.integer("num_canaries", num_canaries, at_least=1)
  seed = _validate.integer("seed", seed, at_least=0)
  sizes = [int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params)]
  if num_canaries > sum(sizes):
    rule = f"at most the number of parameters, {sum(sizes)}"
    _validate.fail("num_canaries", rule, num_canaries)
  rng = np.random.default_rng(seed)
  chosen = np.sort(rng.choice(sum(sizes), num_canaries, replace=False))
  starts = np.cumsum([0, *sizes])
  edges = np.searchsorted(chosen, starts)
  positions = tuple(
      chosen[low:high] - start
      for low, high, start in zip(edges, edges[1:], starts, strict=False)
  )
  return DiracCanaries(positions, _validate.positive("l2_norm", l2_norm))


@dataclasses.dataclass(frozen=True, eq=False)
class RandomDirectionCanaries:
  """Canaries that point in independent, uniformly random directions.

  Directions are drawn anew whenever needed, so that each `insert` and `project`
  is num_canaries times the number of parameters of work, in the memory of one.
  They are nearly orthogonal only: canaries are noise to each other, scores
  depend on each other a little, and bounds that assume independent scores are
  not proven.

  Attributes:
    shapes: A pytree of `jax.ShapeDtypeStruct`, as the parameters.
    num_canaries: Number of canaries.
    l2_norm: L2 norm of each canary.
    key: PRNG key of the directions.
  """

  shapes: Any
  num_canaries: int
  l2_norm: float
  key: jax.Array

  def direction(self, index: chex.Numeric) -> chex.ArrayTree:
    """Returns canary `index`: a pytree of float32, of norm `l2_norm`.

    Args:
      index: Number of the canary, an integer scalar.
    """
    leaves, treedef = jax.tree.flatten(self.shapes)
    key = jax.random.fold_in(self.key, index)
    draws = [
        jax.random.normal(jax.random.fold_in(key, i), leaf.shape, jnp.float32)
        for i, leaf in enumerate(leaves)
    ]
    norm = jnp.sqrt(sum(jnp.sum(draw**2) for draw in draws))
    scale = np.float32(self.l2_norm * (1 - _MARGIN)) / norm
    return treedef.unflatten([draw * scale for draw in draws])

  def insert(
      self, clipped_sum: chex.ArrayTree, selected: chex.Array
  ) -> chex.ArrayTree:
    """Returns a clipped sum with the selected canaries added.

    Args:
      clipped_sum: Pytree as the parameters, of float32 or float64 leaves.
      selected: Whether each canary takes part, bool [num_canaries].

    Raises:
      ValueError: If shapes do not fit, or `selected` is not bool.
      TypeError: If a leaf is shorter than float32.

    Guarantee: See `DiracCanaries.insert`.
    """
    selected = _checked_selection(selected, self.num_canaries)
    self._check(clipped_sum)
    jax.tree.map(_check_leaf, clipped_sum)

    def add(index, total):
      def with_canary():
        return jax.tree.map(
            lambda t, c: t + c.astype(t.dtype), total, self.direction(index)
        )

      return jax.lax.cond(selected[index], with_canary, lambda: total)

    return jax.lax.fori_loop(0, self.num_canaries, add, clipped_sum)

  def project(self, tree: chex.ArrayTree) -> jax.Array:
    """Returns projections on all canaries; see `DiracCanaries.project`.

    Args:
      tree: Pytree as the parameters.

    Raises:
      ValueError: If shapes do not fit.
    """
    self._check(tree)

    def one(index):
      products = jax.tree.map(
          lambda c, t: jnp.sum(c * t.astype(c.dtype)),
          self.direction(index),
          tree,
      )
      return sum(jax.tree.leaves(products)) / np.float32(self.l2_norm)

    return jax.lax.map(one, jnp.arange(self.num_canaries))

  def _check(self, tree):
    ours = jax.tree.map(lambda x: x.shape, self.shapes)
    theirs = jax.tree.map(jnp.shape, tree)
    if ours != theirs:
      _validate.fail("tree", f"of the parameters' shapes, {ours}", theirs)


def random_direction_canaries(
    params: chex.ArrayTree,
    *,
    num_canaries: int,
    l2_norm: float,
    key: chex.PRNGKey | int,
) -> RandomDirectionCanaries:
  """Makes canaries of random directions.

  Args:
    params: The parameters, of which only shapes are used.
    num_canaries: Number of canaries, at least 1.
    l2_norm: L2 norm of each canary; see `dirac_canaries`.
    key: A PRNG key, or an int to make one of, that is not the noise's.

  Returns:
    The canaries.

  Raises:
    ValueError: If an argument breaks its rule.

  Source: Andrew et al. 2023 (2302.03098).
  """
  shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.float32), params
  )
  if not any(np.prod(s.shape) for s in jax.tree.leaves(shapes)):
    _validate.fail("params", "a pytree with at least one parameter", shapes)
  return RandomDirectionCanaries(
      shapes,
      _validate.integer("num_canaries", num_canaries, at_least=1),
      _validate.positive("l2_norm", l2_norm),
      _validate.prng_key("key", key),
  )


def _checked_selection(selected, num_canaries) -> jax.Array:
  selected = jnp.asarray(selected)
  if selected.dtype != bool or selected.shape != (num_canaries,):
    got = f"{selected.dtype} {selected.shape}"
    _validate.fail("selected", f"bool of shape ({num_canaries},)", got)
  return selected


def _check_leaf(leaf):
  if jnp.result_type(leaf) not in (jnp.float32, jnp.float64):
    raise TypeError(
        f"clipped_sum must be float32 or float64, got {jnp.result_type(leaf)}."
    )
