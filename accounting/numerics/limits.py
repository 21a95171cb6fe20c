"""Where arithmetic ends, and the safe side of it.

Doubles cannot square 1e-300. Invariant: a run outside these limits is
accounted for as one that is less private, and never refused or overflowing.

>>> from accounting.mechanism import Mechanism
>>> wild = Mechanism(noise_multiplier=1e300, sampling_prob=0.1, num_steps=1)
>>> tame(wild).noise_multiplier
1000000000.0
"""

import dataclasses

from accounting.numerics.mechanism_like import MechanismLike, RunLike

# Below this noise no finite bound is worth computing: epsilon is 1e5 or more.
MIN_NOISE = 1e-3
_MAX_NOISE = 1e9


def hopeless(run: RunLike) -> bool:
  """Returns whether there is so little noise that nothing is protected.

  Args:
    run: Mechanism of the run, or a composition.
  """
  return any(part.is_hopeless for part, _ in run.parts)


def tame(mechanism: MechanismLike) -> MechanismLike:
  """Returns a run within the limits, and no more private than this one.

  Args:
    mechanism: A run that is not `hopeless`.

  Returns:
    The same run, or one with less noise or a higher sampling probability.
  """
  noise = min(mechanism.noise_multiplier, _MAX_NOISE)
  prob = max(mechanism.sampling_prob, mechanism.sampler.least_sampling_prob)
  return dataclasses.replace(
      mechanism, noise_multiplier=noise, sampling_prob=prob
  )
