"""An n-gram's bits a byte are those of a distribution."""

import collections
import doctest
import itertools

import numpy as np
import pytest

from benchmarks import ngram

_SIZE, _BOUNDARY = 4, 3


def _sequences(num_rows, length, seed):
  rng = np.random.default_rng(seed)
  tokens = rng.integers(0, _SIZE, (num_rows, length + 1))
  tokens[:, 0] = _BOUNDARY
  return tokens, rng.integers(0, length + 1, num_rows)


def _slow_nll(train, test, order):
  """Witten and Bell's, one token at a time."""
  seen = collections.defaultdict(collections.Counter)
  for row, number in zip(*train, strict=True):
    for i in range(number):
      for size in range(min(order, i + 2)):
        seen[tuple(row[i + 1 - size : i + 1])][row[i + 1]] += 1

  def prob(context, token):
    if not context:
      shorter = 1 / _SIZE
    else:
      shorter = prob(context[1:], token)
    counts = seen[context]
    total, kinds = sum(counts.values()), len(counts)
    if not total:
      return shorter
    return (counts[token] + kinds * shorter) / (total + kinds)

  return [
      -sum(
          np.log(prob(tuple(row[max(0, i + 2 - order) : i + 1]), row[i + 1]))
          for i in range(number)
      )
      for row, number in zip(*test, strict=True)
  ]


def test_doctest():
  assert doctest.testmod(ngram)[0] == 0


@pytest.mark.parametrize("order", [1, 2, 4])
def test_it_is_a_slow_reference_s(order):
  train, test = _sequences(20, 6, 0), _sequences(9, 5, 1)
  model = ngram.NGram(*train, order=4, vocabulary_size=_SIZE)
  np.testing.assert_allclose(
      model.nll(*test, order=order), _slow_nll(train, test, order), rtol=1e-12
  )


def test_all_sequences_together_have_probability_1():
  model = ngram.NGram(*_sequences(9, 6, 2), order=3, vocabulary_size=_SIZE)
  every = list(itertools.product(range(_SIZE), repeat=3))
  tokens = np.array([(_BOUNDARY, *tail) for tail in every])
  nll = model.nll(tokens, np.full(len(tokens), 3))
  np.testing.assert_allclose(np.exp(-nll).sum(), 1.0, rtol=1e-12)


def test_the_command_scores_a_text(tmp_path, capsys):
  # A tenth or so of the lines is held out.
  path = tmp_path / "lines.txt"
  path.write_text("".join(f"{'ab' * 20}{i}\n" for i in range(60)))
  ngram.main([f"--path={path}", "--length=16", "--max_order=2"])
  lines = capsys.readouterr().out.splitlines()
  bits = [float(line.split()[2]) for line in lines]
  # One bit for "a" or "b" with the digits' more; an "a" says that "b" is next.
  assert 1.0 < bits[0] < 2.5 and bits[1] < 0.8
  with pytest.raises(SystemExit, match="path must be"):
    ngram.main([f"--path={tmp_path / 'none.csv'}"])


@pytest.mark.parametrize("order", [0, 8])
def test_an_order_that_cannot_be_counted_is_refused(order):
  with pytest.raises(ValueError, match="order must be positive"):
    ngram.NGram(np.zeros((1, 2), int), [1], order=order, vocabulary_size=257)
