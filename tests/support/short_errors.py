"""Has a traced array say in a few words that it has no sharding.

NNX asks each variable that it sets for one, and JAX answers by an error that
looks through all that was traced so far, which nobody reads: to build a deep
network for its shapes took twice as long. With `FULL_XLA=1` nothing is changed,
nor for a version of JAX that has this private name elsewhere.
"""

import os


def share() -> None:
  if os.environ.get("FULL_XLA"):
    return
  try:
    from jax._src.interpreters.partial_eval import DynamicJaxprTracer
  except ImportError:
    return
  DynamicJaxprTracer.sharding = property(_no_sharding)


def _no_sharding(tracer):
  raise AttributeError(f"The 'sharding' attribute is not on {tracer.aval}.")
