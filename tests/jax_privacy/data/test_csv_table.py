"""The reader of untrusted CSV files: limits, lines and names in errors."""

import gzip

import pytest

from jax_privacy.data import csv_table
from tests.support import fuzz


def _read(path, columns=("a", "b"), **options):
  options = {"parse": lambda *row: row, **options}
  return csv_table.read_rows(path, columns=columns, **options)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize(
    "content",
    [
        b'b,c,a\n1,x,"2, 3"\n4,,\n',
        b'b,c,a\r\n1,x,"2, 3"\r\n4,,\r\n',
        b'\xef\xbb\xbfb,c,a\n1,x,"2, 3"\n4,,',
    ],
)
def test_columns_come_in_the_order_asked(tmp_path, name, content):
  path = tmp_path / name
  path.write_bytes(gzip.compress(content) if name[-1] == "z" else content)
  assert _read(path) == [("2, 3", "1"), ("", "4")]


@pytest.mark.parametrize(
    ("content", "line", "text"),
    [
        (b"", 1, "the header must hold 'a' once, got nothing"),
        (b"a,c\n1,2\n", 1, "the header must hold 'b' once, got a, c"),
        (b"a,b,a\n1,2,3\n", 1, "the header must hold 'a' once, got a, b, a"),
        (b"a,b\n1,2\n1\n", 3, "as many fields as the header, 2, got 1"),
        (b"a,b\n\n1,2\n", 2, "as many fields as the header, 2, got 0"),
        (b'a,b\n1,"2\n3"\n', 2, "unexpected end of data"),
        (b"a,b\n1,\xff\n", 2, "can't decode byte 0xff"),
        (b"a,b\n1,2\r3,4\n", 2, "new-line character"),
        (b"a,b\n1,2\n1," + b"x" * 2**16 + b"\n", 3, "at most 65536 bytes"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, content, line, text):
  path = tmp_path / "t.csv"
  path.write_bytes(content)
  with pytest.raises(
      ValueError, match=f"t.csv, line {line}: .*{text}"
  ) as error:
    _read(path)
  fuzz.assert_clear(error.value)


def test_what_parse_refuses_is_named(tmp_path):
  path = tmp_path / "t.csv"
  path.write_text("a,b\n1,2\nx,3\n")
  with pytest.raises(ValueError, match="t.csv, line 3: invalid literal .*'x'"):
    _read(path, parse=lambda a, b: int(a))


def test_a_key_that_is_there_twice_is_named(tmp_path):
  path = tmp_path / "t.csv"
  path.write_text("a,b\n1,2\n3,4\n1,5\n")
  with pytest.raises(ValueError, match="line 4: '1' must be there once"):
    _read(path, key=lambda row: row[0])


def test_too_many_rows_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(csv_table, "_MAX_ROWS", 2)
  path = tmp_path / "t.csv"
  path.write_text("a,b\n1,2\n3,4\n")
  assert len(_read(path)) == 2
  path.write_text("a,b\n1,2\n3,4\n5,6\n")
  with pytest.raises(ValueError, match="line 4: there must be at most 2 rows"):
    _read(path)


def test_a_line_without_end_takes_no_memory(tmp_path):
  """Gzip shrinks zeros a thousand times: 32 kB here would fill 32 MiB."""
  path = tmp_path / "t.csv.gz"
  path.write_bytes(gzip.compress(b"a,b\n" + b"0" * 2**25))
  with (
      fuzz.memory_below(2**22),
      pytest.raises(ValueError, match="line 2: it must have at most 65536"),
  ):
    _read(path)


def test_a_small_file_cannot_expand_without_end(tmp_path, monkeypatch):
  monkeypatch.setattr(csv_table.bounded, "_ALWAYS_ALLOWED", 2**16)
  path = tmp_path / "t.csv.gz"
  path.write_bytes(gzip.compress(b"a,b\n" + b"0,0\n" * 2**18))
  with pytest.raises(ValueError, match="the file must expand to at most"):
    _read(path)


@pytest.mark.parametrize("damage", [b"no gzip", None])
def test_a_broken_archive_is_named(tmp_path, damage):
  path = tmp_path / "t.csv.gz"
  whole = gzip.compress(b"a,b\n" + b"12,34\n" * 99)
  path.write_bytes(damage or whole[:-12])
  with pytest.raises(ValueError, match="t.csv.gz, line ") as raised:
    _read(path)
  fuzz.assert_clear(raised.value)


def test_what_is_no_file_is_refused(tmp_path):
  with pytest.raises(ValueError, match="must be a CSV file, got no regular"):
    _read(tmp_path)


def test_the_gzipped_one_is_found_where_it_is_alone(tmp_path):
  assert csv_table.find(tmp_path, "t.csv").name == "t.csv"
  (tmp_path / "t.csv.gz").write_bytes(b"")
  assert csv_table.find(tmp_path, "t.csv").name == "t.csv.gz"
  (tmp_path / "t.csv").write_bytes(b"")
  assert csv_table.find(tmp_path, "t.csv").name == "t.csv"
