"""Flags of correlated noise, as `dp-budget` reads them.

Invariant: without them, noise is independent.

>>> import argparse
>>> parser = argparse.ArgumentParser()
>>> add(parser)
>>> given = ["--noise=banded", "--strategy-coef=0.8,0.6"]
>>> fields(parser.parse_args(given))["noise_options"]
{'strategy_coef': [0.8, 0.6]}
"""

import argparse
from typing import Any

from accounting import noises


def add(group: Any) -> None:
  """Adds the flags to a parser, or a group of one.

  Args:
    group: Parser or group.
  """
  group.add_argument(
      "--noise",
      default="independent",
      choices=noises.names(),
      help="how the noise of the steps is correlated; default independent",
  )
  group.add_argument(
      "--strategy-coef",
      type=_numbers,
      metavar="C,C,...",
      help="coefficients of the strategy of banded noise, of norm 1",
  )


def fields(arguments: argparse.Namespace) -> dict[str, Any]:
  """Returns the fields of a mechanism that the flags say.

  Args:
    arguments: Parsed arguments.
  """
  coef = arguments.strategy_coef
  options = {} if coef is None else {"strategy_coef": coef}
  return {"noise": arguments.noise, "noise_options": options}


def _numbers(text: str) -> list[float]:
  """Reads numbers that commas divide."""
  return [float(each) for each in text.split(",")]
