"""Runs in rounds: in each, an example takes part in k of t steps.

Invariant: accountant and sampler read the same whole numbers from a mechanism;
`jax_privacy/samplers.py` mirrors `steps_per_round`.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=1.0, sampling_prob=0.1, num_steps=5,
...                 sampling="balls_in_bins")
>>> steps_per_round(run)
(10, 1)
"""

import math
from typing import TYPE_CHECKING

from accounting import _validate

if TYPE_CHECKING:
  from accounting.mechanism import Mechanism

# How far from a whole number of steps a sampling probability may be: a batch
# size is typed in decimals.
_SLACK = 1e-3


def steps_per_round(run: "Mechanism") -> tuple[int, int]:
  """Returns the steps of a round, and in how many of them an example is.

  Args:
    run: Mechanism of the run.

  Raises:
    ValueError: If num_selected / sampling_prob is no whole number of steps.
  """
  num_selected = dict(run.sampling_options).get("num_selected", 1)
  steps = num_selected / run.sampling_prob
  whole = round(min(steps, 2.0**53))
  if abs(steps - whole) > _SLACK or whole < num_selected:
    rule = f"{num_selected} / a whole number of steps for {run.sampling}"
    if run.num_examples is not None:
      sizes = [
          f"{run.num_examples * num_selected / t:.9g} ({t} steps)"
          for t in (math.floor(steps), math.ceil(steps))
      ]
      rule += f", that is an expected batch size of {' or '.join(sizes)}"
    _validate.fail("sampling_prob", rule, run.sampling_prob)
  return whole, num_selected
