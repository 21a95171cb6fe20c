"""What the runs of these tests share: the noise that a budget asks for.

Many runs have one budget, and finding its noise is a third of a small run's
time. The first asks the accountant, which the tests of `accounting` are about.
A call that warns or fails is made each time.
"""

import functools
import warnings

import pytest

import accounting


def _kept(function):
  known = {}

  @functools.wraps(function)
  def call(mechanism, **budget):
    key = repr((mechanism, sorted(budget.items())))
    if key not in known:
      try:
        with warnings.catch_warnings():
          warnings.simplefilter("error")
          known[key] = function(mechanism, **budget)
      except Exception:
        return function(mechanism, **budget)
    return known[key]

  return call


_CALIBRATE_NOISE = _kept(accounting.calibrate_noise)
_EPSILON = _kept(accounting.epsilon)


# For one file at a time: the tests of `accounting`, which the same worker may
# run next, are of the real functions.
@pytest.fixture(autouse=True, scope="module")
def _one_answer_a_budget():
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(accounting, "calibrate_noise", _CALIBRATE_NOISE)
    patched.setattr(accounting, "epsilon", _EPSILON)
    yield
