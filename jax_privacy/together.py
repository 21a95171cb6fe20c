"""Does the loss of several examples add up from the losses of each?

`clipped_grad` gives a loss one example at a time. A loss that compares examples
with each other (batch norm, contrastive and pairwise losses, centring) then has
nothing to compare. Its gradient is zero, or another loss's gradient. This
module compares the gradient for several rows with the gradients for each row
alone. The first must be a combination of the others: a mean, a sum, a weighted
mean, or a sum and a term of the parameters alone. Randomness is taken out first
(`quiet.py`).

The invariant: a verdict other than "unknown" comes from finite gradients of the
loss itself. "mixed" needs a difference far above rounding.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import together
  >>> x = jnp.array([[1.0, 2.0], [3.0, 5.0], [-1.0, 0.5]])
  >>> mean = together.Loss(lambda w, x: jnp.mean((x @ w) ** 2))
  >>> together.compare(mean, (jnp.ones(2), x)).verdict
  'mean'
  >>> centred = lambda w, x: jnp.mean(((x - x.mean(0, keepdims=True)) @ w) ** 2)
  >>> together.compare(together.Loss(centred), (jnp.ones(2), x)).verdict
  'mixed'
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import loss_call, quiet

# Far above what float32 rounds (1e-5 was seen), far below what mixing does.
_TOLERANCE = 1e-2
_SHORT_TOLERANCE = 0.25  # Where anything is bfloat16 or float16.
# Where all examples alone leave an array at exactly zero.
_LEAF_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Loss(loss_call.LossCall):
  """A loss and how `clipped_grad` calls it; see there.

  Attributes:
    has_aux: Whether the loss returns (loss, aux).
  """

  has_aux: bool = False

  def params(self, args: Sequence[Any]) -> tuple[Any, ...]:
    """Returns the arguments that are differentiated.

    Args:
      args: All arguments of the loss.
    """
    return tuple(args[i] for i in self.param_argnums)

  def rows(self, args: Sequence[Any]) -> tuple[Any, ...]:
    """Returns the batch arguments.

    Args:
      args: All arguments of the loss.
    """
    return tuple(args[i] for i in self.batched)

  def bind(self, args: Sequence[Any]) -> Callable[..., Any]:
    """Returns the loss as a function of (params, rows).

    Args:
      args: All arguments of the loss; the rest is taken from here.
    """

    def value(params, rows):
      full = list(args)
      for i, param in zip(self.param_argnums, params, strict=True):
        full[i] = param
      for i, row in zip(self.batched, rows, strict=True):
        if not self.keep_batch_dim:
          row = jax.tree.map(lambda x: x[0], row)
        full[i] = row
      out = self.fun(*full)
      return jnp.asarray(out[0] if self.has_aux else out)

    return value


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Result of `compare`.

  Attributes:
    verdict: Name: "mean", "sum", "first" (the others count nothing), "weighted"
      (a combination of the examples' gradients by other weights), "mixed"
      (none), "zero" (every example alone has a gradient of zero, or not finite,
      and so have all together), "alone" (the loss takes one example), or
      "unknown" (a gradient is not finite).
    weights: Weights of the examples, where it is a combination; else ().
    gap: Distance of the gradient to the nearest combination, relative to it.
    num_silent: Number of examples that alone have a gradient of zero, or not
      finite.
    num_examples: Number of examples that were compared.
  """

  verdict: str
  weights: tuple[float, ...] = ()
  gap: float = 0.0
  num_silent: int = 0
  num_examples: int = 0


def compare(loss: Loss, args: Sequence[Any]) -> Comparison:
  """Compares the loss of rows together with the loss of each alone.

  Args:
    loss: Loss to compare.
    args: Arguments of the loss, as for `clipped_grad`; concrete.

  Returns:
    The gravest verdict at the parameters given and at others near them.
  """
  rows = loss.rows(args)
  value, params = loss.bind(args), loss.params(args)
  size = len(jax.tree.leaves(rows)[0])
  one = jax.tree.map(lambda x: _struct(x, 1), rows)
  # Traced here, since where values are computed at once draws leave no trace.
  alone_fn = _gradient(value, params, one)
  together_fn = None
  if loss.keep_batch_dim and size > 1:
    together_fn = _gradient(value, params, rows)
  with jax.ensure_compile_time_eval():  # Within a trace too.
    found = [
        _compare_at(alone_fn, together_fn, point, rows, size)
        for point in (params, _near(params))
    ]
  order = ("mixed", "weighted", "first", "sum", "mean", "alone", "zero")
  order += ("unknown",)
  return min(found, key=lambda c: order.index(c.verdict))


def _compare_at(alone_fn, together_fn, params, rows, size):
  """The comparison at some parameters."""
  if alone_fn is None:
    return Comparison("unknown", num_examples=size)
  alone = [alone_fn(params, take(rows, [i])) for i in range(size)]
  if together_fn is None:
    return _alone_only(alone)
  together = together_fn(params, rows)
  seen = _verdict(alone, together)
  if seen.verdict == "mixed":
    swapped = [_swapped(rows, i) for i in range(min(size, 4))]
    changes = [together_fn(params, other) for other in swapped]
    if _is_sum_and_more(alone, together, changes):
      return dataclasses.replace(seen, verdict="sum")
  return seen


def _struct(x, size):
  x = jnp.asarray(x)
  return jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)


def take(rows: Any, indices: Sequence[int] | np.ndarray) -> Any:
  """Returns the rows at `indices`.

  Args:
    rows: Pytree of arrays [batch_size, ...].
    indices: Indices of rows, [n].
  """
  places = np.asarray(indices)

  def one(x):
    is_number = not jnp.issubdtype(x.dtype, jax.dtypes.extended)
    if is_number and getattr(x, "is_fully_addressable", True):
      x = np.asarray(x)  # To take these compiles nothing.
    return jnp.asarray(x[places])

  return jax.tree.map(one, rows)


def _swapped(rows, i):
  """The rows, with that after row i in its place."""
  size = len(jax.tree.leaves(rows)[0])
  indices = list(range(size))
  indices[i] = (i + 1) % size
  return take(rows, indices)


def _gradient(value, params, rows):
  """Returns (params, rows) -> leaves of the gradient, or None if no scalar."""
  try:
    shape = jax.eval_shape(value, params, rows)
    is_scalar = shape.shape == () and jnp.issubdtype(shape.dtype, jnp.floating)
    still = quiet.without_draws(value, params, rows)
  except Exception:  # Whatever a loss of one example makes of several.
    return None
  if not is_scalar:
    return None
  grad = jax.jit(jax.grad(still))

  def leaves(params, rows):
    with jax.default_matmul_precision("highest"):
      return [_Leaf.of(g) for g in jax.tree.leaves(grad(params, rows))]

  return leaves


@dataclasses.dataclass(frozen=True)
class _Leaf:
  """One array of a gradient, float64, and whether it was made of less."""

  values: np.ndarray
  is_short: bool

  @classmethod
  def of(cls, g):
    is_short = jnp.finfo(g.dtype).bits < 32
    return cls(np.asarray(g, np.float32).astype(np.float64).ravel(), is_short)


def _near(params):
  """Other parameters of the same shapes and sizes, none of them zero."""
  rng = np.random.default_rng(0)

  def move(x):
    x = jnp.asarray(x)
    old = np.asarray(x, np.float32)
    scale = 0.1 * float(np.sqrt(np.mean(old**2))) if old.size else 0.0
    new = old + (scale or 0.1) * rng.standard_normal(old.shape)
    return jnp.asarray(new.astype(np.float32)).astype(x.dtype)

  return jax.tree.map(move, params)


def _norms(gradients):
  return np.sqrt([sum(np.sum(x.values**2) for x in g) for g in gradients])


def _is_silent(norms):
  return ~(np.isfinite(norms) & (norms > 0))


def _alone_only(alone):
  silent = _is_silent(_norms(alone))
  verdict = "zero" if silent.all() else "alone"
  return Comparison(verdict, (), 0.0, int(silent.sum()), len(alone))


def _verdict(alone, together):
  norms, norm = _norms(alone), float(_norms([together])[0])
  silent, size = _is_silent(norms), len(alone)
  result = Comparison("unknown", (), 0.0, int(silent.sum()), size)
  if not np.isfinite(norm):
    zero = silent.all() and not np.isfinite(norms).any()
    return dataclasses.replace(result, verdict="zero" if zero else "unknown")
  if silent.all():
    verdict = "mixed" if norm > 0 else "zero"
    return dataclasses.replace(result, verdict=verdict, gap=1.0)
  if not np.isfinite(norms).all():
    return result
  grams = [
      _gram([g[k].values for g in [*alone, together]])
      for k in range(len(together))
  ]
  gram = functools.reduce(operator.add, grams)
  is_short = any(x.is_short for x in together)
  tolerance = _SHORT_TOLERANCE if is_short else _TOLERANCE
  hypotheses = {
      "mean": np.full(size, 1 / size),
      "sum": np.ones(size),
      "first": np.eye(size)[0],
      "weighted": np.linalg.pinv(gram[:-1, :-1], rcond=1e-9) @ gram[:-1, -1],
  }
  for verdict, weights in hypotheses.items():
    gap = _gap(gram, weights)
    if gap <= tolerance and not _is_new_leaf(alone, together, norm, is_short):
      return dataclasses.replace(
          result, verdict=verdict, weights=tuple(map(float, weights)), gap=gap
      )
  # There is at least one hypothesis.
  # pyrefly: ignore[unbound-name]
  return dataclasses.replace(result, verdict="mixed", gap=gap)


def _gram(vectors):
  stacked = np.stack(vectors)
  return stacked @ stacked.T


def _gap(gram, weights):
  """Distance of the last vector to a combination, over the larger of both."""
  direction = np.append(weights, -1.0)
  distance = np.sqrt(max(0.0, direction @ gram @ direction))
  sizes = np.abs(direction) * np.sqrt(np.diag(gram))
  return float(distance / max(sizes.max(), 1e-300))


def _is_new_leaf(alone, together, norm, is_short):
  """Whether an array that no example moves alone is moved by all together."""
  if is_short:
    return False
  for k, leaf in enumerate(together):
    if not any(np.any(g[k].values) for g in alone):
      if np.linalg.norm(leaf.values) > _LEAF_TOLERANCE * norm:
        return True
  return False


def _is_sum_and_more(alone, together, changes):
  """Whether swapping rows changes a sum by what these rows add alone.

  What depends on the parameters alone (weight decay, in a sum) cancels.
  """
  size = len(alone)
  seen = np.stack([_flat(c) - _flat(together) for c in changes])
  want = np.stack(
      [
          _flat(alone[(i + 1) % size]) - _flat(alone[i])
          for i in range(len(changes))
      ]
  )
  if not (np.isfinite(seen).all() and np.isfinite(want).all()):
    return False
  total = np.sum(want * want)
  factor = np.sum(seen * want) / total if total else 0.0
  largest = max(np.linalg.norm(seen), factor * np.linalg.norm(want), 1e-300)
  return total > 0 and (
      np.linalg.norm(seen - factor * want) <= _TOLERANCE * largest
  )


def _flat(gradient):
  return np.concatenate([x.values for x in gradient])
