"""Plots of mechanisms, compositions, profiles and statements."""

import dataclasses
import sys

import numpy as np
import pytest

import accounting
from tests.support import mechanisms

_RUN = mechanisms.run(noise=4.0, prob=0.01, steps=50)


def test_each_shows_the_numbers_of_its_profile():
  profile = accounting.privacy_profile(_RUN)
  made = accounting.make_statement(_RUN, delta=1e-5)
  for value in (profile, made, _RUN):
    curve, attack = value.plot().axes
    [line] = curve.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), profile.epsilons)
    np.testing.assert_allclose(
        line.get_ydata(), np.maximum(profile.deltas, 1e-13)
    )
    points = attack.get_lines()[-1]
    assert list(points.get_ydata()) == list(profile.tpr_at_fpr.values())
  # Of two runs more is shown: delta at epsilon 0 is larger.
  [line] = (2 * _RUN).plot().axes[0].get_lines()
  assert line.get_ydata()[0] > profile.deltas[0]
  assert accounting.Laplace(scale=9.0).plot().axes


def test_without_an_analysis_there_is_no_plot():
  known = mechanisms.run(steps=10)
  made = accounting.make_statement(known, delta=1e-6)
  without = dataclasses.replace(made, profile=None)
  with pytest.raises(ValueError, match="profile must be known, to be plotted"):
    without.plot()
  unknown = mechanisms.run(
      steps=10,
      prob=0.1,
      neighboring_relation="replace_one",
      sampling="balls_in_bins",
  )
  with pytest.raises(ValueError, match="accountant must be one with an analy"):
    unknown.plot()


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
  profile = accounting.privacy_profile(_RUN)
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
  with pytest.raises(ImportError, match=r"jax-privacy-toolkit\[plots\]"):
    profile.plot()
