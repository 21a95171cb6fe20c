"""Correlated noise: strategies, their sensitivities, losses and optimisers.

A workload A (sums of all gradients so far, say) is factorised as A = B C. Step
i adds row i of C^-1 Z to its gradient, with Z independent Gaussian noise in
proportion to the sensitivity of C. Noise that a later step takes back spoils a
sum of gradients less than independent noise does.

`strategy` is C and `noising` is C^-1 throughout. Names and signatures are those
of jax-privacy 2.x where it has the function.

Example:
  >>> from jax_privacy.matrix_factorization import toeplitz
  >>> C = toeplitz.optimal_max_error_strategy_coefs(64)
  >>> loss = toeplitz.max_loss(strategy_coef=C)
  >>> print(f"{loss ** 0.5:.3f}")  # 8, with independent noise
  2.389
"""

import importlib as _importlib
import typing as _typing

from jax_privacy.matrix_factorization.streaming_matrix import (
    StreamingMatrix as StreamingMatrix,
)

if _typing.TYPE_CHECKING:
  from jax_privacy.matrix_factorization import banded as banded
  from jax_privacy.matrix_factorization import (
      buffered_toeplitz as buffered_toeplitz,
  )
  from jax_privacy.matrix_factorization import dense as dense
  from jax_privacy.matrix_factorization import noising as noising
  from jax_privacy.matrix_factorization import optimization as optimization
  from jax_privacy.matrix_factorization import sensitivity as sensitivity
  from jax_privacy.matrix_factorization import (
      streaming_matrix as streaming_matrix,
  )
  from jax_privacy.matrix_factorization import toeplitz as toeplitz
  from jax_privacy.matrix_factorization import (
      tree_aggregation as tree_aggregation,
  )

__all__ = (
    "StreamingMatrix",
    "banded",
    "buffered_toeplitz",
    "dense",
    "noising",
    "optimization",
    "sensitivity",
    "streaming_matrix",
    "toeplitz",
    "tree_aggregation",
)


def __getattr__(name: str) -> _typing.Any:
  if name in __all__:
    return _importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return list(__all__)
