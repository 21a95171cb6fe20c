"""Transforms at a few frequencies, and products of which most is silent."""

import numpy as np
import pytest

from accounting.numerics import convolve, discretise, fourier

_SIZE = 2**14


def _probs(length, seed):
  rng = np.random.default_rng(seed)
  probs = rng.dirichlet(np.ones(length)) * 0.9
  probs[rng.integers(length)] += 0.1  # The centre: anywhere.
  return probs


@pytest.mark.parametrize("length", [1, 2, 7, 64, 701])
@pytest.mark.parametrize("count", [1, 2, 33, 1000])
def test_low_frequencies_are_those_of_the_whole(length, count, monkeypatch):
  probs = _probs(length, length + count)
  whole = fourier.transform(probs, _SIZE)
  monkeypatch.setattr(fourier, "_costs", lambda *_: 0.0)
  few = fourier.transform(probs, _SIZE, count=count)
  assert (few.centre, few.rest) == (whole.centre, whole.rest)
  # Both round each of the terms, whose sizes add up to 1: by a few ulps.
  here = np.exp(few.log_size + 1j * few.angle)
  there = np.exp(whole.log_size + 1j * whole.angle)[:count]
  np.testing.assert_allclose(here, there, atol=1e-14, rtol=0)


def test_a_probability_near_1_keeps_its_digits():
  # log |1 - r + r exp(-i a)| is -r (1 - cos a) to first order in r.
  probs = np.array([1e-13, 1 - 1e-13])
  found = fourier._low(np.array([1e-13, 0.0]), 1, _SIZE, 5)
  angle = 2 * np.pi * np.arange(5) / _SIZE
  # Rounded to a share of 1, all digits would be lost: ulps of 1 are 1e-16.
  np.testing.assert_allclose(
      found[0], -1e-13 * 2 * np.sin(angle / 2) ** 2, rtol=1e-9
  )
  whole = fourier.transform(probs, _SIZE, count=5)
  assert whole.log_size[0] == 0 and np.all(whole.log_size[1:] < 0)


def _kinds(interval):
  rng = np.random.default_rng(0)
  steps = []
  for _ in range(60):
    pair = discretise.sampled_gaussian(
        noise=float(rng.uniform(2, 9)), sampling_prob=float(rng.uniform(0, 0.1))
    )
    step = discretise.on_grid(pair, interval=interval, tail=1e-20)
    steps.append((step, int(rng.integers(1, 90))))
  return tuple(steps)


def test_what_is_left_out_of_a_product_is_silent(monkeypatch):
  run = convolve.Sum(_kinds(1e-3), 1e-3)
  where = convolve.layout(run, points=[(1e-9, 4.0)])
  found = convolve.distribution(run, where)
  original = fourier.transform
  monkeypatch.setattr(
      fourier,
      "transform",
      lambda probs, size, count=None: original(probs, size),
  )
  monkeypatch.setattr(fourier, "_SILENT", np.inf)
  fresh = convolve.Sum(run.parts, run.interval)
  exact = convolve.distribution(fresh, where)
  # As close as two sums in another order; each has a margin for rounding.
  above = found.losses > 4.0
  theirs = exact.probs[above] @ -np.expm1(4.0 - exact.losses[above])
  ours = found.probs[above] @ -np.expm1(4.0 - found.losses[above])
  assert ours == pytest.approx(theirs, rel=1e-6)
  assert theirs > 1e-12
  # Planted bug: what is not silent is left out.
  monkeypatch.setattr(fourier, "transform", original)
  monkeypatch.setattr(fourier, "_SILENT", 0.5)
  wrong = convolve.distribution(convolve.Sum(run.parts, 1e-3), where)
  broken = wrong.probs[above] @ -np.expm1(4.0 - wrong.losses[above])
  assert abs(broken / theirs - 1) > 1e-2
