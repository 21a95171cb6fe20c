"""Has a process make one context of MLIR for all that it compiles.

JAX makes one for each program, in which it registers all operations there are:
a tenth of the time of tests that compile small programs. The programs are the
same. With `FULL_XLA=1` nothing is changed, nor for a version of JAX that has
this private function elsewhere.
"""

import functools
import os

from jax._src.interpreters import mlir
from jaxlib.mlir import ir

_NAME = "make_ir_context"


def share() -> None:
  if os.environ.get("FULL_XLA") or not hasattr(mlir, _NAME):
    return
  fresh = getattr(mlir, _NAME)
  shared = functools.cache(fresh)

  def make():
    # A program that is compiled while another is lowered would become a part
    # of it, in the same context.
    return shared() if ir.Context.current is None else fresh()

  setattr(mlir, _NAME, make)
