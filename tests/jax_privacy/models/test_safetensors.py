"""Published names and layouts, on small files; and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.release import arrays as arrays_lib
from jax_privacy import models
from jax_privacy.models import safetensors, transformer
from jax_privacy.models.transformer import TransformerConfig

_GEMMA = TransformerConfig(
    vocabulary_size=7,
    width=8,
    num_layers=2,
    num_heads=2,
    head_size=6,
    hidden_size=12,
)
_GPT2 = TransformerConfig(
    vocabulary_size=7,
    width=8,
    num_layers=2,
    num_heads=2,
    num_kv_heads=None,
    norm="layer",
    is_gated=False,
    use_bias=True,
    rotary=False,
    num_positions=5,
    scale_embedding=False,
)


def _write(path, arrays):
  path.write_bytes(arrays_lib.safetensors(arrays, {}))


def _params(config):
  model = transformer.Transformer(config, rngs=nnx.Rngs(0))
  _, params = models.functional(model)
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda p: rng.normal(size=p.shape).astype(np.float32), params
  )


def _as_gemma(params, before_mlp="post_attention_layernorm"):
  """The published names, one by one."""
  found = {
      "model.embed_tokens.weight": params["embedding"]["embedding"],
      "model.norm.weight": params["norm"]["scale"],
  }
  for i, layer in params["layers"].items():
    at = f"model.layers.{i}."
    attention, mlp = layer["attention"], layer["mlp"]
    found |= {
        f"{at}input_layernorm.weight": layer["attention_norm"]["scale"],
        f"{at}{before_mlp}.weight": layer["mlp_norm"]["scale"],
        f"{at}self_attn.q_proj.weight": attention["query"]["kernel"].T,
        f"{at}self_attn.k_proj.weight": attention["key"]["kernel"].T,
        f"{at}self_attn.v_proj.weight": attention["value"]["kernel"].T,
        f"{at}self_attn.o_proj.weight": attention["out"]["kernel"].T,
        f"{at}mlp.gate_proj.weight": mlp["gate"]["kernel"].T,
        f"{at}mlp.up_proj.weight": mlp["up"]["kernel"].T,
        f"{at}mlp.down_proj.weight": mlp["down"]["kernel"].T,
    }
  return found


def _as_gpt2(params):
  found = {
      "wte.weight": params["embedding"]["embedding"],
      "wpe.weight": params["positions"],
      "ln_f.weight": params["norm"]["scale"],
      "ln_f.bias": params["norm"]["bias"],
  }
  for i, layer in params["layers"].items():
    at, attention = f"h.{i}.", layer["attention"]
    parts = [attention[name] for name in ("query", "key", "value")]
    for kind, name in (("kernel", "weight"), ("bias", "bias")):
      joined = np.concatenate([part[kind] for part in parts], axis=-1)
      found[f"{at}attn.c_attn.{name}"] = joined
      found[f"{at}attn.c_proj.{name}"] = attention["out"][kind]
      found[f"{at}mlp.c_fc.{name}"] = layer["mlp"]["up"][kind]
      found[f"{at}mlp.c_proj.{name}"] = layer["mlp"]["down"][kind]
    for ours, theirs in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
      found[f"{at}{theirs}.weight"] = layer[ours]["scale"]
      found[f"{at}{theirs}.bias"] = layer[ours]["bias"]
    found[f"{at}attn.bias"] = np.ones((1, 1, 5, 5), np.float32)  # A mask.
  return found


_CASES = {
    "gemma": (_GEMMA, _as_gemma),
    "vaultgemma": (
        _GEMMA,
        lambda p: _as_gemma(p, "pre_feedforward_layernorm"),
    ),
    "gpt2": (_GPT2, _as_gpt2),
}


@pytest.mark.parametrize("name", _CASES)
def test_every_array_finds_its_place(name, tmp_path):
  config, rename = _CASES[name]
  params = _params(config)
  arrays = rename(params)
  # In two files, as large checkpoints are.
  names = sorted(arrays)
  for part, some in enumerate((names[:5], names[5:])):
    _write(tmp_path / f"model-{part}.safetensors", {k: arrays[k] for k in some})
  found = safetensors.from_safetensors(tmp_path, config)
  jax.tree.map(np.testing.assert_array_equal, found, params)
  with pytest.raises(ValueError, match="must hold nothing but the model's"):
    _write(tmp_path / "z.safetensors", {"extra": np.zeros(1, np.float32)})
    safetensors.from_safetensors(tmp_path, config)


def test_half_precision_and_stacked_layers(tmp_path):
  path = tmp_path / "a.safetensors"
  arrays = _as_gemma(_params(_GEMMA))
  _write(path, {k: v.astype(jnp.bfloat16) for k, v in arrays.items()})
  config = TransformerConfig(**{**_fields(_GEMMA), "stack_layers": True})
  found = safetensors.from_safetensors(path, config)
  model = transformer.Transformer(config, rngs=nnx.Rngs(0))
  _, own = models.functional(model)
  assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, own)
  table = arrays["model.embed_tokens.weight"].astype(jnp.bfloat16)
  np.testing.assert_array_equal(
      found["embedding"]["embedding"], table.astype(np.float32)
  )


def _fields(config):
  return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_another_size_or_a_missing_array_is_refused(tmp_path):
  path = tmp_path / "a.safetensors"
  arrays = _as_gemma(_params(_GEMMA))
  _write(path, arrays)
  other = TransformerConfig(**{**_fields(_GEMMA), "hidden_size": 11})
  with pytest.raises(ValueError, match=r"must be of shape \[11, 8\], got \[12"):
    safetensors.from_safetensors(path, other)
  del arrays["model.norm.weight"]
  _write(path, arrays)
  with pytest.raises(ValueError, match="must hold norm.weight, got none"):
    safetensors.from_safetensors(path, _GEMMA)
  with pytest.raises(ValueError, match="must hold files of safetensors"):
    safetensors.from_safetensors(tmp_path / "..", _GEMMA)


def _file(header, data=b""):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  return len(text).to_bytes(8, "little") + text + data


def _entry(**changes):
  entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes
  return {"w": entry}


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", "must hold its header"),
        (b"\xff" * 16, "must hold its header"),
        (_file(b"[1]"), "must begin with an object"),
        (_file(b"{" * 9), "must begin with an object"),
        (_file({"w": 3}, bytes(4)), "must be of F16, BF16, F32, F64"),
        (_file(_entry(dtype="I64"), bytes(4)), "must be of F16, BF16"),
        (_file(_entry(shape=[2]), bytes(4)), "must have 8 bytes"),
        (_file(_entry(shape=[-1]), bytes(4)), "must have a shape and offsets"),
        (_file(_entry(shape=[True]), bytes(4)), "must have a shape and offs"),
        (_file(_entry(data_offsets=[0, 8]), bytes(4)), "must lie in the file"),
        (_file(_entry(data_offsets=[4, 0]), bytes(4)), "must lie in the file"),
        (_file(_entry()), "must lie in the file"),
        (_file(_entry(shape=[2**40, 2**40]), bytes(4)), "must have 4835703"),
    ],
)
def test_a_damaged_file_is_refused(content, text, tmp_path):
  path = tmp_path / "a.safetensors"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=text):
    safetensors.read(path)


def test_files_of_the_package_safetensors_are_read(tmp_path):
  package = pytest.importorskip("safetensors.numpy")
  rng = np.random.default_rng(0)
  arrays = {
      "a.weight": rng.normal(size=(3, 2)).astype(np.float32),
      "b": rng.normal(size=(5,)).astype(np.float16),
      "empty": np.zeros((0, 4), np.float64),
  }
  package.save_file(arrays, tmp_path / "a")
  found = safetensors.read(tmp_path / "a")
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)
