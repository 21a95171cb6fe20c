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

_OTHERS = {
    "noising_coef": "coefficients of banded_inverse noise, the first 1",
    "buf_decay": "decays of the buffers of blt noise",
    "output_scale": "scales of the buffers of blt noise",
}


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
  for flag, meaning in _OTHERS.items():
    group.add_argument(
        f"--{flag.replace('_', '-')}",
        type=_numbers,
        metavar="C,C,...",
        help=meaning,
    )


def fields(arguments: argparse.Namespace) -> dict[str, Any]:
  """Returns the fields of a mechanism that the flags say.

  Args:
    arguments: Parsed arguments.
  """
  options = {
      name: getattr(arguments, name)
      for name in ("strategy_coef", *_OTHERS)
      if getattr(arguments, name) is not None
  }
  return {"noise": arguments.noise, "noise_options": options}


def _numbers(text: str) -> list[float]:
  """Reads numbers that commas divide."""
  return [float(each) for each in text.split(",")]
