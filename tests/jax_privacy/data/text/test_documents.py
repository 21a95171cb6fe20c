"""Documents of every kind of file, and what is refused of them."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from jax_privacy.data.text import documents

_ROWS = [
    {"text": "one", "who": "al", "ask": "?"},
    {"text": "two\nlines", "who": "bo", "ask": ""},
    {"text": "", "who": "al", "ask": "!"},
]


def _write(folder, suffix):
  path = folder / f"rows{suffix}"
  if suffix == ".jsonl":
    path.write_text("\n".join(map(json.dumps, _ROWS)) + "\n\n")
  else:
    parquet.write_table(pa.Table.from_pylist(_ROWS), path)
  return path


def _save(folder, parts, state=None):
  """As `datasets` 5.2 saves it: streams of Arrow, and what says so."""
  names = [f"data-{i:05d}-of-{len(parts):05d}.arrow" for i in range(len(parts))]
  for name, rows in zip(names, parts, strict=True):
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(folder / name), "wb") as file:
      with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
  state = state or {"_data_files": [{"filename": name} for name in names]}
  (folder / "state.json").write_text(json.dumps(state))


def test_a_saved_data_set_is_read_in_order(tmp_path):
  _save(tmp_path, [_ROWS[:2], _ROWS[2:]])
  found = list(documents.read(tmp_path, context_column="ask", columns=("who",)))
  assert [(d.text, d.context) for d in found] == [
      (row["text"], row["ask"]) for row in _ROWS
  ]
  assert [d.cells["who"] for d in found] == ["al", "bo", "al"]
  assert [d.cells["document"] for d in found] == [0, 1, 2]
  with pytest.raises(ValueError, match="'missing' must be in the file once"):
    list(documents.read(tmp_path, columns=("missing",)))


@pytest.mark.parametrize(
    "state, text",
    [
        (
            {"_data_files": [{"filename": "../rows"}]},
            "must name the files in i",
        ),
        ({"_data_files": [{"filename": 3}]}, "must name the files in its fold"),
        ({"files": []}, "must name the files in its folder"),
        ({"_data_files": [{"filename": "no.arrow"}]}, "must hold no.arrow"),
        ({"_data_files": [{"filename": "state.json"}]}, "state.json"),
        ({"_data_files": []}, "must hold a document, got none"),
    ],
)
def test_a_damaged_data_set_is_refused(state, text, tmp_path):
  _save(tmp_path, [_ROWS], state)
  with pytest.raises(ValueError, match=text):
    list(documents.read(tmp_path))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_are_documents_with_context_and_columns(suffix, tmp_path):
  path = _write(tmp_path, suffix)
  found = list(documents.read(path, context_column="ask", columns=("who",)))
  for i, (document, row) in enumerate(zip(found, _ROWS, strict=True)):
    assert document.text == row["text"] and document.context == row["ask"]
    assert document.cells["who"] == row["who"]
    assert document.cells["document"] == i
  with pytest.raises(ValueError, match="'missing'"):
    list(documents.read(path, columns=("missing",)))


def test_a_folder_s_files_are_documents_in_order(tmp_path):
  for name in ("b/2.txt", "a/1.txt", "b/1.txt", "b/notes.md"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(f"{name}\r\nend".encode())
  found = list(documents.read(tmp_path, columns=("file", "folder")))
  wanted = [("a/1.txt", "a"), ("b/1.txt", "b"), ("b/2.txt", "b")]
  assert [(d.text, d.cells["folder"]) for d in found] == [
      (f"{name}\r\nend", folder) for name, folder in wanted
  ]
  assert [d.cells["file"] for d in found] == ["1.txt", "1.txt", "2.txt"]


def test_a_text_file_is_a_document_a_line_or_one(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("one\n\ntwo")
  assert [d.text for d in documents.read(path)] == ["one", "two"]
  assert [d.text for d in documents.read(path, whole_files=True)] == [
      "one\n\ntwo"
  ]


@pytest.mark.parametrize(
    "name, content, options, text",
    [
        ("a.txt", b"\xff", {}, "must be text in UTF-8"),
        ("a.txt", b"", {}, "must hold a document, got none"),
        (
            "a.txt",
            b"x",
            {"columns": ("who",)},
            "column must be one of document",
        ),
        ("a.txt", b"x", {"context_column": "q"}, "context_column must be ''"),
        ("a.csv", b"x", {}, "must end in .txt, .jsonl or .parquet"),
        ("a.jsonl", b'{"text": 3}', {}, "must hold text in every row, got int"),
        ("a.jsonl", b'{"txt": ""}', {}, "line 1: it must have the key 'text'"),
        ("a.jsonl", b"\n[1]", {}, "line 2: it must be an object of JSON"),
        ("a.jsonl", b"[" * 100_000, {}, "line 1: it must be an object of JSON"),
        ("a.parquet", b"x", {}, "a.parquet"),
        (None, b"", {}, "must be a file or a folder of text"),
    ],
)
def test_what_is_no_text_is_refused(name, content, options, text, tmp_path):
  path = tmp_path / (name or "missing.txt")
  if name:
    path.write_bytes(content)
  with pytest.raises(ValueError, match=text):
    list(documents.read(path, **options))
