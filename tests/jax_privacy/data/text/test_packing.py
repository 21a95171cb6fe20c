"""Sequences hold each token once, and never two documents unless packed."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from jax_privacy.data.text import packing

_BOUNDARY = 99
_SIZES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=5)


def _documents(sizes):
  """Document i's tokens are 10 i, 10 i + 1, ...; context first."""
  return [
      packing.Tokens(
          10 * i + np.arange(context + text) % 10,
          np.full(context + text, 2, np.int32),
          context,
      )
      for i, (context, text) in enumerate(sizes)
  ]


def _predicted(arrays, i):
  at = slice(1 + arrays["num_context"][i], 1 + arrays["num_tokens"][i])
  return arrays["tokens"][i][at].tolist()


@hypothesis.settings(max_examples=60)
@hypothesis.given(_SIZES, st.integers(1, 12), st.sampled_from(packing.PACKINGS))
def test_tokens_are_predicted_once_and_stay_apart(sizes, length, how):
  if how == "pack":
    sizes = [(0, text) for _, text in sizes]
  found = packing.sequences(
      _documents(sizes), length, packing=how, boundary=_BOUNDARY
  )
  assert found["tokens"].shape == (len(found["document"]), length + 1)
  assert (found["tokens"][:, 0] == _BOUNDARY).all()
  by_document = {}
  for i, document in enumerate(found["document"]):
    count = found["num_tokens"][i]
    assert 1 <= count <= length
    assert (found["tokens"][i, count + 1 :] == _BOUNDARY).all()
    inside = found["tokens"][i, 1 : count + 1]
    owners = set((inside[inside != _BOUNDARY] // 10).tolist())
    if how != "pack":
      assert owners <= {document}
    predicted = _predicted(found, i)
    assert found["num_bytes"][i] == 2 * sum(t != _BOUNDARY for t in predicted)
    by_document.setdefault(0 if how == "pack" else document, []).append(
        predicted
    )
  wanted = [
      [*(10 * i + np.arange(c, c + t) % 10), _BOUNDARY]
      for i, (c, t) in enumerate(sizes)
  ]
  if how == "pack":
    assert sum(by_document.get(0, []), []) == sum(wanted, [])
  for i, tokens in enumerate(wanted if how != "pack" else []):
    pieces = by_document[i]
    if how == "truncate":
      assert pieces == [tokens[:length]]
    else:
      assert sum(pieces, []) == tokens


def test_of_a_long_context_the_end_is_kept():
  (document,) = _documents([(6, 2)])
  found = packing.sequences(
      [document], 5, packing="truncate", boundary=_BOUNDARY
  )
  assert found["tokens"].tolist() == [[_BOUNDARY, 4, 5, 6, 7, _BOUNDARY]]
  assert found["num_context"].tolist() == [2]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"packing": "merge"}, "packing must be one of truncate, split, pack"),
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"length": 2**21}, "length must be at most"),
        ({"packing": "pack"}, "packing must be truncate or split with a cont"),
    ],
)
def test_wrong_options_are_refused(options, text):
  options = {"length": 4, "packing": "split"} | options
  with pytest.raises(ValueError, match=text):
    packing.sequences(_documents([(1, 1)]), boundary=_BOUNDARY, **options)
