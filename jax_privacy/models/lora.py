r"""Low-rank adapters: a few parameters a layer, on top of frozen ones.

Invariant: an adapted layer gives y = x W + b + (alpha / rank) (x A) B, with A
random and B zero at first, so that a fresh adapter changes nothing. W keeps its
name, and parameters of the model without adapters fit it. The frozen ones are
no argument that is differentiated: they cost no gradient, no norm and no noise.

>>> from flax import nnx
>>> from jax_privacy import models
>>> model = models.build("transformer", rngs=nnx.Rngs(0), vocabulary_size=5)
>>> adapted = add(model, targets=r".*\.(query|value)", rank=2, rngs=nnx.Rngs(1))
>>> apply_fn, params = models.functional(adapted)
>>> adapters, frozen = split(params)
>>> models.num_parameters(adapters)  # 2 x 2 x (64 + 64 + 64 + 16)
832
>>> loss_fn = lambda adapters, tokens, frozen: apply_fn(
...     join(adapters, frozen), tokens)
>>> exported = merge(adapted, params)  # Parameters of `model` itself.
>>> models.num_parameters(exported) == models.num_parameters(frozen)
True
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from jax_privacy.models import checks

PATTERN = r"(.*\.)?lora_[ab]"
"""Whole path of an adapter's parameters, for `train.train_only`."""
_NAMES = ("lora_a", "lora_b")
_MAX_SHOWN = 5


class LoraLinear(nnx.Linear):
  """A linear layer with an adapter.

  Args:
    base: Linear layer, whose parameters this one shares.
    rank: Rank of the adapter, at most the layer's smaller side.
    alpha: Factor, over the rank, of what the adapter adds.
    rngs: Source of the random key of A.

  Raises:
    ValueError: If an option breaks its rule.

  Source: Hu et al. 2021 (arXiv 2106.09685); under DP-SGD, Yu et al. 2021
  (arXiv 2110.06500).
  """

  def __init__(
      self, base: nnx.Linear, *, rank: int, alpha: float, rngs: nnx.Rngs
  ):
    for name, value in vars(base).items():
      if not name.startswith("_"):
        setattr(self, name, value)
    *stacked, size_in, size_out = base.kernel.shape
    if checks.positive_int("rank", rank) > min(size_in, size_out):
      raise ValueError(
          f"rank must be at most {min(size_in, size_out)}, the smaller side of"
          f" a layer, got {rank}."
      )
    self.scale = checks.positive("alpha", alpha) / rank
    init = jax.nn.initializers.normal(size_in**-0.5)
    dtype = base.kernel.dtype
    self.lora_a = nnx.Param(
        init(rngs.params(), (*stacked, size_in, rank), dtype)
    )
    self.lora_b = nnx.Param(jnp.zeros((*stacked, rank, size_out), dtype))

  def __call__(self, inputs: jax.Array, *args, **kwargs) -> jax.Array:
    """Returns what the layer gives, and its adapter."""
    y = super().__call__(inputs, *args, **kwargs)
    a, b = (p[...].astype(y.dtype) for p in (self.lora_a, self.lora_b))
    return y + (inputs.astype(y.dtype) @ a) @ b * self.scale


def add(
    model: nnx.Module,
    *,
    targets: str,
    rank: int,
    alpha: float | None = None,
    rngs: nnx.Rngs,
) -> nnx.Module:
  """Returns a copy of a model with adapters at some of its linear layers.

  Args:
    model: Module of this package, or any other of Flax NNX.
    targets: A regular expression that the whole path of a layer matches: its
      attributes' names with dots between, such as "layers.0.attention.query".
    rank: Rank of the adapters.
    alpha: Factor, over the rank, of what adapters add; None for the rank, so
      that the factor is 1.
    rngs: Source of the adapters' random keys.

  Returns:
    A module of the same class: its other methods see the adapters too.

  Raises:
    ValueError: If targets is no regular expression, matches no `nnx.Linear`, or
      an option breaks its rule.
  """
  try:
    pattern = re.compile(targets)
  except (re.error, TypeError) as error:
    raise ValueError(
        f"targets must be a regular expression, got {targets!r:.100} ({error})."
    ) from error
  model = nnx.clone(model)
  layers = {
      _dotted(path): (path, node)
      for path, node in nnx.iter_graph(model)
      if isinstance(node, nnx.Linear) and path
  }
  found = [name for name in layers if pattern.fullmatch(name)]
  if not found:
    some = ", ".join(list(layers)[:_MAX_SHOWN]) or "none"
    raise ValueError(
        "targets must match the whole path of some linear layer (one of"
        f" {len(layers)}, such as {some}), got {targets!r:.100}."
    )
  for name in found:
    path, layer = layers[name]
    if isinstance(layer, LoraLinear):
      raise ValueError(f"targets must have no adapter yet, got {name}.")
    adapted = LoraLinear(
        layer,
        rank=rank,
        alpha=float(rank) if alpha is None else alpha,
        rngs=rngs,
    )
    _put(model, path, adapted)
  return model


def split(params: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns (adapters, frozen) of parameters: nested dicts of each kind.

  Args:
    params: Nested dicts of `models.functional`.
  """
  leaves = traverse_util.flatten_dict(params)
  kinds = ({}, {})
  for path, leaf in leaves.items():
    kinds[path[-1] not in _NAMES][path] = leaf
  adapters, frozen = map(traverse_util.unflatten_dict, kinds)
  return adapters, frozen


def join(adapters: Any, frozen: Any) -> dict[str, Any]:
  """Returns the parameters that `split` took apart.

  Args:
    adapters: Nested dicts of the adapters.
    frozen: Nested dicts of the others.
  """
  both = map(traverse_util.flatten_dict, (frozen, adapters))
  return traverse_util.unflatten_dict(
      {k: v for d in both for k, v in d.items()}
  )


def merge(model: nnx.Module, params: Any) -> dict[str, Any]:
  """Returns parameters without adapters that give what `params` give.

  Args:
    model: The adapted module; its own parameters are not read.
    params: Nested dicts of its parameters, adapters included.

  Returns:
    Nested dicts for the model before `add`.
  """
  leaves: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(params))
  scales = {
      tuple(map(str, path)): node.scale
      for path, node in nnx.iter_graph(model)
      if isinstance(node, LoraLinear)
  }
  for path, scale in scales.items():
    a, b = (leaves.pop((*path, name)) for name in _NAMES)
    kernel = leaves[(*path, "kernel")]
    leaves[(*path, "kernel")] = kernel + (a @ b * scale).astype(kernel.dtype)
  return traverse_util.unflatten_dict(leaves)


def _put(model: Any, path: tuple[Any, ...], layer: nnx.Module) -> None:
  node = model
  for key in path[:-1]:
    node = node[key] if isinstance(key, int) else getattr(node, key)
  if isinstance(path[-1], int):
    node[path[-1]] = layer
  else:
    setattr(node, path[-1], layer)


def _dotted(path: tuple[Any, ...]) -> str:
  return ".".join(map(str, path))
