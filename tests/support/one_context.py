"""Has a process make one context of MLIR for all that it compiles.

JAX makes one for each program, in which it registers all operations there are:
a tenth of the time of tests that compile small programs. The programs are the
same. With `FULL_XLA=1` nothing is changed, nor for a version of JAX that has
this private function elsewhere.
"""

import functools
import os

from jax._src.interpreters import mlir

_NAME = "make_ir_context"


def share() -> None:
  if not os.environ.get("FULL_XLA") and hasattr(mlir, _NAME):
    setattr(mlir, _NAME, functools.cache(getattr(mlir, _NAME)))
