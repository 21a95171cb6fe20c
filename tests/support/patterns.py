"""Every participation pattern of a few steps, for brute-force sensitivities."""

import itertools

import numpy as np


def moves(n, *, min_sep=1, max_participations=None, signs=False):
  """Returns every way that one example can take part, [ways, n].

  A one says that its clipped gradient is (1, 0, 0, ...), and a minus one, with
  `signs`, that it points the other way.
  """
  values = (-1, 0, 1) if signs else (0, 1)
  ways = np.array(list(itertools.product(values, repeat=n)), float)
  keep = np.ones(len(ways), bool)
  for distance in range(1, min(min_sep, n)):
    keep &= ~((ways[:, distance:] != 0) & (ways[:, :-distance] != 0)).any(1)
  if max_participations is not None:
    keep &= (ways != 0).sum(1) <= max_participations
  return ways[keep]


def furthest(strategy, ways):
  """Returns the farthest that a way moves C G: max of |C u|."""
  return np.linalg.norm(ways @ np.asarray(strategy, float).T, axis=1).max()


def toeplitz(coefs, n):
  """Returns the lower-triangular Toeplitz matrix [n, n], in NumPy."""
  padded = np.zeros(n)
  coefs = np.asarray(coefs, float)[:n]
  padded[: len(coefs)] = coefs
  i = np.arange(n)
  return np.tril(padded[np.abs(i[:, None] - i[None, :])])
