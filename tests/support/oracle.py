"""The slow oracle of clipping, and the check of sensitivity, for the tests.

The oracle is Python loops and float64 NumPy: one `jax.grad` call an example, no
vmap, no code of the library. What it says is compared with, never imported by,
the library.
"""

import jax
import jax.numpy as jnp
import numpy as np


def example_rows(batch, i, *, keep_batch_dim):
  """Row i of every leaf of a batch, with or without a leading axis of 1."""
  rows = slice(i, i + 1) if keep_batch_dim else i
  return jax.tree.map(lambda x: x[rows], batch)


def flat64(tree):
  """All entries of a pytree as one float64 vector."""
  leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
  return np.concatenate(leaves) if leaves else np.zeros(0)


def norm(tree):
  return float(np.linalg.norm(flat64(tree)))


def clipped_sum(fun, params, batch, clip_norm, *, keep_batch_dim=True):
  """Sum of float64 gradients of `fun(params, row)`, each clipped whole."""
  num_examples = len(jax.tree.leaves(batch)[0])
  total = np.zeros_like(flat64(params))
  norms = []
  for i in range(num_examples):
    row = example_rows(batch, i, keep_batch_dim=keep_batch_dim)
    grad = flat64(jax.grad(fun)(params, row))
    norms.append(np.linalg.norm(grad))
    total += grad * min(1.0, clip_norm / max(norms[-1], 1e-300))
  return total, np.array(norms)


def drop(batch, i):
  """The batch without example i."""
  return jax.tree.map(lambda x: jnp.delete(x, i, axis=0), batch)


def replace(batch, i, row):
  """The batch with example i replaced by the (one-row) batch `row`."""
  return jax.tree.map(lambda x, r: x.at[i].set(r[0]), batch, row)


def distance(a, b):
  """L2 distance between two pytrees, in float64; infinite if not finite."""
  with np.errstate(invalid="ignore"):
    value = np.linalg.norm(flat64(a) - flat64(b))
  return float(value) if np.isfinite(value) else float("inf")
