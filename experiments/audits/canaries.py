"""Builds a run with canaries, for an audit: the run as built, but for them.

A run with m canaries has m examples more, at indices num_examples and up. Each
is in or out by a fair coin; the run's own sampler draws them, and one that is
out is then dropped. With k copies of each there are m k examples more, and a
coin is thrown for all copies of a canary at once: what is audited is then the
epsilon of k examples. Noise multiplier, sampling probability and steps stay, so
epsilon is the config's own; the expected batch size grows with the examples.

Invariant: an audit shares no random number with a run of the same seed, for its
scores tell of the noise.
"""

import dataclasses
import math

import ml_collections

import accounting
from experiments.audits import canary_kinds
from experiments.plan import experiment as experiment_lib
from experiments.plan import not_private
from jax_privacy import auditing, root_key

KINDS = tuple(canary_kinds.PLANT_FNS)
# Fewer would all be in, or all out, more often than once in 500,000 audits.
MIN_CANARIES = 20
# Of more, accounting takes long, and claims nothing.
MAX_COPIES = 1000


def add_to_config(
    config: ml_collections.ConfigDict,
    *,
    canary: str,
    num_canaries: int,
    num_copies: int = 1,
) -> ml_collections.ConfigDict:
  """Returns the config of an audit: a copy with a section "audit".

  That section marks its folder as no run's. It is not in
  `configs.common.base`, so that no run has canaries by a flag.

  Args:
    config: Config of the run to audit.
    canary: Name of the kind of canary; see `canary_kinds`.
    num_canaries: Number of canaries.
    num_copies: Number of examples that each is.

  Raises:
    ValueError: If there are several copies of canaries that are no examples, or
      more than `MAX_COPIES`.
  """
  if not 1 <= num_copies <= MAX_COPIES:
    raise ValueError(
        f"num_copies must be in [1, {MAX_COPIES}], got {num_copies}."
    )
  if num_copies != 1 and canary not in canary_kinds.COPIED:
    raise ValueError(
        "num_copies must be 1 for canaries other than"
        f" {', '.join(canary_kinds.COPIED)}, got {num_copies}."
    )
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.audit = {"canary": canary, "num_canaries": num_canaries}
    if num_copies != 1:
      config.audit.num_copies = num_copies
  return config.lock()


def build(
    config: ml_collections.ConfigDict,
    *,
    run_key: root_key.RootKey | None = None,
) -> experiment_lib.Experiment:
  """Builds a run with canaries.

  Args:
    config: Config, as `add_to_config` returns it.
    run_key: Randomness of an audit to go on with; None to make it of the seed.

  Returns:
    The run, with canaries.

  Raises:
    ValueError: If a field breaks its rule, or the run is one that canaries
      cannot audit.
  """
  if config.dp.grid_scale is not None:
    raise ValueError(
        "dp.grid_scale must be None to be audited (canaries are floats, which"
        f" cannot join a sum of whole steps), got {config.dp.grid_scale}."
    )
  not_private.refuse(config.dp.enabled, "be audited")
  if run_key is None:
    run_key = experiment_lib.make_run_key(config.seed).child("audit")
  base = experiment_lib.build(config, run_key=run_key)
  audit = config.audit
  _check(base.mechanism, audit)
  membership = auditing.throw_coins(
      audit.num_canaries,
      num_examples=base.mechanism.num_examples,
      seed=run_key.seed("coins"),
  )
  num_copies = audit.get("num_copies", 1)
  epsilon_of_copies(base.mechanism, num_copies, delta=config.dp.delta)
  mechanism = dataclasses.replace(
      base.mechanism,
      num_examples=membership.of_copies(num_copies).total_examples,
  )
  base = dataclasses.replace(base, mechanism=mechanism)
  return canary_kinds.PLANT_FNS[audit.canary](base, membership)


def epsilon_of_copies(
    mechanism: accounting.Mechanism, num_copies: int, *, delta: float
) -> float | None:
  """Returns what is claimed of several examples together; None of one.

  Args:
    mechanism: Mechanism of the run.
    num_copies: Number of the examples.
    delta: Delta of the claim.

  Raises:
    ValueError: If nothing is claimed of that number of examples together.
  """
  if num_copies == 1:
    return None
  value = accounting.user_epsilon(
      mechanism, examples_per_user=num_copies, delta=delta
  )
  if not math.isfinite(value):
    raise ValueError(
        "num_copies must be few enough that epsilon is finite for all of them,"
        f" got {num_copies}."
    )
  return value


def _check(mechanism: accounting.Mechanism, audit) -> None:
  if audit.canary not in KINDS:
    raise ValueError(f"canary must be one of {KINDS}, got {audit.canary!r}.")
  if audit.num_canaries < MIN_CANARIES:
    raise ValueError(
        f"num_canaries must be at least {MIN_CANARIES}, got"
        f" {audit.num_canaries}."
    )
  if not mechanism.sampler.independent:
    raise ValueError(
        "dp.sampling must be 'poisson' to be audited (where a batch has a size"
        " to keep, a canary that is out still takes a place), got"
        f" {mechanism.sampling!r}."
    )
  if mechanism.batch_size_schedule:
    raise ValueError(
        "train.batch_size_schedule must be () to be audited (a score is the"
        " ratio of two likelihoods at one sampling probability), got"
        f" {mechanism.batch_size_schedule}."
    )
  if mechanism.neighboring_relation == "replace_one":
    raise ValueError(
        "dp.neighboring_relation must be 'add_or_remove_one' or"
        " 'replace_special' to be audited (a canary is in or out), got"
        " 'replace_one'."
    )
