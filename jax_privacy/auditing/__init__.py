"""Lower bounds on epsilon, measured: canaries, their scores, and bounds.

What accounting claims from above, an audit checks from below.
"""

from jax_privacy.auditing import gdp as gdp
from jax_privacy.auditing import one_run as one_run
from jax_privacy.auditing.auditor import (
    CanaryScoreAuditor as CanaryScoreAuditor,
)
from jax_privacy.auditing.error_rates import Bonferroni as Bonferroni
from jax_privacy.auditing.error_rates import Explicit as Explicit
from jax_privacy.auditing.error_rates import Split as Split
