"""Several runs on the same data, as one: what they reveal together.

The losses of all steps of all runs are added up, as those of one run are. That
is tighter than a sum of epsilons, and holds although a later run depends on
what an earlier one released.

Invariant: the answer is an upper bound for all runs together, and never below
that of one of them. Runs under different relations are refused by name.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism(noise_multiplier=4.0, sampling_prob=0.01, num_steps=5000)
>>> round(composed_epsilon([run, run], delta=1e-5), 3)  # As 10,000 steps.
0.947
"""

import math
import warnings
from collections.abc import Sequence

from accounting import _validate
from accounting.epsilons import epsilon
from accounting.mechanism import Mechanism
from accounting.numerics import limits, pld
from accounting.numerics import terms as terms_lib

# Samplers whose steps are Gaussians with or without Poisson sampling: in these,
# and no others, removing and adding an example are the same directions.
_SAMPLING = ("poisson", "deterministic")


def composed_epsilon(mechanisms: Sequence[Mechanism], *, delta: float) -> float:
  """Returns an epsilon for all of these runs on the same data.

  Args:
    mechanisms: What each run releases; one at least. Each has randomness of
      its own: runs of one seed repeat their noise, and have no guarantee.
    delta: Delta of the guarantee for all runs together, in [1e-30, 1).

  Returns:
    Epsilon, by PLD; infinity where one run has no finite one.

  Raises:
    ValueError: If an argument breaks its rule, a sampler's steps cannot be
      added up, or relations or stated numbers of examples differ.

  Guarantee:
    The runs, all their iterates released, are together (epsilon, delta)-private
    under the relation they share, although each may depend on what those before
    it released.

  Source: Zhu, Dong and Wang 2022 (2106.08567), theorem 10: pairs that dominate
    each run compose to one that dominates all of them, adaptively.
  """
  delta = _validate.real("delta", delta, low=0, high=1)
  if delta < pld.MIN_DELTA:
    _validate.fail("delta", f"at least {pld.MIN_DELTA:g} for several", delta)
  if not mechanisms:
    _validate.fail("mechanisms", "one or more", mechanisms)
  _check_alike(mechanisms)
  if any(map(limits.hopeless, mechanisms)):
    return math.inf
  times: dict[terms_lib.Term, int] = {}
  for run in mechanisms:
    for term, count in terms_lib.terms_of(run):
      times[term] = times.get(term, 0) + count
  value = pld.compose(tuple(times.items()), deltas=(delta,)).epsilon(delta)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    # A grid is chosen for all at once, so that one alone may look worse by a
    # thousandth; more runs never reveal less.
    least = max(epsilon(run, delta=delta) for run in mechanisms)
  return max(value, least)


def _check_alike(mechanisms: Sequence[Mechanism]) -> None:
  first = mechanisms[0]
  for run in mechanisms:
    _validate.choice("sampling", run.sampling, options=_SAMPLING)
    for name in ("neighboring_relation", "num_examples"):
      theirs, ours = getattr(run, name), getattr(first, name)
      if theirs != ours:
        _validate.fail(name, f"the same for all runs, {ours!r}", theirs)
