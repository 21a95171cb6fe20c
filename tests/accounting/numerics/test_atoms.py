"""A loss on the grid is never easier to hide than the release itself."""

import math

import numpy as np
import pytest

from accounting.numerics import atoms


def _least_excess(term, interval):
  """Returns the least of delta on the grid minus the closed form's."""
  [step] = term.steps(interval, tail=1e-30)
  losses = interval * (step.first + np.arange(len(step.probs)))
  epsilons = np.concatenate(
      [losses[losses >= 0], np.linspace(0.0, term.epsilon, 57)]
  )
  epsilons = epsilons[epsilons < term.epsilon]
  over = losses - epsilons[:, None]
  found = np.where(over > 0, -np.expm1(-over), 0.0) @ step.probs
  # Laplace noise: delta(x) = 1 - exp((x - epsilon) / 2), up to epsilon.
  return np.min(found + np.expm1((epsilons - term.epsilon) / 2))


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("interval", [0.3, 0.11, 0.5 / 7, 0.01])
def test_laplace_noise_is_dominated_on_any_grid(epsilon, interval):
  # Some thousand masses of at most 1 are added, each right to 1e-16.
  assert _least_excess(atoms.Laplace(epsilon), interval) >= -1e-13


class _Across(atoms.Laplace):
  """The planted bug: cells end anywhere, so that some hold a point inside."""

  def atoms(self, interval, tail):
    edges = np.linspace(0.0, 1.0, math.ceil(2 * self.epsilon / interval) + 1)
    cells = 0.5 * -np.diff(np.exp(-self.epsilon * edges))
    losses = self.epsilon * (1 - edges[:-1] - edges[1:])
    end = 0.5 * math.exp(-self.epsilon)
    return (
        np.concatenate([[self.epsilon], losses, [-self.epsilon]]),
        np.concatenate([[0.5], cells, [end]]),
        0.0,
    )


def test_cells_across_a_point_of_the_grid_are_caught():
  assert _least_excess(_Across(0.5), 0.11) < -1e-4
