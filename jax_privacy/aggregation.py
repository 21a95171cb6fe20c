"""DP-SGD as one optax transformation of per-example gradients.

For a loop that maps its gradient over examples already: `aggregate` goes before
the optimiser, as `optax.contrib.differentially_private_aggregate` does. It
clips each example's gradient, sums, divides by the expected batch size and adds
noise. It makes nothing cheaper: the gradient of every example is there. For a
loss of a batch, `dp_sgd.make_private` finds the same sum without them.

The invariant: one example is one row of the incoming gradients. It moves the
outcome by at most l2_clip_norm / expected_batch_size, whatever its row holds.

Example:
  >>> import jax, jax.numpy as jnp, optax
  >>> from jax_privacy import dp_sgd
  >>> loss_fn = lambda w, x, y: (x @ w - y) ** 2
  >>> grad_fn = jax.vmap(jax.grad(loss_fn), in_axes=(None, 0, 0))
  >>> optimizer = optax.chain(
  ...     dp_sgd.aggregate(
  ...         l2_clip_norm=4.0, noise_multiplier=1.0, expected_batch_size=64,
  ...         key=jax.random.key(1)),
  ...     optax.sgd(0.1))
  >>> x = jax.random.normal(jax.random.key(0), (64, 2))
  >>> y = x @ jnp.array([1.0, -2.0])
  >>> w = jnp.zeros(2)
  >>> state = optimizer.init(w)
  >>> for _ in range(20):
  ...   updates, state = optimizer.update(grad_fn(w, x, y), state, w)
  ...   w = optax.apply_updates(w, updates)
  >>> print(jnp.round(w))
  [ 1. -2.]
"""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from jax_privacy import _validate, noise_addition, per_example, root_key
from jax_privacy import scaling as scaling_lib


@dataclasses.dataclass(frozen=True)
class AggregateState:
  """Position in the noise, and how a row differs from a parameter.

  A pytree; a checkpoint must hold it.

  Attributes:
    noise: Key and number of updates so far; the key is private.
    shapes: Shapes of the parameters' arrays; not an array, the same in a run.
  """

  noise: noise_addition.GaussianNoiseState
  shapes: tuple[tuple[int, ...], ...]


jax.tree_util.register_dataclass(
    AggregateState, data_fields=["noise"], meta_fields=["shapes"]
)


def aggregate(
    *,
    l2_clip_norm: float,
    noise_multiplier: float,
    expected_batch_size: float,
    key: root_key.RootKey | chex.PRNGKey | int,
    num_steps: int | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Clips per-example gradients, averages them and adds Gaussian noise.

  It replaces `optax.contrib.differentially_private_aggregate` and, chained
  before `optax.sgd`, for `optax.contrib.dpsgd`. It differs from them: the sum
  is divided by the expected batch size, not by the number of rows, which is
  private under Poisson sampling; noise is drawn in float32 at least; there is
  no default key; an example whose gradient is not finite counts zero.

  Put it first: `optax.chain(aggregate(...), optimizer)`. What is chained before
  it must treat each row alone. Accumulation goes behind it, and then noise is
  added at every call. Around it, `optax.MultiSteps` would average rows of
  different examples, and `optax.partition` or `optax.masked` would give it a
  part of each gradient: these are refused.

  Args:
    l2_clip_norm: Largest L2 norm that an example's whole gradient may keep, a
      number between 1e-30 and 1e30.
    noise_multiplier: Standard deviation of the noise over the clip norm, before
      the division; a positive number.
    expected_batch_size: Divisor of the sum: sampling probability x stated
      number of examples. A positive number; not the realised batch size.
    key: Private randomness of the run, used nowhere else: `RootKey.fresh()`, a
      JAX key, or an int as a fixed seed, for research. The same key gives
      `make_private` the same noise.
    num_steps: Number of updates that are accounted for; None for 2^31 - 1.

  Returns:
    An optax transformation. `init(params)` gives an `AggregateState`.
    `update(grads, state, params=None, *, is_padding_example=None)` takes a
    pytree of real floating-point arrays [batch_size, ...], one row an example.
    It returns the noised average, each leaf without its first axis, float32 at
    least. Rows that `is_padding_example`, bool [batch_size], marks count zero.
    Where batches are padded it must be given: a row of padding that is not
    marked counts as an example. A batch of no rows is a real step: it gives
    noise alone.

  Raises:
    ValueError: If an argument breaks its rule. From `update`, if leaves differ
      in their first axis, or have other shapes behind it than the parameters;
      from both functions, if they see a part of a tree; and after `num_steps`
      updates (where it is traced and cannot raise, the update is NaN).
    TypeError: From `update`, if a leaf is not real and floating point.

  Guarantee: Adding or removing one example (or making it zero) moves the sum
    over expected_batch_size by at most l2_clip_norm / expected_batch_size, and
    the noise has noise_multiplier times that. So one update is the Gaussian
    mechanism of `noise_multiplier`; with batches sampled as an accountant
    assumes, it is a step of what that accounts for. Which rows make a batch is
    the caller's promise.

  Source: Abadi et al. 2016 (arXiv 1607.00133), algorithm 1, with the sum
    divided by the expected batch size.
  """
  noise_multiplier = _validate.positive("noise_multiplier", noise_multiplier)
  expected_batch_size = _validate.positive(
      "expected_batch_size", expected_batch_size
  )
  scaling = scaling_lib.Scaling.of(
      _validate.clip_norm("l2_clip_norm", l2_clip_norm),
      normalize_by=expected_batch_size,
  )
  privatizer = noise_addition.gaussian_privatizer(
      stddev=noise_multiplier * scaling.l2_norm_bound,
      prng_key=root_key.RootKey.of(key).prng_key("noise"),
      num_steps=num_steps,
  )

  def init(params: Any) -> Any:
    shapes = tuple(jnp.shape(leaf) for _, leaf in _named(params, "params"))
    noise: Any = privatizer.init(params)
    return AggregateState(noise, shapes)

  def update(
      updates: Any,
      state: Any,
      params: Any = None,
      *,
      is_padding_example: Any = None,
      **extra_args: Any,
  ) -> tuple[Any, Any]:
    del params, extra_args  # What follows in the chain may need them.
    is_padding_example = _checked(updates, state.shapes, is_padding_example)

    def clip(grads, is_padding):
      (clipped,), _ = per_example.clip_parts(
          [grads],
          [scaling.clip_norms],
          divide_by=scaling.divide_by,
          return_zero=is_padding,
      )
      return clipped

    clipped = jax.vmap(clip)(updates, is_padding_example)
    total = jax.tree.map(lambda g: jnp.sum(g, axis=0), clipped)
    noised, noise = privatizer.update(total, state.noise)
    return noised, dataclasses.replace(state, noise=noise)

  return optax.GradientTransformationExtraArgs(init, update)


def _named(tree: Any, name: str) -> list[tuple[str, Any]]:
  """Returns names and arrays of a tree; refuses a part of a tree, or none."""

  def is_masked(node):
    return isinstance(node, optax.MaskedNode)

  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_masked)
  named = [(f"{name}{jax.tree_util.keystr(path)}", x) for path, x in leaves]
  for full_name, leaf in named:
    if is_masked(leaf):
      rule = (
          "in the tree (aggregate clips the norm of the whole gradient: put it"
          " before optax.partition, optax.masked and the like)"
      )
      _validate.fail(full_name, rule, leaf)
  if not named:
    _validate.fail(name, "a pytree with at least one array", tree)
  return named


def _checked(
    grads: Any, shapes: tuple[tuple[int, ...], ...], is_padding_example: Any
) -> jax.Array:
  """Refuses what is not one row for each example; returns the mask."""
  named = _named(grads, "grads")
  if len(named) != len(shapes):
    rule = f"a gradient of each of the {len(shapes)} arrays of params"
    _validate.fail("grads", rule, f"{len(named)} arrays")
  size = None
  for (name, leaf), shape in zip(named, shapes, strict=True):
    dtype = jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.floating):
      raise TypeError(f"{name} must be real and floating point, got {dtype}.")
    got = jnp.shape(leaf)
    if not got or got[1:] != shape or got[0] != (size or got)[0]:
      rule = (
          f"of shape {_shape(size, shape)}, a row for each example (as from"
          " jax.vmap(jax.grad(loss_fn)); for the gradient of a batch's loss,"
          " take dp_sgd.make_private; optax.MultiSteps goes behind aggregate)"
      )
      _validate.fail(name, rule, got)
    size = got[:1]
  if is_padding_example is None:
    return jnp.zeros(size, bool)
  mask = jnp.asarray(is_padding_example)
  if mask.dtype != bool or mask.shape != size:
    got = f"{mask.dtype} of shape {mask.shape}"
    _validate.fail("is_padding_example", f"bool of shape {size}", got)
  return mask


def _shape(size, shape):
  """Shows the shape of per-example gradients."""
  entries = ("batch_size" if size is None else size[0], *shape)
  return f"({', '.join(map(str, entries))}{',' if not shape else ''})"
