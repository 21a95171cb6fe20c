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

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from flax import nnx

Params: TypeAlias = dict[str, Any]


def refuse_batch_norm(model: nnx.Module) -> None:
  """Refuses a model whose output for one example depends on others.

  Args:
    model: Any Flax NNX module.

  Raises:
    ValueError: If it holds BatchNorm, or any variable of batch statistics;
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
        "model must hold no BatchNorm and no batch statistics, got them at"
        f" {_dotted(layer)}: they mix the examples of a batch. Use"
        " jax_privacy.models.GroupNorm instead."
    )


def functional(
    model: nnx.Module,
) -> tuple[Callable[..., jax.Array], Params]:
  """Splits a model into a pure function and a plain nested dict of arrays.

  Args:
    model: Module whose only variables are `nnx.Param`.

  Returns:
    (apply_fn, params), where `apply_fn(params, images, keys=None)` gives what
    `model(images)` gives, and refuses parameters of another structure. `keys`,
    a PRNG key per image, are for the masks of dropout and stochastic depth. A
    model whose call takes `keys` gets them; any other has no masks. Without
    keys nothing is dropped. The keys of `params` are the attribute names of the
    model; the members of a list have the keys "0", "1", ....

  Raises:
    ValueError: If the model holds BatchNorm or any other state.
  """
  with_model, params = _split(model)
  takes_keys = "keys" in inspect.signature(model).parameters

  def apply_fn(
      params: Params, images: jax.Array, keys: jax.Array | None = None
  ) -> jax.Array:
    model = with_model(params)
    if keys is None or not takes_keys:
      return model(images)
    return model(images, keys=keys)

  return apply_fn, params


def method(model: nnx.Module, name: str) -> Callable[..., Any]:
  """Returns a method of a model as a pure function of its parameters.

  Args:
    model: Module whose only variables are `nnx.Param`.
    name: Name of the method.

  Returns:
    `method_fn(params, *args)`, which gives what the method gives of `args`,
    with parameters as `functional` has them.

  Raises:
    ValueError: If the model holds BatchNorm or any other state.
  """
  with_model, _ = _split(model)
  return lambda params, *args: getattr(with_model(params), name)(*args)


def _split(model: nnx.Module) -> tuple[Callable[[Params], Any], Params]:
  """Returns a function of parameters that makes the model, and its own."""
  refuse_batch_norm(model)
  graphdef, state, rest = nnx.split(model, nnx.Param, ...)
  for path, variable in nnx.to_flat_state(rest):
    raise ValueError(
        f"model must hold parameters only, got {type(variable).__name__} at"
        f" {_dotted(path)}."
    )
  initial = nnx.to_pure_dict(state)
  leaves = _by_path(initial)
  # The function below keeps the paths, but must not keep the arrays alive.
  paths, treedef = tuple(leaves), jax.tree.structure(initial)

  def with_model(params: Params) -> nnx.Module:
    given = _by_path(params)
    for path in sorted(given.keys() ^ set(paths)):
      got = "another" if path in given else "none"
      raise ValueError(
          "params must have the leaves of this model, got"
          f" {got} at {_dotted(path)}."
      )
    # By path, not by order: the members of a list are sorted as text in one
    # tree ("10" before "2") and as numbers in the other.
    return nnx.merge(
        graphdef, treedef.unflatten([given[path] for path in paths])
    )

  return with_model, _nested(leaves)


def num_parameters(params: Any) -> int:
  """Returns the number of scalars in a pytree of (abstract) arrays.

  Args:
    params: Pytree of arrays, or of their shapes and dtypes.
  """
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _dotted(path: tuple[Any, ...]) -> str:
  return ".".join(map(str, path)) or "the model itself"


def _by_path(tree: Params) -> dict[tuple[str, ...], jax.Array]:
  """Returns the leaves of nested dicts by their keys, in the tree's order."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {tuple(str(key.key) for key in path): leaf for path, leaf in leaves}


def _nested(leaves: dict[tuple[str, ...], jax.Array]) -> Params:
  """The inverse of `_by_path`, with text for every key."""
  params: Params = {}
  for path, leaf in leaves.items():
    node = params
    for key in path[:-1]:
      node = node.setdefault(key, {})
    node[path[-1]] = leaf
  return params
