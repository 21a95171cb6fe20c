"""The slow oracle of clipping, and the check of sensitivity, for the tests.

The oracle is Python loops and float64 NumPy: one `jax.grad` call an example
(compiled for one example), no vmap, no code of the library. What it says is
compared with, never imported by, the library.
"""

import functools

import jax
import numpy as np


@functools.cache
def gradient(fun):
  """`jax.grad(fun)`, compiled once for all who ask for that of `fun`."""
  return jax.jit(jax.grad(fun))


def example_rows(batch, i, *, keep_batch_dim):
  """Row i of every leaf of a batch, with or without a leading axis of 1."""
  rows = slice(i, i + 1) if keep_batch_dim else i
  return jax.tree.map(lambda x: _host(x)[rows], batch)


def flat64(tree):
  """All entries of a pytree as one float64 vector."""
  leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
  return np.concatenate(leaves) if leaves else np.zeros(0)


def norm(tree):
  return float(np.linalg.norm(flat64(tree)))


def clipped_sum(
    fun, params, batch, clip_norm, *, keep_batch_dim=True, gradient_fn=gradient
):
  """Sum of float64 gradients of `fun(params, row)`, each clipped whole."""
  num_examples = len(jax.tree.leaves(batch)[0])
  total = np.zeros_like(flat64(params))
  norms, grad_fn = [], gradient_fn(fun)
  for i in range(num_examples):
    row = example_rows(batch, i, keep_batch_dim=keep_batch_dim)
    grad = flat64(grad_fn(params, row))
    norms.append(np.linalg.norm(grad))
    total += grad * min(1.0, clip_norm / max(norms[-1], 1e-300))
  return total, np.array(norms)


def drop(batch, i):
  """The batch without example i."""
  return jax.tree.map(lambda x: np.delete(x, i, axis=0), batch)


def replace(batch, i, row):
  """The batch with example i replaced by the (one-row) batch `row`."""

  def put(x, r):
    x = np.array(x)
    x[i] = r[0]
    return x

  return jax.tree.map(put, batch, row)


def _host(x):
  """NumPy's array of `x`; keys stay as they are."""
  is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
  return x if is_key else np.asarray(x)


def distance(a, b):
  """L2 distance between two pytrees, in float64; infinite if not finite."""
  with np.errstate(invalid="ignore"):
    value = np.linalg.norm(flat64(a) - flat64(b))
  return float(value) if np.isfinite(value) else float("inf")
