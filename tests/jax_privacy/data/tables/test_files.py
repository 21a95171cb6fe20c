"""Files of tables: what was stored, or one line that names file and rule."""

import datetime
import decimal
import gzip
import io

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st
from pyarrow import parquet

from jax_privacy.data.tables import files
from tests.support import fuzz


def _read(path, *columns):
  """All values of some columns, None where missing."""
  found = {name: [] for name in columns}
  for block in files.read_file(path, columns=columns):
    for name, cells in block.items():
      values = np.array(cells.values, object)
      found[name] += cells.take(values, missing=None).tolist()
  return found


def _parquet(*, row_group_size=3, **columns):
  stream = io.BytesIO()
  table = pa.table(columns)
  parquet.write_table(table, stream, row_group_size=row_group_size)
  return stream.getvalue()


def _write(path, content):
  path.write_bytes(content)
  return path


_CSV = b'\xef\xbb\xbfa,b,c\r\n1,"x, ""y""",=1+1\r\n2,,\xc3\xa9\r\n'
_WANTED = {"c": ["=1+1", "é"], "b": ['x, "y"', ""]}


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv_gives_texts_as_they_are(tmp_path, name):
  content = gzip.compress(_CSV) if name.endswith(".gz") else _CSV
  path = _write(tmp_path / name, content)
  assert _read(path, "c", "b") == _WANTED
  assert files.column_names(path) == ("a", "b", "c")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_csv_file_is_closed_after_it_is_read(tmp_path, monkeypatch, name):
  opened, real = [], files._Checked
  monkeypatch.setattr(
      files, "_Checked", lambda f, path: real(opened.append(f) or f, path)
  )
  path = tmp_path / name
  content = b"a,b\n1,2\n"
  path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
  files.column_names(path)
  list(files.read_file(path, columns=["a"]))
  with pytest.raises(ValueError):
    list(files.read_file(path, columns=["c"]))
  assert len(opened) == 3 and all(f.closed for f in opened)


def test_parquet_gives_each_kind_of_column(tmp_path):
  day = datetime.date(2020, 1, 31)
  stamp = pa.array([datetime.datetime(2020, 1, 31, 23), None, None])
  path = _write(
      tmp_path / "t.parquet",
      _parquet(
          i=pa.array([1, None, 3]),
          f=pa.array([0.5, float("nan"), None], pa.float32()),
          s=pa.array(["x", "x", None]),
          d=pa.array(["x", "x", None]).dictionary_encode(),
          b=pa.array([True, None, False]),
          day=pa.array([day, None, day]),
          stamp=stamp,
          money=pa.array([decimal.Decimal("1.50"), None, None]),
          unread=pa.array([[1], [2], None]),
      ),
  )
  found = _read(path, "i", "f", "s", "d", "b", "day", "stamp", "money")
  assert found["i"] == [1.0, None, 3.0]
  assert found["f"] == [0.5, None, None]
  assert found["s"] == found["d"] == ["x", "x", None]
  assert found["b"] == [True, None, False]
  assert found["day"] == [day, None, day]
  assert found["stamp"] == [day, None, None]
  assert found["money"] == [1.5, None, None]
  with pytest.raises(ValueError, match="column 'unread' must be of numbers"):
    _read(path, "unread")


def test_rows_are_counted_across_blocks(tmp_path, monkeypatch):
  monkeypatch.setattr(files, "_ROWS", 2)
  path = _write(tmp_path / "t.parquet", _parquet(i=list(range(5))))
  blocks = list(files.read_file(path, columns=("i",)))
  assert [block["i"].first_row for block in blocks] == [1, 3, 5]
  monkeypatch.setattr(files, "_MAX_LINE", 20)
  lines = b"i,j\n" + b"1000,2\n" * 9
  path = _write(tmp_path / "t.csv", lines)
  blocks = list(files.read_file(path, columns=("i",)))
  sizes = [len(block["i"].places) for block in blocks]
  assert len(sizes) > 1 and sum(sizes) == 9
  firsts = np.cumsum([1, *sizes])[:-1].tolist()
  assert [block["i"].first_row for block in blocks] == firsts


_BAD = {
    "no such column": (b"a,b\n1,2\n", "'c' must be in the file once, got a, b"),
    "twice": (b"c,c\n1,2\n", "'c' must be in the file once, got c, c"),
    "empty": (b"", "must begin with a header line, got none"),
    "blank line first": (b"\na,c\n1,2\n", "must begin with a header line"),
    "spaces": (
        b"a, c\n1,2\n",
        "got a, c: spaces and capitals count, and ' c' ",
    ),
    "capitals": (b"a,C\n1,2\n", "capitals count, and 'C' is another"),
    "CR": (b"a,c\r1,2\r", "must end in LF or CR LF, got CR alone"),
    "header alone": (b"a,c\n", "must hold a row below its header"),
    "short row": (b"a,c\n1,2\n3\n", "as many fields as .*2, got 1 in row 2 "),
    "long row": (b"a,c\n1,2\n3,4,5\n", "as many fields .*, got 3 in row 2 "),
    "NUL": (b"a,c\n1,\x002\n", "must be text in UTF-8 without NUL"),
    "UTF-16": ("a,c\n1,2\n".encode("utf-16"), "UTF-8 without NUL"),
    "Latin-1": (b"a,c\n1,\xe9\n", "UTF-8 without NUL"),
    "open quote": (b'a,"c\n1,2\n', "must be one line, with each quote closed"),
    "long header": (b"a" * 2**20 + b",c\n1,2\n", "header must have at most"),
    "many columns": (b"," * 10**5 + b",c\n", "at most 16384 columns"),
    "long line": (b"a,c\n1," + b"x" * 2**22 + b"\n", "at most 1048576 bytes"),
}


@pytest.mark.parametrize("case", _BAD)
def test_a_bad_csv_file_is_named_with_its_rule(tmp_path, case):
  content, rule = _BAD[case]
  path = _write(tmp_path / "t.csv", content)
  with pytest.raises(ValueError, match=rule) as error:
    _read(path, "c")
  fuzz.assert_clear(error.value, str(path))


def test_a_row_of_one_column_may_be_empty(tmp_path):
  path = _write(tmp_path / "t.csv", b"c\n1\n\n3\n")
  assert _read(path, "c") == {"c": ["1", "", "3"]}
  # Of several columns, an empty line is no row.
  path.write_bytes(b"a,c\n1,2\n\n3,4\n\n")
  assert _read(path, "c") == {"c": ["2", "4"]}


@pytest.mark.parametrize(
    "column, wanted",
    [
        (
            pa.array([b"a", b"\xff"]),
            "text in UTF-8, .* in row 2 .private",
        ),
        (pa.array([1, 2], pa.duration("s")), "text, got duration"),
        (pa.array([[1], [2]]), "text, got list"),
        (pa.array([{"x": 1}, None]), "text, got struct"),
    ],
)
def test_a_parquet_column_of_another_kind_is_refused(tmp_path, column, wanted):
  path = tmp_path / "t.parquet"
  parquet.write_table(pa.table({"c": column}), path)
  with pytest.raises(ValueError, match=f"column 'c'.*{wanted}") as e:
    list(files.read_file(path, columns=("c",)))
  fuzz.assert_clear(e.value, str(path))


@pytest.mark.parametrize(
    "mark, name", [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_a_file_with_another_delimiter_is_told_which(tmp_path, mark, name):
  content = f"a{mark}b{mark}c\n1{mark}2{mark}3\n".encode()
  path = _write(tmp_path / "t.csv", content)
  with pytest.raises(ValueError, match=f"no comma, and {name}.*by commas"):
    list(files.read_file(path, columns=("a",)))
  # One column of a file with commas, or of one word, has no such advice.
  for header in (b"x;y,b\n1,2\n", b"x\n1\n"):
    path.write_bytes(header)
    with pytest.raises(ValueError) as error:
      list(files.read_file(path, columns=("a",)))
    assert "separated" not in str(error.value)


def test_ten_million_columns_cost_no_more_than_the_header_may_have(tmp_path):
  path = _write(tmp_path / "t.csv", b"x," * 10**7 + b"c\n")
  with fuzz.memory_below(2**23):
    with pytest.raises(ValueError, match="header must have at most 1048576"):
      _read(path, "c")


def test_a_gzip_bomb_is_refused_before_it_expands(tmp_path, monkeypatch):
  monkeypatch.setattr(files.bounded, "_ALWAYS_ALLOWED", 2**16)
  content = gzip.compress(b"a,c\n" + b"1,2\n" * 2**20)
  path = _write(tmp_path / "t.csv.gz", content)
  most = 100 * len(content)
  assert most < 2**20
  with pytest.raises(ValueError, match=f"expand to at most {most} bytes"):
    _read(path, "c")


def test_a_parquet_bomb_is_refused_by_what_it_says_it_expands_to(tmp_path):
  path = tmp_path / "t.parquet"
  table = pa.table({"c": pa.array(np.zeros(2**22, np.int8))})
  with parquet.ParquetWriter(path, table.schema) as writer:
    for _ in range(5):
      writer.write_table(table)
  assert path.stat().st_size < 2**17
  with pytest.raises(ValueError, match="must expand to at most 67108864 bytes"):
    _read(path, "c")


def test_a_long_text_in_many_rows_is_kept_once(tmp_path):
  texts = pa.array(["x" * 2**13] * 2000).dictionary_encode()
  path = _write(tmp_path / "t.parquet", _parquet(c=texts, row_group_size=2000))
  blocks = list(files.read_file(path, columns=("c",)))
  assert sum(len(block["c"].values) for block in blocks) == len(blocks)


def test_parquet_of_many_columns_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(files.schema_lib, "MAX_COLUMNS", 10)
  columns = {f"c{i}": [1] for i in range(11)}
  path = _write(tmp_path / "t.parquet", _parquet(**columns))
  with pytest.raises(ValueError, match="at most 10 columns, got 11"):
    _read(path, "c0")


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.CSV"])
def test_other_files_are_refused(tmp_path, name):
  path = _write(tmp_path / name, b"a\n1\n")
  with pytest.raises(
      ValueError, match="must end in .csv, .csv.gz or .parquet, got .*t"
  ):
    _read(path, "a")


def test_what_is_no_file_is_refused(tmp_path):
  with pytest.raises(ValueError, match="got no regular file"):
    _read(tmp_path / "t.csv", "a")


def _check_damaged(path, content, columns, wanted):
  path.write_bytes(content)
  try:
    found = _read(path, *columns)
  except ValueError as error:
    fuzz.assert_clear(error, str(path))
    return
  if wanted is not None:
    assert found == wanted


@fuzz.SHORT
@hypothesis.given(content=fuzz.damaged(_CSV * 2), compress=st.booleans())
def test_damaged_csv(tmp_path, content, compress):
  name = "t.csv.gz" if compress else "t.csv"
  content = gzip.compress(content) if compress else content
  _check_damaged(tmp_path / name, content, ("b", "c"), None)


@fuzz.SHORT
@hypothesis.given(content=fuzz.damaged(gzip.compress(_CSV, mtime=0)))
def test_damaged_gzip(tmp_path, content):
  _check_damaged(tmp_path / "t.csv.gz", content, ("c", "b"), _WANTED)


_PARQUET = _parquet(i=[1, None, 3, 4], s=["x", "y", None, "x"])


@fuzz.SHORT
@hypothesis.given(content=fuzz.damaged(_PARQUET))
def test_damaged_parquet(tmp_path, content):
  _check_damaged(tmp_path / "t.parquet", content, ("i", "s"), None)
