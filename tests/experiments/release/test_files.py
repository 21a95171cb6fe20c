"""Files for other programs: whole, new, private, and of no code."""

import csv
import doctest
import io
import json
import os
import stat
import sys

import numpy as np
import pytest

from experiments.release import (
    arrays,
    output,
    predictions,
    program,
    signature,
)
from jax_privacy.data import archive

_METADATA = {"class_names": ["a", "é"], "epsilon": 3.0}


@pytest.mark.parametrize(
    "module", [arrays, output, predictions, program, signature]
)
def test_examples_of_the_module(module):
  options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
  assert doctest.testmod(module, optionflags=options).failed == 0


def test_a_file_is_new_whole_and_its_owners(tmp_path):
  path = tmp_path / "a" / "b.bin"
  before = os.umask(0)
  try:
    with output.new_file(path) as file:
      file.write(b"x" * 10)
      assert not path.exists()  # Not a part of it, ever.
  finally:
    os.umask(before)
  assert path.read_bytes() == b"x" * 10
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
  with pytest.raises(RuntimeError), output.new_file(tmp_path / "a") as file:
    file.write(b"some of it")
    raise RuntimeError
  assert not list(tmp_path.iterdir())


def test_what_came_meanwhile_is_not_replaced(tmp_path):
  path = tmp_path / "a"
  with pytest.raises(ValueError, match="which came meanwhile"):
    with output.new_file(path):
      path.write_text("another's")
  assert path.read_text() == "another's"
  assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_link_is_not_followed(tmp_path):
  link = tmp_path / "link.csv"
  link.symlink_to(tmp_path / "elsewhere")  # Which is not there.
  with pytest.raises(ValueError, match="output must be a new file"):
    output.check_new(link, name="output")
  with pytest.raises(ValueError, match="must end in .csv or .parquet, got 'a"):
    output.check_new("a.txt", name="output", suffixes=predictions.SUFFIXES)


_TEXTS = [
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\t=1",
    " =1",
    "\r=1",
    "\uff1d1",
    "a=b",
    "1-2",
]
_TEXTS += ['a"b', "a,b", "a\nb", "", "a\0b"]


def _written(suffix, columns):
  file = io.BytesIO()
  table = predictions.writer(file, suffix)
  table.append(columns)
  table.append(columns)
  table.close()
  return file.getvalue()


def test_no_cell_and_no_column_of_csv_is_a_formula():
  columns = {text or "empty": np.array([text]) for text in _TEXTS}
  numbers = np.array([-0.5, np.nan, np.inf, 1e-30, 0.1], np.float32)
  content = _written(".csv", columns).decode()
  header, *rows = csv.reader(io.StringIO(content, newline=""))
  assert len(rows) == 2
  for cells in (header, *rows):
    for text, cell in zip(_TEXTS, cells, strict=True):
      is_formula = text and text.strip(" ")[:1] in "=+-@\t\r\uff1d"
      text = text or ("empty" if cells is header else "")
      assert cell == ("'" if is_formula else "") + text.replace("\0", "\ufffd")
  assert b"\0" not in _written(".csv", columns)
  # A negative number is one.
  content = _written(".csv", {"p": numbers}).decode()
  assert content.splitlines()[1:6] == ["-0.5", "nan", "inf", "1e-30", "0.1"]


def test_parquet_keeps_text_and_types():
  pq = pytest.importorskip("pyarrow.parquet")
  columns = {"input": np.array(_TEXTS), "p": np.arange(15, dtype=np.float32)}
  table = pq.read_table(io.BytesIO(_written(".parquet", columns)))
  assert table["input"].to_pylist() == _TEXTS * 2
  assert str(table.schema.field("p").type) == "float"


_ARRAYS = {
    "a.kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.float32(2.5).reshape(()),
    "empty": np.zeros((0, 3), np.float16),
    "wide": np.ones(3, np.float64),
}


def test_npz_is_read_by_numpy_and_by_a_run(tmp_path):
  path = tmp_path / "m.npz"
  path.write_bytes(arrays.npz(_ARRAYS, _METADATA))
  with np.load(path) as file:
    for name, array in _ARRAYS.items():
      np.testing.assert_array_equal(file[name], array, strict=True)
    assert json.loads(file["metadata.json"]) == _METADATA
  with archive.Archive(path) as file:
    assert file.keys() == set(_ARRAYS)


def _read_safetensors(content):
  """By the format's own description."""
  length = int.from_bytes(content[:8], "little")
  header = json.loads(content[8 : 8 + length])
  metadata, body = header.pop("__metadata__"), content[8 + length :]
  found, end = {}, 0
  dtypes = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
  for name, entry in header.items():
    begin, after = entry["data_offsets"]
    assert begin == end, "There are no gaps."
    dtype = np.dtype(dtypes[entry["dtype"]])
    assert (8 + length + begin) % dtype.itemsize == 0
    end = after
    found[name] = np.frombuffer(body[begin:after], dtype).reshape(
        entry["shape"]
    )
  assert end == len(body)
  return found, metadata


def test_safetensors_are_as_the_format_says():
  content = arrays.safetensors(_ARRAYS, _METADATA)
  found, metadata = _read_safetensors(content)
  assert json.loads(metadata["metadata"]) == _METADATA
  assert found.keys() == _ARRAYS.keys()
  for name, array in _ARRAYS.items():
    np.testing.assert_array_equal(found[name], array, strict=True)


def test_safetensors_are_read_by_their_own_package():
  package = pytest.importorskip("safetensors.numpy")
  found = package.load(arrays.safetensors(_ARRAYS, _METADATA))
  for name, array in _ARRAYS.items():
    np.testing.assert_array_equal(found[name], array)


def test_a_dtype_that_a_format_does_not_have_is_refused():
  import ml_dtypes

  half = {"w": np.ones(3, ml_dtypes.bfloat16)}
  with pytest.raises(ValueError, match="format must be safetensors for param"):
    arrays.npz(half, {})
  assert b'"BF16"' in arrays.safetensors(half, {})
  with pytest.raises(ValueError, match="format must be npz for .* complex64"):
    arrays.safetensors({"w": np.ones(3, np.complex64)}, {})


def test_inputs_are_what_outputs_depend_on():
  """Not what is merely touched; and in the dict's order or in another."""

  def predict(params, batch):
    unused = batch["z"]["target"] * 2.0
    del unused
    return {"sum": batch["b"] + batch["z"]["a"] * params["w"], "b": batch["b"]}

  batch = {
      "z": {"target": np.zeros(2, np.float32), "a": np.zeros(2, np.float32)},
      "b": np.zeros(2, np.float64),
      "a": np.zeros((2, 3), np.int32),
  }
  found = signature.of(predict, {"w": np.float32(3)}, batch)
  assert list(found.inputs) == ["b", "z.a"]
  # What JAX makes of float64, without a word: so it is what is asked for.
  assert found.inputs["b"].dtype == np.float32
  given = {"b": np.ones(5, np.float32), "z.a": np.full(5, 2.0, np.float32)}
  outputs = found.call({"w": np.float32(3)}, given)
  np.testing.assert_array_equal(outputs["sum"], np.full(5, 7.0))
  read = found.read(batch)
  assert list(read) == ["b", "z.a"]
  with pytest.raises(ValueError, match="must read its batch"):
    signature.of(lambda params, batch: params["w"], {"w": 3.0}, batch)


def test_a_model_that_must_know_its_shape_is_mapped_over_examples():

  def predict(params, x):
    if x.shape[0] > 3:  # No question for a symbolic size.
      return x @ params
    return x @ params

  params = np.arange(12, dtype=np.float32).reshape(3, 4)
  found = signature.of(predict, params, np.zeros((1, 3), np.float32))
  made = program.lower(found, params, platforms=["cpu"])
  x = np.linspace(0, 1, 15, dtype=np.float32).reshape(5, 3)
  np.testing.assert_allclose(made.call(x), x @ params, rtol=1e-6)


def test_a_platform_that_cannot_be_lowered_for_is_left_out(monkeypatch):
  export = program._export

  def without_tpu(function, inputs, platforms):
    if "tpu" in platforms:
      raise NotImplementedError("no rule\nfor tpu")
    return export(function, inputs, platforms)

  monkeypatch.setattr(program, "_export", without_tpu)
  found = signature.of(lambda p, x: x * p, 2.0, np.zeros((1, 3), np.float32))
  made = program.lower(found, 2.0)
  assert made.platforms == ("cpu", "cuda")
  text = "lowered for, got tpu: NotImplementedError: no rule for tpu."
  with pytest.raises(ValueError, match=text):
    program.lower(found, 2.0, platforms=["tpu"])


def test_without_flatbuffers_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "flatbuffers", None)
  found = signature.of(lambda p, x: x * p, 2.0, np.zeros((1, 3), np.float32))
  made = program.lower(found, 2.0, platforms=["cpu"])
  with pytest.raises(ImportError, match=r"toolkit\[export\]"):
    program.to_bytes(made, {})
