"""Tree aggregation: noisy sums over the nodes of a binary tree of steps.

Node by node, C sums the steps below; a prefix sum adds the few nodes that tile
it. The strategy is not square: n steps have 2 n - 1 nodes, and less where n is
no power of 2.

Invariant: `decoder_matrix(n) @ strategy_matrix(n)` is the matrix of prefix
sums, and `noising_matrix(n) @ strategy_matrix(n)` the identity.

Example:
  >>> from jax_privacy.matrix_factorization import (
  ...     sensitivity, tree_aggregation)
  >>> C = tree_aggregation.strategy_matrix(8)
  >>> print(C.shape, sensitivity.single_participation_sensitivity(C))
  (15, 8) 2.0
"""

import jax
import jax.numpy as jnp
import numpy as np


def strategy_matrix(n: int) -> jax.Array:
  """Returns C, [nodes, n]: row v has ones at the steps below node v.

  Its squared sensitivity to one participation is the number of levels.

  Args:
    n: Number of steps.

  Source: Dwork et al. 2010, and Chan, Shi and Song 2011.
  """
  rows = np.zeros((len(_nodes(n)), n))
  for row, (begin, end) in zip(rows, _nodes(n), strict=True):
    row[begin:end] = 1
  return jnp.asarray(rows)


def decoder_matrix(n: int) -> jax.Array:
  """Returns B, [n, nodes], with B C the matrix of prefix sums.

  Row i has ones at the nodes that tile steps 0 to i: as many as i + 1 has
  binary ones.

  Args:
    n: Number of steps.
  """
  index = {node: i for i, node in enumerate(_nodes(n))}
  rows = np.zeros((n, len(index)))
  for i, row in enumerate(rows):
    begin, left = 0, i + 1
    while left:
      size = 1 << (left.bit_length() - 1)
      row[index[begin, begin + size]] = 1
      begin, left = begin + size, left - size
  return jnp.asarray(rows)


def noising_matrix(n: int) -> jax.Array:
  """Returns the noise of each step as a sum of nodes' noises, [n, nodes].

  Args:
    n: Number of steps.
  """
  decoder = decoder_matrix(n)
  return decoder.at[1:].add(-decoder[:-1])


def _nodes(n: int) -> list[tuple[int, int]]:
  """The (first step, end) of each node within n steps, small ones first."""
  sizes = [1 << level for level in range(n.bit_length())]
  return [
      (begin, begin + size)
      for size in sizes
      for begin in range(0, n - size + 1, size)
  ]
