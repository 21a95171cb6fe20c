"""Epsilon after each step."""

import dataclasses
import warnings

import numpy as np
import pytest

import accounting
from tests.support import mechanisms

_run = mechanisms.run


# The tests are of numbers, of which some are too large to protect anybody; that
# they are warned of is tested in `test_epsilon_faults`.
@pytest.fixture(autouse=True)
def _vacuous_is_fine():
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", accounting.VacuousGuaranteeWarning)
    warnings.simplefilter("ignore", accounting.OrderGridWarning)
    yield


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("noise", "prob"), [(3.0, 0.08), (0.7, 0.001), (8.0, 1.0)]
)
@pytest.mark.parametrize("sampling", ["poisson", "deterministic"])
def test_curve_is_an_upper_bound_between_its_knots(noise, prob, sampling):
  run = _run(noise=noise, prob=prob, sampling=sampling)
  # More than 256, the stairs between them in two octaves of the grid.
  steps = np.array([1, 7, 41, *range(330, 350), *range(760, 1001)])
  curve = accounting.epsilon_curve(run, steps=steps, delta=1e-6)
  assert np.all(np.diff(curve) >= 0)
  assert len(steps) > 256
  for index in (0, 1, 2, 4, 20, 100, 262, 263):
    exact = accounting.epsilon(
        dataclasses.replace(run, num_steps=int(steps[index])), delta=1e-6
    )
    # Both are bounds: an octave shares a grid, whose share is below 1e-5 here.
    # 2% more steps are 2% more epsilon at most.
    assert exact * (1 - 1e-5) <= curve[index] <= exact * 1.03 + 1e-6
  assert curve[-1] == pytest.approx(exact, rel=1e-9)


@pytest.mark.slow
def test_a_jump_of_epsilon_is_not_cut_short():
  # A cubic between knots gave 0.338364 at step 10, below the truth.
  run = _run(noise=0.5, prob=1e-3, steps=300)
  asked = [*range(1, 13), 60, 61, *range(300, 550)]
  curve = accounting.epsilon_curve(run, steps=asked, delta=1e-4)
  for step in (8, 10, 12, 60, 61):
    exact = accounting.epsilon(run.with_num_steps(step), delta=1e-4)
    assert exact * (1 - 1e-5) <= curve[asked.index(step)] <= exact * 1.03


def test_rdp_curve_is_epsilon_at_each_step():
  steps = [5, 1, 20_000]
  curve = accounting.epsilon_curve(
      _run(), steps=steps, delta=1e-5, accountant="rdp"
  )
  for value, count in zip(curve, steps, strict=True):
    assert value == accounting.epsilon(
        _run(steps=count), delta=1e-5, accountant="rdp"
    )


def test_curve_of_nothing_is_empty_and_bad_steps_are_refused():
  assert accounting.epsilon_curve(_run(), steps=[], delta=1e-5).shape == (0,)
  with pytest.raises(ValueError, match="steps must be an integer of at least"):
    accounting.epsilon_curve(_run(), steps=[1, 0], delta=1e-5)
