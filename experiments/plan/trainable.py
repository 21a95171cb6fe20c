r"""Which parameters a run trains, and which stay as they are.

The invariant: parameters are split before anything else happens, so that a
frozen one has no gradient, no share of the clip norm, no noise, no weight
decay, no optimiser state and no average: its bits stay what they were.

A path is a parameter's keys with dots between. Of the models here:

  linear\..*                             the head alone (tanh CNN: linear_1)
  (?!(.*\.)?norm(_\d+)?\.).*            all but the norms' scales and biases
  .*\.(bias|gain|scale)                  biases, gains and scales alone

>>> params = {"norm": {"scale": 1.0}, "linear": {"kernel": 2.0, "bias": 3.0}}
>>> Partition(r"linear\..*").split(params)
({'linear': {'kernel': 2.0, 'bias': 3.0}}, {'norm': {'scale': 1.0}})
>>> sorted(Partition(r"(?!(.*\.)?norm(_\d+)?\.).*").split(params)[0])
['linear']
"""

import dataclasses
import re
from typing import Any

import ml_collections
from flax import traverse_util

_MAX_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Partition:
  """Splits parameters into those that are trained and those that are not.

  Attributes:
    pattern: A regular expression that the whole path of what is trained
      matches; None for all parameters.
  """

  pattern: str | None

  def split(self, params: Any) -> tuple[Any, Any]:
    """Returns (trained, frozen), nested dicts of the leaves of each kind.

    Args:
      params: Nested dict of all parameters.
    """
    if self.pattern is None:
      return params, {}
    leaves = traverse_util.flatten_dict(params)
    is_trained = {path: self._matches(path) for path in leaves}
    trained, frozen = (
        {
            path: leaf
            for path, leaf in leaves.items()
            if is_trained[path] == kind
        }
        for kind in (True, False)
    )
    return tuple(map(traverse_util.unflatten_dict, (trained, frozen)))

  def also(self, name: str) -> "Partition":
    """Returns one that trains the parameter `name` as well.

    Args:
      name: Dotted name of the parameter.
    """
    if self.pattern is None:
      return self
    return Partition(f"(?:{self.pattern})|{re.escape(name)}")

  def _matches(self, path) -> bool:
    return re.fullmatch(self.pattern, ".".join(path)) is not None


def merge(trained: Any, others: Any) -> Any:
  """Returns `others` with what is trained put in.

  Args:
    trained: Trained parameters, as `Partition.split` returns them.
    others: The frozen parameters, or all.
  """
  if not others:
    return trained
  flat = map(traverse_util.flatten_dict, (others, trained))
  others, trained = flat
  return traverse_util.unflatten_dict(others | trained)


def build(train_config: ml_collections.ConfigDict, params: Any) -> Partition:
  """Returns the partition of train.train_only.

  Args:
    train_config: A config's section.
    params: Parameters of its model.

  Raises:
    ValueError: If it is no regular expression, or no parameter's path matches.
  """
  pattern = train_config.train_only
  try:
    trained, _ = Partition(pattern).split(params)
  except re.error as error:
    raise ValueError(
        f"train.train_only must be a regular expression, got {pattern!r:.100}"
        f" ({error})."
    ) from error
  if not trained:
    paths = [".".join(path) for path in traverse_util.flatten_dict(params)]
    some = ", ".join(paths[:: max(1, len(paths) // _MAX_SHOWN)][:_MAX_SHOWN])
    raise ValueError(
        "train.train_only must match the whole path of some parameter (one of"
        f" {len(paths)}, such as {some}), got {pattern!r:.100}."
    )
  return Partition(pattern)
