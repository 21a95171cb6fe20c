"""Tokenisers keep every byte of a text, and their vocabulary is public."""

import numpy as np
import pytest

from jax_privacy.data.text import tokenisers


@pytest.mark.parametrize("text", ["", "abc", "d\u00e9j\u00e0 \U0001f600\n"])
def test_bytes_are_those_of_utf8(text):
  tokeniser = tokenisers.Bytes()
  tokens, num_bytes = tokeniser.encode(text)
  assert bytes(tokens.astype(np.uint8)) == text.encode()
  assert num_bytes.sum() == len(text.encode())
  ended = np.append(tokens, tokeniser.boundary)
  assert tokeniser.decode(ended) == text


def test_symbols_refuse_other_letters():
  tokeniser = tokenisers.Symbols(3)
  assert tokeniser.decode(tokeniser.encode("abca")[0]) == "abca"
  for text in ("d", "A", "~"):
    with pytest.raises(ValueError, match="text must be letters of 'abc'"):
      tokeniser.encode(text)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: tokenisers.Symbols(1), "num_symbols must be an integer of at"),
        (lambda: tokenisers.Symbols(27), r"num_symbols must be in \[2, 26\]"),
        (
            lambda: tokenisers.build("byte"),
            "tokeniser must be 'bytes' or a fil",
        ),
        (
            lambda: tokenisers.build("bytes", boundary="x"),
            "boundary must be ''",
        ),
    ],
)
def test_what_is_no_tokeniser_is_refused(make, text):
  with pytest.raises(ValueError, match=text):
    make()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  """A byte-level BPE of a handful of public words."""
  package = pytest.importorskip("tokenizers")
  made = package.Tokenizer(package.models.BPE())
  made.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = package.decoders.ByteLevel()
  trainer = package.trainers.BpeTrainer(
      vocab_size=280,
      special_tokens=["<|end|>"],
      initial_alphabet=package.pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
  )
  made.train_from_iterator(["the cat and the hat"] * 9, trainer)
  path = tmp_path_factory.mktemp("tokeniser") / "tokenizer.json"
  made.save(str(path))
  return path


def test_a_file_s_tokens_cover_every_byte(file):
  tokeniser = tokenisers.build(str(file))
  text = "the cat, d\u00e9j\u00e0 \U0001f600 vu"
  tokens, num_bytes = tokeniser.encode(text)
  assert len(tokens) < len(text.encode()) == num_bytes.sum()
  assert (num_bytes >= 0).all() and tokens.max() < tokeniser.boundary
  ended = np.append(tokens, tokeniser.boundary)
  assert tokeniser.decode(ended) == text
  assert len(tokeniser.describe()["tokeniser_sha256"]) == 64
  assert [len(x) for x in tokeniser.encode("")] == [0, 0]


def test_a_boundary_is_a_token_of_the_file(file):
  tokeniser = tokenisers.build(str(file), boundary="<|end|>")
  without = tokenisers.build(str(file))
  assert tokeniser.boundary == 0
  assert tokeniser.vocabulary_size == without.vocabulary_size - 1
  with pytest.raises(ValueError, match="boundary must be a token of .*<no>"):
    tokenisers.build(str(file), boundary="<no>")


def test_a_damaged_file_is_refused(tmp_path):
  pytest.importorskip("tokenizers")
  (tmp_path / "a.json").write_text('{"model": 3}')
  with pytest.raises(ValueError, match="must be a file of `tokenizers`, got"):
    tokenisers.build(str(tmp_path / "a.json"))
