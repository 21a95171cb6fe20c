"""Splits of documents, and sources of sequences."""

import json

import numpy as np
import pytest

from jax_privacy.data import digest, text


@pytest.fixture
def path(tmp_path):
  rows = [
      {"text": f"document {i} " * (1 + i % 3), "who": f"author {i % 10}"}
      for i in range(60)
  ]
  file = tmp_path / "rows.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return file


def _texts(source):
  tokens = source[np.arange(len(source))]["tokens"]
  return [source.tokeniser.decode(row) for row in tokens]


def test_splits_share_no_document_and_no_other_moves_one(path):
  train, test = (
      set(_texts(text.load("text", split=s, path=path, packing="truncate")))
      for s in ("train", "test")
  )
  assert not train & test and len(train) + len(test) == 60 and test
  rows = path.read_text().splitlines()
  path.write_text("\n".join(rows[7:]))
  again = set(_texts(text.load("text", path=path, packing="truncate")))
  assert again == train - {json.loads(row)["text"] for row in rows[:7]}


def test_all_of_an_author_is_in_one_split(path):
  who = {
      s: set(
          text.load(
              "text", split=s, path=path, split_by="who", test_fraction=0.3
          ).column("who")
      )
      for s in ("train", "test")
  }
  assert len(who["train"]) + len(who["test"]) == 10
  assert not who["train"] & who["test"]


def test_every_piece_of_a_document_has_its_columns(path):
  source = text.load("text", path=path, length=8)
  numbers, authors = source.column("document"), source.column("who")
  for row, number, author in zip(_texts(source), numbers, authors, strict=True):
    assert author == f"author {number % 10}"
    assert row in f"document {number} " * 3
  # Of two files, documents of one number differ.
  pair = [
      text.load("text", split=s, path=path, test_path=str(path)).column(
          "document"
      )
      for s in ("train", "test")
  ]
  assert not set(pair[0]) & set(pair[1])


def test_what_an_example_is_is_said_and_packed_ones_have_no_document(path):
  source = text.load("text", path=path, packing="pack", length=16)
  assert text.example_is(packing="pack", length=16) == (
      "a packed sequence of 16 tokens, with parts of one document or several:"
      " no document is protected as a whole"
  )
  with pytest.raises(ValueError, match="packing must be truncate or split"):
    source.column("document")


def test_padding_is_no_record(path):
  source = text.load("text", path=path, length=8)
  batch = source[np.array([-1, 2])]
  assert (batch["tokens"][0] == source.tokeniser.boundary).all()
  assert all(batch[name][0] == 0 for name in batch if name != "tokens")
  assert source[np.array([2])]["tokens"].tolist() == [
      batch["tokens"][1].tolist()
  ]
  with pytest.raises(IndexError):
    source[np.array([len(source)])]


def test_the_number_is_stated_and_private(path):
  source = text.load("text", path=path, packing="truncate")
  number = len(source)
  with pytest.raises(ValueError, match=f"{number} sequences .private, not for"):
    _ = source.num_examples
  stated = text.load("text", path=path, packing="truncate", num_examples=number)
  assert stated.num_examples == number
  with pytest.raises(ValueError, match="private, not for release"):
    text.load("text", path=path, num_examples=1)


def test_other_text_has_another_digest(path):
  def found():
    source = text.load("text", path=path)
    return digest.keyed(source.digest_parts(), key=bytes(32))

  before = found()
  assert before == found()
  path.write_text(path.read_text().replace("document 3 ", "document x ", 1))
  assert before != found()


def test_copying_is_of_other_sequences_in_each_split():
  train, test = (
      text.load("copy", split=s, length=6) for s in ("train", "test")
  )
  for source in (train, test):
    for row in _texts(source)[:5]:
      assert len(row) == 6 and row[:3] == row[3:]
  assert _texts(train)[:5] != _texts(test)[:5]


@pytest.mark.parametrize(
    "name, options, rule",
    [
        ("copy", {"length": 5}, "length must be even, got 5"),
        ("copy", {"path": "x"}, "option of 'copy' must be one of .*got 'path'"),
        ("text", {}, "path must be given for 'text'"),
        ("text", {"path": "x.txt"}, "path must be a file or a folder of text"),
        ("text", {"path": 3}, "path must be a string or a path"),
        ("text", {"path": "x", "test_fraction": 1.0}, "test_fraction must be"),
        ("text", {"path": "x", "split": "valid"}, "split must be 'train' or"),
        ("text", {"path": "x", "packing": ""}, "packing must be one of"),
        ("books", {}, "name must be one of copy, listops, text, got 'books'"),
    ],
)
def test_wrong_options_are_refused(name, options, rule):
  with pytest.raises(ValueError, match=rule):
    text.load(name, **options)


def test_a_split_without_a_document_is_refused(tmp_path):
  path = tmp_path / "one.txt"
  path.write_text("alone")
  splits = []
  for split in ("train", "test"):
    try:
      splits.append(len(text.load("text", split=split, path=path)))
    except ValueError as error:
      assert "a split must hold a sequence" in str(error)
  assert splits == [1]


def test_a_description_is_enough_to_score_text(path, tmp_path):
  source = text.load("text", path=path, length=8)
  described = json.loads(json.dumps(source.describe()))
  like = text.from_description(described)
  assert len(like) == 0 and like[np.array([-1])]["tokens"].shape == (1, 9)
  assert like.describe() == described | {"packing": "truncate"}
  (tmp_path / "new.txt").write_text("one\n\na longer document\n")
  found = text.read_inputs(tmp_path / "new.txt", like=like)
  assert _texts(found) == ["one", "a longer"]
  copy = text.from_description(text.load("copy", num_symbols=5).describe())
  assert copy.tokeniser.boundary == 5


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"length": None}, "length must be an integer of at least 1, got None"),
        (
            {"tokeniser": "letters"},
            "tokeniser must be bytes, symbols, words or",
        ),
        ({"tokeniser": "file"}, "tokeniser must be 'bytes' or a file"),
        ({"tokeniser": "words"}, "words must be a list of texts, got None"),
        ({"vocabulary_size": 300}, "vocabulary_size must be 300, as when"),
        ({"vocabulary_size": "9"}, "vocabulary_size must be an integer"),
    ],
)
def test_another_description_is_refused(path, change, rule):
  described = text.load("text", path=path).describe() | change
  with pytest.raises(ValueError, match=rule):
    text.from_description(described)
