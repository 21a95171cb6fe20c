"""Under which names Haiku saved the parameters of the papers' models.

Released parameters of JAX-Privacy 0.x and of the NFNets are dicts of Haiku's:
module -> parameter -> array. Here such a name is written as one text, with a
slash: "NFNet/~/stem_conv0/w". Invariant: a family's table covers every
parameter of the model, one to one, or refuses the model.

Only names differ: kernels are [height, width, in / groups, out], and weights
[in, out], in both. The scalar of a WRN's skip gain is saved with shape [1].

>>> from flax import nnx
>>> from jax_privacy import models
>>> model = models.build("wide_resnet", rngs=nnx.Rngs(0), depth=10, width=1)
>>> _, params = models.functional(model)
>>> table = names("wide_resnet", params)
>>> table["blocks.1.unit_0.conv.gain"], table["linear.kernel"]
('wide_res_net/Block_2Conv_0_0/gain', 'wide_res_net/Softmax/w')
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax_privacy.models import saved

# Parameters of a layer here -> those of the layer in Haiku.
_LAYERS = (
    {"kernel": "w", "gain": "gain", "bias": "bias"},  # Weight-standardised.
    {"kernel": "w", "bias": "b"},  # Convolution and linear.
    {"scale": "scale", "bias": "offset"},  # Group norm.
)
_NUM_STAGES = 3  # Of a WRN, which names its blocks by stage.


def names(model: str, params: saved.Params) -> dict[str, str]:
  """Returns the Haiku name of each parameter, by dotted path.

  Args:
    model: A name of `models.names()`.
    params: Parameters of the model, nested dicts.

  Raises:
    ValueError: If no parameters of that model were released, or the model has a
      part that the released ones lack; the text names it.

  Source: the code of De et al. (google-deepmind/jax_privacy) and of Brock et
  al. (google-deepmind/deepmind-research, nfnets).
  """
  if model not in _FAMILIES:
    raise ValueError(
        f"model must be one of {', '.join(sorted(_FAMILIES))} to take Haiku's"
        f" parameters, got {model!r}."
    )
  paths = tuple(saved.flatten(params))
  blocks = {path.split(".")[1] for path in paths if path.startswith("blocks.")}
  modules = _FAMILIES[model](len(blocks))
  layers: dict[str, set[str]] = {}
  for path in paths:
    layer, _, name = path.rpartition(".")
    layers.setdefault(layer, set()).add(name)
  return {path: _name(path, layers, modules) for path in paths}


def from_haiku(
    model: str,
    params: saved.Params,
    haiku_params: Mapping[str, Mapping[str, Any]],
    *,
    reset: Sequence[str] = (),
) -> saved.Params:
  """Returns the model's parameters, filled with those of a Haiku dict.

  Args:
    model: A name of `models.names()`.
    params: Parameters of the model, nested dicts.
    haiku_params: Arrays by module and parameter.
    reset: Regular expressions of dotted paths to leave as they are.

  Raises:
    ValueError: If names or arrays do not fit the model; see `saved.match` and
      `saved.fill`.
  """
  flat = {
      f"{module}/{name}": array
      for module, arrays in haiku_params.items()
      for name, array in arrays.items()
  }
  current = current_names(flat)
  wanted = saved.match(params, current, reset=reset, names=names(model, params))
  return saved.fill(
      params, {path: flat[current[name]] for path, name in wanted.items()}
  )


def current_names(given: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
  """Returns today's name of each name in a file, today's first.

  JAX-Privacy 0.1's models named a WRN's layers with a prefix more, which its
  reader removed.

  Args:
    given: Names in the file.

  Raises:
    ValueError: If two names become one.
  """
  found: dict[str, str] = {}
  for name in given:
    current = name.replace("~norm_fn/", "").replace("~conv_fn/", "")
    if current in found:
      raise ValueError(f"saved parameters must have one {current}, got two.")
    found[current] = name
  return found


def _name(path, layers, modules) -> str:
  if path in modules:  # A scalar of its own.
    return modules[path]
  layer, _, name = path.rpartition(".")
  for table in _LAYERS:
    if layer in modules and layers[layer] == set(table):
      return f"{modules[layer]}/{table[name]}"
  raise ValueError(
      "model must have only parts that the released Haiku models have, got"
      f" {path}."
  )


def _wide_resnet(num_blocks: int) -> dict[str, str]:
  root = "wide_res_net"
  modules = {
      "stem": f"{root}/First_conv",
      "norm": f"{root}/Final_norm",
      "linear": f"{root}/Softmax",
  }
  per_stage = num_blocks // _NUM_STAGES
  for i in range(num_blocks):
    ours = f"blocks.{i}"
    stage, number = f"{root}/Block_{i // per_stage + 1}", i % per_stage
    modules[f"{ours}.shortcut.norm"] = f"{stage}_skip_norm"
    modules[f"{ours}.shortcut.conv"] = f"{stage}_skip_conv"
    for unit in (0, 1):
      modules[f"{ours}.unit_{unit}.norm"] = f"{stage}_norm_{number}_{unit}"
      modules[f"{ours}.unit_{unit}.conv"] = f"{stage}Conv_{number}_{unit}"
    modules[f"{ours}.skip_gain"] = f"{stage}Scale_{number}_1"
  return modules


def _nf_resnet(num_blocks: int) -> dict[str, str]:
  root = "NF_ResNet/~"
  modules = {"stem": f"{root}/initial_conv", "linear": f"{root}/linear"}
  for i in range(num_blocks):
    block = f"{root}/nf_res_block{_suffix(i)}"
    convs = {f"conv_{k}": f"conv{k}" for k in range(3)}
    modules |= _block(f"blocks.{i}", block, convs)
  return modules


def _nfnet(num_blocks: int) -> dict[str, str]:
  root = "NFNet/~"
  modules = {"final": f"{root}/final_conv", "linear": f"{root}/linear"}
  modules |= {f"stem.{k}": f"{root}/stem_conv{k}" for k in range(4)}
  convs = dict(conv_0="conv0", conv_1="conv1", conv_2="conv1b", conv_3="conv2")
  for i in range(num_blocks):
    block = f"{root}/nf_block{_suffix(i)}"
    modules |= _block(f"blocks.{i}", block, convs)
  return modules


def _block(ours: str, block: str, convs: Mapping[str, str]) -> dict[str, str]:
  gate = f"{block}/~/squeeze_excite/~/linear"
  return {
      **{f"{ours}.{k}": f"{block}/~/{name}" for k, name in convs.items()},
      f"{ours}.shortcut": f"{block}/~/conv_shortcut",
      f"{ours}.gate.squeeze": gate,
      f"{ours}.gate.excite": f"{gate}_1",
      f"{ours}.skip_gain": f"{block}/skip_gain",
  }


def _suffix(number: int) -> str:
  """What Haiku adds to the name of the second module of a class, and so on."""
  return f"_{number}" if number else ""


_FAMILIES: types.MappingProxyType[str, Callable[[int], dict[str, str]]] = (
    types.MappingProxyType(
        {
            "nf_resnet": _nf_resnet,
            "nfnet": _nfnet,
            "wide_resnet": _wide_resnet,
        }
    )
)
