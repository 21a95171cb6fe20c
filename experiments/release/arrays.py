r"""A model's parameters by name, in a file that other programs read.

Two formats: npz (NumPy's; `model.restore.path` of another run takes it too) and
safetensors. Both hold the metadata as well: npz as its member metadata.json,
safetensors as the text "metadata" of its header.

Invariant: a file's bytes are a function of the arrays and the metadata, and no
pickle is in it.

>>> import numpy as np
>>> made = safetensors({"b": np.zeros(2, np.float32)}, {"task": "table"})
>>> made[8:].decode().split("}")[0]
'{"__metadata__":{"metadata":"{\\"task\\": \\"table\\"'
"""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.release import program

_ALIGNMENT = 8
# What safetensors calls a dtype of NumPy's, or of ml_dtypes'.
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


def npz(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> bytes:
  """Returns the content of an .npz file.

  Args:
    arrays: Arrays by name.
    metadata: Values that JSON can hold.

  Raises:
    ValueError: If an array is of a dtype that NumPy alone does not know, such
      as bfloat16.
  """
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    for name, array in sorted(arrays.items()):
      if np.lib.format.descr_to_dtype(array.dtype.str) != array.dtype:
        raise ValueError(
            f"format must be safetensors for parameters of {array.dtype}, got"
            f" npz ({name})."
        )
      member = io.BytesIO()
      np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
      _add(archive, f"{name}.npy", member.getvalue())
    _add(archive, program.METADATA, _json(metadata, indent=2).encode())
  return file.getvalue()


def safetensors(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> bytes:
  """Returns the content of a .safetensors file.

  Args:
    arrays: Arrays by name.
    metadata: Values that JSON can hold.

  Raises:
    ValueError: If an array is of a dtype that the format does not have.

  Source: The format's description, in the README of huggingface/safetensors:
    the header's length as 8 bytes, little-endian; the header, JSON; the arrays
    in order, little-endian, without gaps.
  """
  header: dict[str, Any] = {"__metadata__": {"metadata": _json(metadata)}}
  pieces, end = [], 0
  # The widest first, so that each begins at a multiple of its own width.
  for name, array in sorted(
      arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])
  ):
    if array.dtype.name not in _DTYPES:
      raise ValueError(
          f"format must be npz for parameters of {array.dtype}, got safetensors"
          f" ({name})."
      )
    array = np.asarray(array)
    pieces.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
    header[name] = {
        "dtype": _DTYPES[array.dtype.name],
        "shape": list(array.shape),
        "data_offsets": [end, end := end + len(pieces[-1])],
    }
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % _ALIGNMENT)  # So that arrays can be mapped.
  return b"".join([struct.pack("<Q", len(text)), text, *pieces])


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
  archive.writestr(zipfile.ZipInfo(name, program.DATE), content)


def _json(metadata: Mapping[str, Any], indent: int | None = None) -> str:
  return json.dumps(metadata, sort_keys=True, allow_nan=False, indent=indent)
