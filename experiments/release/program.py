"""One file that predicts: a model's program, which `jax` alone can run.

  import jax
  model = jax.export.deserialize(bytearray(open("m.stablehlo", "rb").read()))
  outputs = model.call(inputs)

The program is StableHLO in the format of `jax.export`, with the parameters and
what is done to an input before the model inside. Behind it lies a zip archive
with metadata.json: programs for zip files look for one at a file's end, and
`jax.export` reads from its beginning. So `unzip -p m.stablehlo metadata.json`
shows what the model is and which guarantee it has.

Invariant: the batch axis is symbolic, so that any number of examples will do,
and the bytes are a function of the model alone.

>>> import numpy as np
>>> from experiments.release import signature
>>> found = signature.of(lambda p, x: x * p, 2.0, np.zeros((1, 3), np.float32))
>>> made = lower(found, np.float32(2.0))
>>> made.in_avals
(ShapedArray(float32[batch,3]),)
"""

import importlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax import export

from experiments.release import signature as signature_lib
from jax_privacy import _extras

PLATFORMS = ("cpu", "cuda", "tpu")
METADATA = "metadata.json"
# Zip archives know the date of each member; a file must not.
DATE = (1980, 1, 1, 0, 0, 0)
_MAX_ERROR = 300


def lower(
    signature: signature_lib.Signature,
    params: Any,
    *,
    platforms: Sequence[str] = PLATFORMS,
) -> export.Exported:
  """Lowers a predictor, its parameters inside.

  Args:
    signature: The predictor.
    params: Its parameters, on the host or on one device.
    platforms: Platforms on which it shall run. One that it cannot be lowered
      for is left out, if there is another.

  Returns:
    The program, for any number of examples.

  Raises:
    ValueError: If it cannot be lowered for any of them.
  """
  params = jax.device_get(params)

  def predict(inputs):
    outputs = signature.call(params, inputs)
    return signature_lib.plain(signature_lib.by_name(outputs))

  def by_example(inputs):
    # No shape is symbolic in here, for a model that must know its own.
    def one(example):
      outputs = predict(jax.tree.map(lambda x: x[None], example))
      return jax.tree.map(lambda x: x[0], outputs)

    return jax.vmap(one)(inputs)

  errors = []
  for function in (predict, by_example):
    try:
      return _export(function, signature.inputs, list(platforms))
    except Exception as error:  # JAX has no one type for what it cannot do.
      errors.append(error)
  for function in (predict, by_example):
    able = [p for p in platforms if _is_able(function, signature.inputs, p)]
    if able:
      return _export(function, signature.inputs, able)
  text = " ".join(str(errors[0]).split())[:_MAX_ERROR]
  raise ValueError(
      f"platforms must be some that the model can be lowered for, got"
      f" {', '.join(platforms)}: {type(errors[0]).__name__}: {text}."
  ) from errors[0]


def to_bytes(program: export.Exported, metadata: Mapping[str, Any]) -> bytes:
  """Returns the file's content.

  Args:
    program: Program, as `jax.export` makes it.
    metadata: Values that JSON can hold, by name.

  Raises:
    ImportError: If flatbuffers, which `jax.export` needs, is not installed.
  """
  with _extras.needed("export"):
    importlib.import_module("flatbuffers")  # JAX's own error names no extra.
  head = bytes(program.serialize())
  tail = io.BytesIO()
  with zipfile.ZipFile(tail, "w") as archive:
    text = json.dumps(metadata, indent=2, sort_keys=True, allow_nan=False)
    archive.writestr(zipfile.ZipInfo(METADATA, DATE), text + "\n")
  return head + tail.getvalue()


def _export(function, inputs, platforms) -> export.Exported:
  (size,) = export.symbolic_shape("batch")
  batched = {
      name: jax.ShapeDtypeStruct((size, *shape.shape), shape.dtype)
      for name, shape in inputs.items()
  }
  exporter = export.export(jax.jit(function), platforms=platforms)
  return exporter(signature_lib.plain(batched))


def _is_able(function, inputs, platform: str) -> bool:
  try:
    _export(function, inputs, [platform])
  except Exception:  # As above.
    return False
  return True
