"""Checks of the matrices A = B C and X = C^T C.

Invariant: what passes is finite and has the shape that formulas assume; square
matrices are lower-triangular, Gram matrices symmetric.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.matrix_factorization import _checks
  >>> _checks.check(A=jnp.tri(3), C=jnp.eye(3))
  >>> _checks.check(C=jnp.ones((2, 2)))
  Traceback (most recent call last):
  ...
  ValueError: Matrix C must be lower-triangular, got [[1. 1.] [1. 1.]].
"""

from typing import Any

import jax
import jax.numpy as jnp

# What the two sides of each matrix have in common with those of others.
_SIDES = {"A": "nn", "B": "nk", "C": "kn", "X": "nn"}


def _fail(name: str, rule: str, matrix: Any):
  text = " ".join(str(matrix).split())
  shown = text if len(text) <= 200 else f"{text[:200]}..."
  raise ValueError(f"Matrix {name} must be {rule}, got {shown}.")


def check_square(matrix: jax.Array, name: str) -> None:
  """Refuses a matrix that is not square."""
  if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
    _fail(name, "square", f"shape {matrix.shape}")


def check(
    *,
    A: jax.Array | None = None,  # noqa: N803
    B: jax.Array | None = None,  # noqa: N803
    C: jax.Array | None = None,  # noqa: N803
    X: jax.Array | None = None,  # noqa: N803
) -> None:
  """Checks those of the matrices that are given, and that they fit."""
  given = {"A": A, "B": B, "C": C, "X": X}
  given = {k: jnp.asarray(v) for k, v in given.items() if v is not None}
  for name, matrix in given.items():
    _check_one(name, matrix)
  if "B" in given and "C" in given:
    inner = given["B"].shape[1], given["C"].shape[0]
    if inner[0] != inner[1]:
      raise ValueError(
          "B and C shapes do not match: C must have as many rows as B has"
          f" columns, got {inner[1]} and {inner[0]}."
      )
  sizes = {
      size
      for name, matrix in given.items()
      for side, size in zip(_SIDES[name], matrix.shape, strict=True)
      if side == "n"
  }
  if len(sizes) > 1:
    shapes = {name: matrix.shape for name, matrix in given.items()}
    raise ValueError(
        "Expected matrix shapes of one number of steps: A, B, C and X must be"
        f" [n, n], [n, k], [k, n] and [n, n], got {shapes}."
    )


def _check_one(name: str, matrix: jax.Array) -> None:
  if matrix.ndim != 2:
    _fail(name, "a matrix", f"shape {matrix.shape}")
  if not jnp.all(jnp.isfinite(matrix)):
    _fail(name, "finite", matrix)
  if name in "AX":
    check_square(matrix, name)
  if name == "X":
    if not jnp.allclose(matrix, matrix.T):
      _fail(name, "symmetric", matrix)
  elif matrix.shape[0] == matrix.shape[1]:
    if not jnp.allclose(matrix, jnp.tril(matrix)):
      _fail(name, "lower-triangular", matrix)
