"""Runs in the words of Opacus, TensorFlow Privacy and jax-privacy.

Invariant: each word means here what it means there, and a word that is not
known, or says what a flag says too, is refused by name.

>>> values("opacus", "noise_multiplier=1.1,sample_rate=0.0042,steps=2380")
{'noise_multiplier': 1.1, 'sampling_prob': 0.0042, 'num_steps': 2380}
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from accounting import _validate
from accounting.budget import whole


class Word(NamedTuple):
  """A word of another library.

  Attributes:
    flag: Name of the flag here, with underscores.
    parse: Function of its text.
  """

  flag: str
  parse: Callable[[str], Any]


_MICROBATCHES = "used_microbatching"


def _yes_or_no(text: str) -> bool:
  if text not in ("True", "False"):
    raise ValueError(text)
  return text == "True"


_NOISE = {"noise_multiplier": Word("noise_multiplier", float)}
_DELTA = {"delta": Word("delta", float)}
_EXAMPLES = Word("num_examples", whole.parse)
_BATCH = Word("batch_size", float)
_STEPS = Word("num_steps", whole.parse)
_EPOCHS = Word("epochs", float)
# Opacus: `RDPAccountant.step(noise_multiplier=, sample_rate=)`, its steps,
# and `make_private_with_epsilon(target_delta=, epochs=)`. TensorFlow Privacy:
# `compute_dp_sgd_privacy_statement`, and the older `compute_dp_sgd_privacy`.
# jax-privacy: its examples' `num_samples`, `batch_size` and `num_updates`, and
# `iterations` of its calibration.
LIBRARIES: dict[str, dict[str, Word]] = {
    "opacus": _NOISE
    | _DELTA
    | {
        "sample_rate": Word("sampling_prob", float),
        "steps": _STEPS,
        "num_steps": _STEPS,
        "epochs": _EPOCHS,
        "target_delta": Word("delta", float),
    },
    "tf-privacy": _NOISE
    | _DELTA
    | {
        "number_of_examples": _EXAMPLES,
        "n": _EXAMPLES,
        "N": _EXAMPLES,
        "batch_size": _BATCH,
        "num_epochs": _EPOCHS,
        "epochs": _EPOCHS,
        _MICROBATCHES: Word(_MICROBATCHES, _yes_or_no),
    },
    "jax-privacy": _NOISE
    | _DELTA
    | {
        "num_samples": _EXAMPLES,
        "num_examples": _EXAMPLES,
        "batch_size": _BATCH,
        "expected_batch_size": _BATCH,
        "sampling_prob": Word("sampling_prob", float),
        "num_updates": _STEPS,
        "iterations": _STEPS,
        "num_steps": _STEPS,
    },
}


def values(library: str, text: str) -> dict[str, Any]:
  """Returns the values of flags that a text says.

  Args:
    library: Name of the library.
    text: Pairs such as "noise_multiplier=1.1,steps=100".

  Raises:
    ValueError: If a word is unknown, is said twice, or its value is no number.
  """
  flag, known = f"--from-{library}", LIBRARIES[library]
  found: dict[str, Any] = {}
  for pair in text.split(","):
    name, equals, value = pair.strip().partition("=")
    if not equals or name not in known:
      rule = f"pairs such as noise_multiplier=1.1, of {', '.join(known)}"
      _validate.fail(flag, rule, pair)
    word = known[name]
    if word.flag in found:
      _validate.fail(flag, f"of {name} once", text)
    try:
      found[word.flag] = word.parse(value)
    except ValueError:
      rule = "True or False" if name == _MICROBATCHES else "a number"
      _validate.fail(f"{name} of {flag}", rule, value)
  if found.pop(_MICROBATCHES, False):
    if "noise_multiplier" not in found:
      rule = f"with noise_multiplier, where {_MICROBATCHES} is True"
      _validate.fail(flag, rule, text)
    # An example moves the sum of its microbatch by two clip norms.
    found["noise_multiplier"] /= 2
  return found


def add(group) -> None:
  """Adds a flag for each library.

  Args:
    group: Group of arguments of a parser.
  """
  for library, words in LIBRARIES.items():
    some = ",".join(f"{name}=..." for name in list(words)[:3])
    group.add_argument(
        f"--from-{library}",
        metavar="WORD=VALUE,...",
        help=f"the run in that library's words: {some}",
    )


def apply(arguments: argparse.Namespace) -> None:
  """Sets the flags that a library's words say.

  Args:
    arguments: Parsed command line, which is changed.

  Raises:
    ValueError: If a flag is given too, or the command has none of the name.
  """
  for library in LIBRARIES:
    text = getattr(arguments, f"from_{library.replace('-', '_')}", None)
    for name, value in (values(library, text) if text else {}).items():
      flag = f"--{name.replace('_', '-')}"
      if not hasattr(arguments, name):
        rule = f"without {name}, which {arguments.command} has no use for"
        _validate.fail(f"--from-{library}", rule, text)
      if getattr(arguments, name) is not None:
        _validate.fail(flag, f"given once, not with --from-{library}", value)
      setattr(arguments, name, value)
