"""Finds batch normalisation in a traced loss, and its statistics in a pytree.

Batch norm in training mode mixes examples. Given one example, it normalises by
that example alone, which gives zeros, or another network than the one meant. An
equation knows which Python function made it, so the layer is found in the
program itself. With fixed statistics it takes no mean, and is not found.

The invariant: it names only layers that take means, and statistics by the names
that Flax, Haiku and Equinox give them.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy import batch_statistics
  >>> batch_statistics.in_params({"params": 1.0, "batch_stats": {"mean": 0.0}})
  ["['batch_stats']['mean']"]
"""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend.core as jex_core

from jax_privacy import jaxprs

REMEDY = (
    "Use a norm over one example's own entries (group, layer or instance norm),"
    " or keep its statistics fixed and outside the parameters"
    " (use_running_average=True, model.eval(), is_training=False,"
    " eqx.nn.inference_mode)."
)
_LIBRARIES = ("flax", "haiku", "equinox")
_MEANS = ("reduce_sum", "psum", "pmean")
_LAYER = re.compile(r"(?:^|\.)(\w*Batch(?:Re)?[nN]orm\w*)\.")
_HAIKU = re.compile(r"/~/(mean|var)_ema")


def in_loss(closed: jex_core.ClosedJaxpr) -> list[str]:
  """Returns the batch norms that take means in a traced loss.

  Args:
    closed: Closed jaxpr of the loss, as `jax.make_jaxpr` returns it.

  Returns:
    Library, class and the place in the model, where known; without repeats.
  """
  found = {}
  for eqn in _equations(closed.jaxpr):
    if eqn.primitive.name in _MEANS:
      layer = _layer(eqn)
      if layer is not None:
        found[layer] = None
  return list(found)


def in_params(params: Any) -> list[str]:
  """Returns the paths of leaves that are running statistics, not parameters.

  Args:
    params: A pytree.
  """
  owners = set()

  def look(node):
    if any(cls.__name__ == "BatchStat" for cls in type(node).__mro__):
      owners.add(id(node))
      return True
    return False

  flat = jax.tree_util.tree_leaves_with_path(params, is_leaf=look)
  return [
      jax.tree_util.keystr(path)
      for path, leaf in flat
      if id(leaf) in owners or _is_statistic(path)
  ]


def _is_statistic(path):
  keys = [str(getattr(key, "key", "")) for key in path]
  return "batch_stats" in keys or any(_HAIKU.search(key) for key in keys)


def _layer(eqn):
  """The library's batch norm that made an equation, or None."""
  traceback = eqn.source_info.traceback
  for frame in traceback.frames if traceback is not None else ():
    match = _LAYER.search(frame.function_name)
    folders = frame.file_name.replace("\\", "/").split("/")
    library = next((x for x in _LIBRARIES if x in folders), None)
    if match and library:
      place = str(eqn.source_info.name_stack)
      return f"{library}'s {match[1]}" + (f" at {place}" if place else "")
  return None


def _equations(jaxpr) -> Iterator[Any]:
  for eqn in jaxpr.eqns:
    yield eqn
    for held in jaxprs.held(eqn):
      yield from _equations(held)
