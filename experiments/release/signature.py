"""What a predictor reads of a batch: its inputs, and no targets.

A batch is any pytree, of which a predictor uses some arrays. The invariant:
what other programs call takes those arrays and no others, by name where there
are several. So no program needs a label to predict.

>>> import numpy as np
>>> batch = {"image": np.zeros((1, 2)), "label": np.zeros(1)}
>>> found = of(lambda params, batch: batch["image"] * params, 3.0, batch)
>>> list(found.inputs), found.inputs["image"].shape
(['image'], (2,))
>>> found.call(3.0, np.ones((5, 2))).shape
(5, 2)
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signature:
  """A predictor of plain arrays.

  Attributes:
    inputs: Shape and dtype of one example's arrays, by name.
    call: `call(params, inputs)`: inputs by name, or the array itself where
      there is one, each with a leading batch axis. It gives what the
      predictor gives.
  """

  inputs: Mapping[str, jax.ShapeDtypeStruct]
  call: Callable[[Any, Any], Any]

  def read(self, batch: Any) -> Any:
    """Returns a batch's inputs, as `call` takes them.

    Args:
      batch: Batch of the task's source.
    """
    flat = by_name(batch)
    return plain({name: flat[name] for name in self.inputs})


def of(
    predict_fn: Callable[[Any, Any], Any], params: Any, batch: Any
) -> Signature:
  """Finds what a predictor reads, by tracing it.

  Args:
    predict_fn: Function that predicts; see `task.Predictor`.
    params: Arrays or shapes.
    batch: Any batch, of which shapes and dtypes alone are read.

  Returns:
    The same predictor, of plain arrays.

  Raises:
    ValueError: If it reads nothing.
  """
  treedef = jax.tree.structure(batch)
  shapes = {
      name: jax.ShapeDtypeStruct(
          np.shape(leaf)[1:], jax.dtypes.canonicalize_dtype(leaf.dtype)
      )
      for name, leaf in by_name(batch).items()
  }

  def call_all(arrays, params):
    leaves = [arrays[name] for name in shapes]
    return predict_fn(params, treedef.unflatten(leaves))

  inputs = {name: shapes[name] for name in _read(call_all, shapes, params)}
  if not inputs:
    raise ValueError("predict_fn must read its batch, got one that does not.")

  def call(params, given):
    first, *_ = inputs
    given = given if len(inputs) > 1 else {first: given}
    size = given[first].shape[0]
    # What is not read may be anything.
    arrays = {
        name: given[name]
        if name in inputs
        else jnp.zeros((size, *shape.shape), shape.dtype)
        for name, shape in shapes.items()
    }
    return call_all(arrays, params)

  return Signature(inputs=inputs, call=call)


def plain(arrays: Mapping[str, Any]) -> Any:
  """Returns the array itself where there is one, else all of them by name.

  Args:
    arrays: Arrays by name.
  """
  return arrays if len(arrays) != 1 else next(iter(arrays.values()))


def by_name(tree: Any) -> dict[str, Any]:
  """Returns a pytree's leaves by their dotted paths, in its order.

  Args:
    tree: Pytree of arrays.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
      jax.tree_util.keystr(path, simple=True, separator="."): leaf
      for path, leaf in leaves
  }


def _read(call_all, shapes, params) -> list[str]:
  """Returns the names of the arrays that outputs depend on."""
  one = {
      name: jax.ShapeDtypeStruct((1, *shape.shape), shape.dtype)
      for name, shape in shapes.items()
  }
  # A dict's leaves are sorted by key, and come before the parameters'.
  kept = export.export(jax.jit(call_all))(one, params).module_kept_var_idx
  return [name for i, name in enumerate(sorted(shapes)) if i in set(kept)]
