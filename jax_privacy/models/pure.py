"""Turns a Flax NNX model into a pure function and plain parameters.

Invariant: what comes out depends on its arguments alone. A model that holds
anything but parameters (running statistics, a random state) is refused, since
under DP-SGD that state would be an unaccounted release.

>>> from flax import nnx
>>> import jax.numpy as jnp
>>> apply_fn, params = functional(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
>>> sorted(params), num_parameters(params)
(['bias', 'kernel'], 9)
>>> apply_fn(params, jnp.ones((1, 2))).shape
(1, 3)
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from flax import nnx

Params: TypeAlias = dict[str, Any]


def refuse_batch_norm(model: nnx.Module) -> None:
  """Refuses a model whose output for one example depends on others.

  Args:
    model: any Flax NNX module.

  Raises:
    ValueError: if it holds BatchNorm, or any variable of batch statistics;
      the text names the layer's path and the replacement.

  Guarantee: BatchNorm mixes the examples of a batch, so that no bound on one
  example's gradient bounds its influence, and its running statistics would be
  released without noise.
  """
  for path, node in nnx.iter_graph(model):
    if isinstance(node, nnx.BatchNorm):
      layer = path
    elif isinstance(node, nnx.BatchStat):
      layer = path[:-1]
    else:
      continue
    raise ValueError(
        f"model must hold no BatchNorm, got one at {_dotted(layer)}: it mixes"
        " the examples of a batch. Use jax_privacy.models.GroupNorm instead."
    )


def functional(
    model: nnx.Module,
) -> tuple[Callable[[Params, jax.Array], jax.Array], Params]:
  """Splits a model into a pure function and a plain nested dict of arrays.

  Args:
    model: a module whose only variables are `nnx.Param`.

  Returns:
    (apply_fn, params), where `apply_fn(params, images)` gives what
    `model(images)` gives. The keys of `params` are the attribute names of the
    model; the members of a list have the keys "0", "1", ....

  Raises:
    ValueError: if the model holds BatchNorm or any other state.
  """
  refuse_batch_norm(model)
  graphdef, state, rest = nnx.split(model, nnx.Param, ...)
  for path, variable in nnx.to_flat_state(rest):
    raise ValueError(
        f"model must hold parameters only, got {type(variable).__name__} at"
        f" {_dotted(path)}."
    )
  leaves, treedef = jax.tree_util.tree_flatten_with_path(
      nnx.to_pure_dict(state)
  )
  paths = [tuple(str(entry.key) for entry in path) for path, _ in leaves]

  def apply_fn(params: Params, images: jax.Array) -> jax.Array:
    leaves = [_get(params, path) for path in paths]
    return nnx.merge(graphdef, treedef.unflatten(leaves))(images)

  params: Params = {}
  for path, (_, leaf) in zip(paths, leaves, strict=True):
    _set(params, path, leaf)
  return apply_fn, params


def num_parameters(params: Any) -> int:
  """Returns the number of scalars in a pytree of (abstract) arrays."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _dotted(path: tuple[Any, ...]) -> str:
  return ".".join(map(str, path)) or "the model itself"


def _get(params: Params, path: tuple[str, ...]) -> jax.Array:
  for key in path:
    if key not in params:
      raise ValueError(f"params must hold {_dotted(path)}.")
    params = params[key]
  return params


def _set(params: Params, path: tuple[str, ...], leaf: jax.Array) -> None:
  for key in path[:-1]:
    params = params.setdefault(key, {})
  params[path[-1]] = leaf
