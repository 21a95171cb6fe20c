"""Checks the record of an audit, and compares it with the claim it audited.

Invariant: an audit is let in only if it is one of the same run but for the
canaries, its claim can be computed again, and none of its bounds contradicts
the claim. The bounds themselves are as stated: no one can compute them again
without the scores, which are private.

>>> _bound("one_run", 2.5), _bound("one_run", None)
(2.5, inf)
"""

import dataclasses
import math
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

from accounting import _validate, claims, statement, users
from accounting.budget import records
from accounting.mechanism import Mechanism

# The bounds that `experiments.audit` makes, and what each assumes.
METHODS = {
    "one_run": "fair coins",
    "one_run_fdp": "fair coins, a curve like a Gaussian's",
    "clopper_pearson": "independent scores",
    "from_gdp": "independent scores, such a curve",
    "mean_difference": "independent normal scores, such a curve",
}
CANARIES = ("dirac", "random_direction", "clipped", "input", "text")
# As `experiments.audit` has it: accounting for more takes long.
MAX_COPIES = 1000
# What an audit's config may differ in from the run's.
_FREE = ("audit", "seed", "log_every", "save_every")
# What must be as in the run's summary, besides the mechanism.
_SHARED = (
    "delta",
    "accountant",
    "l2_clip_norm",
    "generator",
    "grid_scale",
    "name",
)
# What older audits do not say, and what it was for them.
_SINCE = {"batch_size_schedule": [], "sampling_options": {}}
_SINCE |= {"noise": "independent", "noise_options": {}}
_UNIT = {"unit": records.EXAMPLE, "max_rows_per_unit": None}
_SINCE |= {"private": True, **_UNIT}
_SINCE |= {"num_copies": 1, "epsilon_of_copies": None, "exposure": None}
_MEANS = ("included_mean", "excluded_mean", "included_most")
_MECHANISM_KEYS = tuple(f.name for f in dataclasses.fields(Mechanism))
_KEYS = (
    *(*_MECHANISM_KEYS, "epsilon", "epsilon_target", "delta", "accountant"),
    *("expected_batch_size", "l2_clip_norm", "generator", "grid_scale"),
    *("status", "name", "private", *_UNIT),
    *("canary", "num_canaries", "confidence", "bounds", "bounds_jointly"),
    *("num_copies", "epsilon_of_copies", "exposure"),
    *("contradicts_claim", "train_seconds", "audit_seconds"),
    *("seed", "versions"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
  """An audit that does not contradict its claim.

  Attributes:
    epsilon: The claim that was audited: of as many examples as a canary is.
    canary: Kind of canary.
    num_canaries: Number of canaries.
    num_copies: Number of examples that each canary is.
    exposure: Exposure of strings in bits, by what it is of; None without them.
    confidence: Confidence of each bound by itself.
    bounds: Lower bounds on epsilon by method, of those whose assumptions the
      canaries meet.
  """

  epsilon: float
  canary: str
  num_canaries: int
  num_copies: int
  exposure: Mapping[str, float] | None
  confidence: float
  bounds: Mapping[str, float]

  @property
  def warnings(self) -> tuple[str, ...]:
    """What must be said with the claim."""
    above = [k for k, bound in self.bounds.items() if bound > self.epsilon]
    if not above:
      return ()
    return (
        f"an audit's bound by {', '.join(above)} is above the claimed epsilon: "
        "by itself more than its confidence allows, but not for all bounds at "
        "once. Audit again with another seed.",
    )

  def facts(self) -> dict[str, Any]:
    """Returns the numbers, as values that JSON can hold."""
    return dataclasses.asdict(self)

  def section(self) -> statement.Section:
    """Returns the part of a statement that shows them with the claim."""
    percent = claims.exact_percent(self.confidence)
    texts = (
        "The same run was trained with canaries, and attacked: from the "
        f"{self.num_canaries} canaries ({self.canary}), each in or out by the "
        "toss of a coin, lower bounds on epsilon were measured. They hold with "
        f"confidence {percent} each. They can refute a claim and prove none: "
        "a low one may mean a weak attack.",
        "Read from the audit's record: its settings are the run's, and its "
        "claim was recomputed. The bounds are as stated.",
    )
    of = f" of {self.num_copies} examples" if self.num_copies > 1 else ""
    rows = [(f"claimed: epsilon{of} at most", claims.at_most(self.epsilon))]
    rows += [
        (
            f"measured: at least, by {name} ({METHODS[name]})",
            claims.at_least(bound),
        )
        for name, bound in self.bounds.items()
    ]
    if self.exposure is not None:
      for key, name in (("included_mean", "in"), ("excluded_mean", "out")):
        bits = f"{self.exposure[key]:.2f}"
        rows.append((f"measured: mean exposure in bits, strings {name}", bits))
    return statement.Section(title="Audit", paragraphs=texts, rows=tuple(rows))


def verify(
    folder: pathlib.Path,
    *,
    workdir: pathlib.Path,
    mechanism: Mechanism,
    summary: Mapping[str, Any],
) -> Audit:
  """Reads and checks the record of an audit of a run.

  Args:
    folder: The audit's folder.
    workdir: The run's folder.
    mechanism: The run.
    summary: Its summary, verified.

  Returns:
    The audit.

  Raises:
    ValueError: If the record is missing, malformed, of another run, disagrees
      with itself, or contradicts the claim.
  """
  record = records.read("audit", folder, "audit.json")
  record: dict[str, Any] = {**_SINCE, **record}
  if record["epsilon_of_copies"] is None and record["num_copies"] == 1:
    record["epsilon_of_copies"] = record.get("epsilon")
  for key in _KEYS:
    if key not in record:
      raise ValueError(f"audit.json must have the key {key!r}, got none.")
  for key in record:
    if key not in _KEYS:
      rule = "have no keys that an audit does not write"
      raise ValueError(f"audit.json must {rule}, got {records.short(key)}.")
  _check_values(record)
  _check_same_run(record, mechanism, summary)
  _check_same_config(folder, workdir)
  bounds = _bounds("bounds", record["bounds"])
  jointly = _bounds("bounds_jointly", record["bounds_jointly"])
  _check_bounds(record, bounds, jointly)
  return Audit(
      epsilon=float(record["epsilon_of_copies"]),
      canary=record["canary"],
      num_canaries=record["num_canaries"],
      num_copies=record["num_copies"],
      exposure=record["exposure"],
      confidence=record["confidence"],
      bounds={name: bounds[name] for name in jointly},
  )


def _check_values(record: Mapping[str, Any]) -> None:
  """Checks every value by its own rule, but for the claim's and the bounds'."""
  if (status := record["status"]) != "finished":
    _validate.fail("status", "'finished'", records.short(status))
  if record["private"] is not True:
    _validate.fail("private", "true", records.short(record["private"]))
  records.check_unit(record)
  _validate.choice("canary", record["canary"], options=CANARIES)
  for key in ("num_canaries", "num_copies"):
    _validate.integer(key, record[key])
  if record["num_copies"] > MAX_COPIES:
    _validate.fail("num_copies", f"at most {MAX_COPIES}", record["num_copies"])
  _check_exposure(record["exposure"])
  _validate.real("confidence", record["confidence"], low=0, high=1)
  for key in ("l2_clip_norm", "expected_batch_size"):
    _validate.real(key, record[key], low=0)
  for key in ("train_seconds", "audit_seconds"):
    _validate.real(key, record[key], low=0, low_ok=True)
  if not isinstance(record["contradicts_claim"], bool):
    got = records.short(record["contradicts_claim"])
    _validate.fail("contradicts_claim", "true or false", got)
  records.check_origin(record)


def _check_exposure(exposure: Any) -> None:
  if exposure is None:
    return
  keys = ("num_references", *_MEANS)
  if not isinstance(exposure, dict) or set(exposure) != set(keys):
    rule = f"null, or an object of {', '.join(keys)}"
    _validate.fail("exposure", rule, records.short(exposure))
  number = _validate.integer("num_references", exposure["num_references"])
  most = math.log2(min(number, 2**53) + 1)
  for key in _MEANS:
    _validate.real(key, exposure[key], low=0, low_ok=True, high=most + 1e-9)


def _check_same_run(record, mechanism, summary) -> None:
  """Checks that the claim is the run's, but for the canaries' number."""
  audited = Mechanism.from_dict({k: record[k] for k in _MECHANISM_KEYS})
  records.check_epsilon(record, audited)
  records.check_agree(
      "expected_batch_size",
      record["expected_batch_size"],
      audited.expected_batch_size,
      1e-9,
  )
  ours = audited.to_dict() | {k: record[k] for k in (*_SHARED, *_UNIT)}
  ours["num_examples"] -= record["num_canaries"] * record["num_copies"]
  theirs = mechanism.to_dict() | {k: summary.get(k) for k in _SHARED}
  theirs |= {k: summary.get(k, default) for k, default in _UNIT.items()}
  for key, value in theirs.items():
    if ours[key] != value:
      raise ValueError(
          f"audit must be of the same run, got {key} "
          f"{records.short(ours[key])} for the run's {records.short(value)}."
      )
  _check_copies(record, audited)


def _check_copies(record, audited) -> None:
  """Checks the claim that bounds are compared with: of a canary's copies."""
  count, value = record["num_copies"], record["epsilon"]
  if count > 1:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # Of an epsilon that says little.
      value = users.user_epsilon(
          audited, examples_per_user=count, delta=record["delta"]
      )
  stated = record["epsilon_of_copies"]
  stated = _validate.real("epsilon_of_copies", stated, low=0, low_ok=True)
  records.check_agree("epsilon_of_copies", stated, value, records.TOLERANCE)


def _check_same_config(folder: pathlib.Path, workdir: pathlib.Path) -> None:
  ours, theirs = (
      records.read(name, path, "config.json")
      for name, path in (("audit", folder), ("workdir", workdir))
  )
  for key in sorted(ours.keys() | theirs.keys()):
    if key not in _FREE and ours.get(key) != theirs.get(key):
      raise ValueError(
          "audit must be of the same config, got another "
          f"{records.short(key)}."
      )


def _check_bounds(record, bounds, jointly) -> None:
  """Checks bounds against each other, and against the claim."""
  if set(bounds) != set(METHODS):
    _validate.fail("bounds", "one by each method", sorted(bounds))
  if not jointly:
    _validate.fail("bounds_jointly", "one at least", jointly)
  for name, bound in jointly.items():
    if bound > bounds[name]:
      rule = f"at most the {name} bound by itself, {bounds[name]!r}"
      _validate.fail("bounds_jointly", rule, bound)
  epsilon = record["epsilon_of_copies"]
  name = max(jointly, key=jointly.get)
  contradicts = jointly[name] > epsilon
  if record["contradicts_claim"] is not contradicts:
    rule = f"{contradicts}, as its bounds say"
    _validate.fail("contradicts_claim", rule, record["contradicts_claim"])
  if contradicts:
    raise ValueError(
        "NO STATEMENT: the audit contradicts the claim. Epsilon "
        f"{claims.at_most(epsilon)} is claimed, and is at least "
        f"{claims.at_least(jointly[name])} by {name}, with confidence "
        f"{claims.exact_percent(record['confidence'])} for all bounds at once."
    )


def _bounds(key: str, values: Any) -> dict[str, float]:
  """Returns bounds by method, in the order of `METHODS`."""
  if not isinstance(values, dict) or not set(values) <= set(METHODS):
    rule = f"an object of some of {', '.join(METHODS)}"
    _validate.fail(key, rule, records.short(values))
  return {k: _bound(k, values[k]) for k in METHODS if k in values}


def _bound(name: str, value: Any) -> float:
  """Returns one bound; null means infinity."""
  if value is None:
    return math.inf
  return _validate.real(name, value, low=0, low_ok=True)
