"""What a run on the same data has released before: `model.restore.same_data`.

A run that begins with another's parameters on the same data adds to what those
reveal: the guarantees of both compose. The invariant: each step counts that was
planned, of that run and of those that it continued itself: one that was stopped
may go on in its own folder later. Runs that share a seed, and so their noise,
are refused.

>>> check_seed(None, [0]), check_seed(1, [0, None])
(None, None)
>>> check_seed(0, [0])
Traceback (most recent call last):
ValueError: seed must be None, or another than of the run that is continued \
(with one seed both have the same noise), got 0.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import accounting
from accounting import json_object
from experiments.plan import not_private
from jax_privacy import checkpoint

_FIELD = "model.restore.same_data"


def read(path: pathlib.Path, checkpoints: pathlib.Path) -> dict[str, Any]:
  """Returns what a run has released, or may still release.

  Args:
    path: Folder of the run, which is only read.
    checkpoints: Folder of its checkpoints.

  Returns:
    `released`, mechanisms as JSON has them, the earliest first; `seeds`, one
    for each, None for a secret one; the data set's `data_sha256`; and
    `began_with`, what the first of these runs was restored from, or None.

  Raises:
    ValueError: If the folder holds no run, or one without privacy or with
      canaries.
  """
  config = path / "config.json"
  if not config.is_file():
    raise ValueError(
        f"path must be the folder of a run where {_FIELD} is True, got {path},"
        " which has no config.json."
    )
  stored = json_object.read(config, what=str(config))
  if "audit" in stored:
    raise ValueError(f"path must be no audit's folder, got {path}.")
  dp = stored.get("dp")
  not_private.refuse(
      not isinstance(dp, Mapping) or dp.get("enabled", True) is True,
      "be continued",
  )
  with checkpoint.Checkpoints(checkpoints, read_only=True) as found:
    restored = found.restore_latest({})
  facts = {} if restored is None else restored.facts
  if not isinstance(facts.get("mechanism"), Mapping):
    raise ValueError(
        f"path must hold a checkpoint with its run's mechanism, got {path}."
    )
  before = facts.get("restored_from") or {}
  mechanism = accounting.Mechanism.from_dict(facts["mechanism"])
  return {
      "released": [*before.get("released", ()), mechanism.to_dict()],
      "seeds": [*before.get("seeds", ()), stored.get("seed")],
      "data_sha256": facts.get("data_sha256"),
      "began_with": before.get("began_with")
      if "released" in before
      else before or None,
  }


def check_seed(seed: int | None, seeds: Sequence[int | None]) -> None:
  """Refuses a fixed seed that a continued run has used.

  Args:
    seed: Seed of the run, or None.
    seeds: Seeds of the runs that it continues.

  Raises:
    ValueError: If it has.
  """
  if seed is not None and seed in seeds:
    raise ValueError(
        "seed must be None, or another than of the run that is continued (with"
        f" one seed both have the same noise), got {seed}."
    )


def epsilon(
    restored_from: Mapping[str, Any] | None,
    mechanism: accounting.Mechanism,
    *,
    delta: float,
) -> float | None:
  """Returns the epsilon of a run together with all that it continues.

  Args:
    restored_from: Origin of the run; see `restore.initial_params`.
    mechanism: Description of what the run itself releases.
    delta: Delta of the guarantee for all of them, in (0, 1).

  Returns:
    Epsilon, by PLD; None for a run that continues none.

  Raises:
    ValueError: If their guarantees cannot be composed.
  """
  if restored_from is None or "released" not in restored_from:
    return None
  released = map(accounting.Mechanism.from_dict, restored_from["released"])
  composition = accounting.Composition([*released, mechanism])
  return accounting.epsilon(composition, delta=delta)
