"""Lower bounds on epsilon, measured: canaries, their scores, and bounds.

What accounting claims from above, an audit checks from below. Throw a coin for
each canary (`throw_coins`), make them (`dirac_canaries`), add those that are in
and drawn to each step's clipped sum (`insert`), score every noised update
(`record_scores`), and bound epsilon by the scores (`CanaryScoreAuditor`).
"""

from jax_privacy.auditing import gdp as gdp
from jax_privacy.auditing import input_canaries as input_canaries
from jax_privacy.auditing import one_run as one_run
from jax_privacy.auditing.auditor import (
    CanaryScoreAuditor as CanaryScoreAuditor,
)
from jax_privacy.auditing.canaries import DiracCanaries as DiracCanaries
from jax_privacy.auditing.canaries import GradientCanaries as GradientCanaries
from jax_privacy.auditing.canaries import (
    RandomDirectionCanaries as RandomDirectionCanaries,
)
from jax_privacy.auditing.canaries import dirac_canaries as dirac_canaries
from jax_privacy.auditing.canaries import (
    random_direction_canaries as random_direction_canaries,
)
from jax_privacy.auditing.error_rates import Bonferroni as Bonferroni
from jax_privacy.auditing.error_rates import Explicit as Explicit
from jax_privacy.auditing.error_rates import MultiSplit as MultiSplit
from jax_privacy.auditing.error_rates import Split as Split
from jax_privacy.auditing.membership import Membership as Membership
from jax_privacy.auditing.membership import throw_coins as throw_coins
from jax_privacy.auditing.ranks import exposure as exposure
from jax_privacy.auditing.roc import BootstrapParams as BootstrapParams
from jax_privacy.auditing.scores import CanaryScoreState as CanaryScoreState
from jax_privacy.auditing.scores import (
    log_likelihood_ratios as log_likelihood_ratios,
)
from jax_privacy.auditing.scores import loss_scores as loss_scores
from jax_privacy.auditing.scores import record_scores as record_scores
from jax_privacy.auditing.scores import recorded_scores as recorded_scores

__all__ = (
    "Bonferroni",
    "BootstrapParams",
    "CanaryScoreAuditor",
    "CanaryScoreState",
    "DiracCanaries",
    "Explicit",
    "GradientCanaries",
    "Membership",
    "MultiSplit",
    "RandomDirectionCanaries",
    "Split",
    "dirac_canaries",
    "exposure",
    "gdp",
    "input_canaries",
    "log_likelihood_ratios",
    "loss_scores",
    "one_run",
    "random_direction_canaries",
    "record_scores",
    "recorded_scores",
    "throw_coins",
)


def __dir__() -> list[str]:
  return list(__all__)
