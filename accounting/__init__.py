"""Privacy arithmetic: NumPy, SciPy and dp-accounting, never JAX.

`numerics` computes, the files here ask and answer, `budget` is the command
`dp-budget`. Imports go one way: budget -> files here -> numerics.
"""

import importlib as _importlib
import typing as _typing

from accounting._warnings import AccountingWarning as AccountingWarning
from accounting._warnings import LargeDeltaWarning as LargeDeltaWarning
from accounting._warnings import OrderGridWarning as OrderGridWarning
from accounting._warnings import TinyDeltaWarning as TinyDeltaWarning
from accounting._warnings import (
    VacuousGuaranteeWarning as VacuousGuaranteeWarning,
)
from accounting._warnings import WideBoundWarning as WideBoundWarning
from accounting.calibrate import calibrate_batch_size as calibrate_batch_size
from accounting.calibrate import calibrate_noise as calibrate_noise
from accounting.calibrate import calibrate_num_steps as calibrate_num_steps
from accounting.composition import Composition as Composition
from accounting.disjoint import Disjoint as Disjoint
from accounting.epsilons import delta as delta
from accounting.epsilons import epsilon as epsilon
from accounting.epsilons import epsilon_curve as epsilon_curve
from accounting.ledger import BudgetError as BudgetError
from accounting.ledger import Ledger as Ledger
from accounting.mechanism import Mechanism as Mechanism
from accounting.mechanism import steps_for_epochs as steps_for_epochs
from accounting.mechanisms.gaussian import DiscreteGaussian as DiscreteGaussian
from accounting.mechanisms.gaussian import Gaussian as Gaussian
from accounting.mechanisms.laplace import DiscreteLaplace as DiscreteLaplace
from accounting.mechanisms.laplace import Laplace as Laplace
from accounting.mechanisms.public import Public as Public
from accounting.mechanisms.responses import Exponential as Exponential
from accounting.mechanisms.responses import (
    RandomizedResponse as RandomizedResponse,
)
from accounting.mechanisms.stated import ApproximateDp as ApproximateDp
from accounting.mechanisms.stated import (
    ZeroConcentratedDp as ZeroConcentratedDp,
)
from accounting.monte_carlo import MonteCarloDelta as MonteCarloDelta
from accounting.monte_carlo import monte_carlo_delta as monte_carlo_delta
from accounting.monte_carlo import monte_carlo_epsilon as monte_carlo_epsilon
from accounting.planned import calibrated as calibrated
from accounting.profile import PrivacyProfile as PrivacyProfile
from accounting.profile import privacy_profile as privacy_profile
from accounting.release_calibration import (
    calibrate_release as calibrate_release,
)
from accounting.statement import Statement as Statement
from accounting.statement import make_statement as make_statement
from accounting.tuning import TuningCost as TuningCost
from accounting.tuning import tuning_cost as tuning_cost
from accounting.users import user_epsilon as user_epsilon
from accounting.users import user_epsilons as user_epsilons

__version__ = "0.1.0"

# Imported when they are first asked for.
if _typing.TYPE_CHECKING:
  from accounting import budget as budget
  from accounting import claims as claims

__all__ = (
    "AccountingWarning",
    "ApproximateDp",
    "BudgetError",
    "Composition",
    "DiscreteGaussian",
    "DiscreteLaplace",
    "Disjoint",
    "Exponential",
    "Gaussian",
    "Laplace",
    "LargeDeltaWarning",
    "Ledger",
    "Mechanism",
    "MonteCarloDelta",
    "OrderGridWarning",
    "PrivacyProfile",
    "Public",
    "RandomizedResponse",
    "Statement",
    "TinyDeltaWarning",
    "TuningCost",
    "VacuousGuaranteeWarning",
    "WideBoundWarning",
    "ZeroConcentratedDp",
    "budget",
    "calibrate_batch_size",
    "calibrate_noise",
    "calibrate_num_steps",
    "calibrate_release",
    "calibrated",
    "claims",
    "delta",
    "epsilon",
    "epsilon_curve",
    "make_statement",
    "monte_carlo_delta",
    "monte_carlo_epsilon",
    "privacy_profile",
    "steps_for_epochs",
    "tuning_cost",
    "user_epsilon",
    "user_epsilons",
)


def __getattr__(name: str) -> _typing.Any:
  if name in __all__:
    return _importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*__all__, "__version__"])
