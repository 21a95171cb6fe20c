"""Parameters of published checkpoints, by name, from safetensors files.

Invariant: an array is read only if the file holds its bytes, and nothing in the
file is run. Every parameter of the model comes from the file, and every array
of the file is used, or the load is refused.

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> path = pathlib.Path(folder.name) / "a.safetensors"
>>> header = b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
>>> _ = path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
>>> read(path)["w"].tolist()
[0.0, 0.0]
>>> folder.cleanup()
"""

import json
import math
import os
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jax_privacy.models import sequences
from jax_privacy.models.transformer import TransformerConfig

_DTYPES = {
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}
_MAX_HEADER = 2**26

Arrays = dict[str, np.ndarray]


def read(path: str | os.PathLike) -> Arrays:
  """Returns the arrays of floats of a file, by name.

  Args:
    path: The file; its arrays are mapped from disk, and read when used.

  Raises:
    ValueError: If the file is malformed, or holds arrays of another kind.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f"path must be a file of safetensors, got {path}.")
  size = path.stat().st_size
  with open(path, "rb") as file:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER):
      raise ValueError(f"{path} must hold its header, got {size} bytes.")
    header = _header(path, file.read(length))
  start = 8 + length
  data = np.zeros(0, np.uint8)
  if size > start:
    data = np.memmap(path, np.uint8, "r", offset=start)
  return {
      name: _array(path, name, entry, data)
      for name, entry in header.items()
      if name != "__metadata__"
  }


def from_safetensors(
    path: str | os.PathLike, config: TransformerConfig
) -> dict[str, Any]:
  """Returns a transformer's parameters from a published checkpoint.

  The names are those of Hugging Face's Gemma, VaultGemma and GPT-2.

  Args:
    path: A file, or a folder of files whose names end in .safetensors.
    config: Options of the model: `transformer.PRESETS` has those of published
      sizes. With norm="layer" the names are GPT-2's.

  Returns:
    Nested dicts, float32, as of `models.functional`; of stacked layers if the
    config says so.

  Raises:
    ValueError: If an array is missing, of another shape, or not used.
  """
  path = pathlib.Path(path)
  files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
  if not files:
    raise ValueError(f"path must hold files of safetensors, got {path}.")
  arrays = {k: v for file in files for k, v in read(file).items()}
  arrays = {
      _short(name): array
      for name, array in arrays.items()
      if _is_parameter(name)
  }
  take = _Taker(arrays, path)
  params = (
      _gpt2(take, config) if config.norm == "layer" else _gemma(take, config)
  )
  take.check_all_used()
  nested = traverse_util.unflatten_dict(params, sep=".")
  if config.stack_layers:
    return sequences.stack_params(nested, period=len(config.windows))
  return nested


class _Taker:
  """Gives arrays by name, once each, of a stated shape, as float32."""

  def __init__(self, arrays: Arrays, path: pathlib.Path):
    self._arrays, self._path, self._used = arrays, path, set()

  def __call__(self, name: str, *shape: int) -> np.ndarray:
    if name not in self._arrays:
      raise ValueError(f"{self._path} must hold {name}, got none.")
    array = self._arrays[name]
    if array.shape != shape:
      raise ValueError(
          f"{name} of {self._path} must be of shape {list(shape)}, got"
          f" {list(array.shape)}."
      )
    self._used.add(name)
    return np.asarray(array, np.float32)

  def has(self, name: str) -> bool:
    return name in self._arrays

  def check_all_used(self) -> None:
    if left := sorted(self._arrays.keys() - self._used):
      raise ValueError(
          f"{self._path} must hold nothing but the model's arrays, got"
          f" {left[0]} and {len(left) - 1} more."
      )


def _short(name: str) -> str:
  for prefix in ("model.", "transformer."):
    name = name.removeprefix(prefix)
  return name


def _is_parameter(name: str) -> bool:
  """Leaves out masks that are no parameters, and the tied output table."""
  ends = (".attn.bias", ".attn.masked_bias")
  return name != "lm_head.weight" and not name.endswith(ends)


def _gemma(take: _Taker, config: TransformerConfig) -> Arrays:
  """Kernels are [out, in] in the file."""
  w, m = config.width, config.size_of_hidden
  queries = config.num_heads * config.size_of_head
  keys = config.kv_heads * config.size_of_head
  found = {
      "embedding.embedding": take(
          "embed_tokens.weight", config.vocabulary_size, w
      ),
      "norm.scale": take("norm.weight", w),
  }
  for i in range(config.num_layers):
    theirs, ours = f"layers.{i}.", f"layers.{i}."
    for name, their_name, out, size in (
        ("attention.query", "self_attn.q_proj", queries, w),
        ("attention.key", "self_attn.k_proj", keys, w),
        ("attention.value", "self_attn.v_proj", keys, w),
        ("attention.out", "self_attn.o_proj", w, queries),
        ("mlp.gate", "mlp.gate_proj", m, w),
        ("mlp.up", "mlp.up_proj", m, w),
        ("mlp.down", "mlp.down_proj", w, m),
    ):
      kernel = take(f"{theirs}{their_name}.weight", out, size)
      found[f"{ours}{name}.kernel"] = kernel.T
    # The norm before the MLP has Llama's name in Gemma's first version.
    before_mlp = f"{theirs}pre_feedforward_layernorm.weight"
    if not take.has(before_mlp):
      before_mlp = f"{theirs}post_attention_layernorm.weight"
    found[f"{ours}attention_norm.scale"] = take(
        f"{theirs}input_layernorm.weight", w
    )
    found[f"{ours}mlp_norm.scale"] = take(before_mlp, w)
  return found


def _gpt2(take: _Taker, config: TransformerConfig) -> Arrays:
  """Kernels are [in, out] in the file, and three of them are one."""
  w, m = config.width, config.size_of_hidden
  found = {
      "embedding.embedding": take("wte.weight", config.vocabulary_size, w),
      "positions": take("wpe.weight", config.num_positions or 0, w),
      "norm.scale": take("ln_f.weight", w),
      "norm.bias": take("ln_f.bias", w),
  }
  for i in range(config.num_layers):
    theirs, ours = f"h.{i}.", f"layers.{i}."
    for name, their_name in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
      found[f"{ours}{name}.scale"] = take(f"{theirs}{their_name}.weight", w)
      found[f"{ours}{name}.bias"] = take(f"{theirs}{their_name}.bias", w)
    kernels = np.split(take(f"{theirs}attn.c_attn.weight", w, 3 * w), 3, axis=1)
    biases = np.split(take(f"{theirs}attn.c_attn.bias", 3 * w), 3)
    for name, kernel, bias in zip(
        ("query", "key", "value"), kernels, biases, strict=True
    ):
      found[f"{ours}attention.{name}.kernel"] = kernel
      found[f"{ours}attention.{name}.bias"] = bias
    for name, their_name, size, out in (
        ("attention.out", "attn.c_proj", w, w),
        ("mlp.up", "mlp.c_fc", w, m),
        ("mlp.down", "mlp.c_proj", m, w),
    ):
      kernel = take(f"{theirs}{their_name}.weight", size, out)
      found[f"{ours}{name}.kernel"] = kernel
      found[f"{ours}{name}.bias"] = take(f"{theirs}{their_name}.bias", out)
  return found


def _header(path: pathlib.Path, text: bytes) -> dict[str, Any]:
  try:
    found = json.loads(text)
  except (ValueError, RecursionError):
    found = None
  if not isinstance(found, dict):
    raise ValueError(f"{path} must begin with an object of JSON, got other.")
  return found


def _array(path, name: str, entry: Any, data: np.ndarray) -> np.ndarray:
  where = f"{path}: {name[:100]}"
  if not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES:
    raise ValueError(f"{where} must be of {', '.join(_DTYPES)}, got other.")
  shape, offsets = (_sizes(entry, k, where) for k in ("shape", "data_offsets"))
  dtype = _DTYPES[entry["dtype"]]
  wanted = math.prod(shape) * dtype.itemsize
  if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] <= len(data):
    raise ValueError(f"{where} must lie in the file, got bytes {offsets}.")
  if offsets[1] - offsets[0] != wanted:
    raise ValueError(f"{where} must have {wanted} bytes, got bytes {offsets}.")
  return data[offsets[0] : offsets[1]].view(dtype).reshape(shape)


def _sizes(entry: dict[str, Any], key: str, where: str) -> list[int]:
  found = entry.get(key)
  if not isinstance(found, list) or not all(
      type(x) is int and 0 <= x < 2**48 for x in found
  ):
    raise ValueError(f"{where} must have a shape and offsets, got others.")
  return found
