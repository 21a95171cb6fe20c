"""`dp-budget monte-carlo`: an epsilon that was found by drawing losses.

Invariant: the answer says with which confidence, of how many draws, and what is
proven without any; it is never above that.

>>> from accounting import monte_carlo
>>> monte_carlo.monte_carlo_epsilon.__name__
'monte_carlo_epsilon'
"""

import argparse

from accounting import _validate, accountants, claims, epsilons, monte_carlo
from accounting.budget.answer import Answer
from accounting.budget.answer import fields as fields_of
from accounting.budget.arguments import Plan

_NAME = "monte_carlo"


def epsilon_of(plan: Plan, arguments: argparse.Namespace) -> Answer:
  """Returns an epsilon of a run by chance, and the proven one.

  Args:
    plan: Plan of the run.
    arguments: Parsed command line.

  Raises:
    ValueError: If an argument breaks its rule, or the sampler has no exact pair
      to draw.
  """
  if arguments.accountant != accountants.TIGHTEST:
    rule = f"left out or {accountants.TIGHTEST}, which draws are compared with"
    _validate.fail("accountant", rule, arguments.accountant)
  draws = {
      "num_samples": arguments.num_samples,
      "confidence": arguments.confidence,
      "seed": arguments.seed,
  }
  value = monte_carlo.monte_carlo_epsilon(
      plan.mechanism, delta=plan.stated_delta, **draws
  )
  proven = epsilons.evaluate(
      plan.mechanism,
      delta=plan.stated_delta,
      accountant=accountants.TIGHTEST,
  ).epsilon
  fields = fields_of(plan, arguments) | draws
  fields |= {"accountant": _NAME, "epsilon": value, "epsilon_proven": proven}
  at = (
      f"at delta {claims.at_most_short(plan.stated_delta)} ({_NAME},"
      f" {plan.mechanism.neighboring_relation})"
  )
  text = f"epsilon {claims.at_most(value)} {at}"
  if value < proven:
    failure = claims.at_most_scientific(1 - arguments.confidence, digits=2)
    text += (
        f": by {arguments.num_samples} draws of each direction, which mislead"
        f" with probability {failure} at most, counted within delta; proven"
        f" without draws: {claims.at_most(proven)}"
    )
  else:
    text += ": the proven bound, below which these draws show nothing"
  return Answer(fields=fields, text=text, mechanism=plan.mechanism)
