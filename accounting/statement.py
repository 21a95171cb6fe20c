"""What a run may claim: the same facts as data, and as sentences.

Covers the reporting list of "How to DP-fy ML" (Ponomareva et al. 2023,
2303.00654) and the components that NIST SP 800-226 asks to evaluate.
Invariant: every number in a sentence is one of `Statement.facts`, and an
epsilon is rounded up wherever it is shown, so that the claim holds as printed.

>>> from accounting.mechanism import Mechanism
>>> run = Mechanism.for_batch_size(
...     expected_batch_size=4096, num_examples=50_000,
...     noise_multiplier=3.0, num_steps=1000)
>>> made = make_statement(run, delta=1e-5)
>>> made.sections[0].paragraphs[0][:59]
'The run is (3.883, 1e-05)-differentially private under the '
"""

import dataclasses
import importlib.metadata
import math
import platform
import warnings
from collections.abc import Sequence
from typing import Any

from accounting import (
    _html,
    _sampling_words,
    _validate,
    _words,
    accountants,
    claims,
    samplers,
    users,
)
from accounting.composition import (
    AnyMechanism,
    Composition,
    mechanisms_of,
)
from accounting.disjoint import Disjoint
from accounting.epsilons import check_delta, check_supported, evaluate, vacuous
from accounting.mechanism import NEIGHBORING_RELATIONS, Mechanism
from accounting.mechanisms import Basic
from accounting.profile import PrivacyProfile, privacy_profile

BATCHES = ("poisson", "shuffled", "fixed", "random_allocation", "balls_in_bins")
BATCHES += ("cyclic_poisson",)
# Releases of a composition whose epsilon alone is computed, in their order.
_MAX_ALONE = 50
GENERATORS = tuple(name for name in _words.GENERATORS if name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
  """A heading, its paragraphs, and rows of a table where there is one.

  Attributes:
    title: Heading.
    paragraphs: Texts below it.
    rows: Pairs of a name and a value; () where there is no table.
  """

  title: str
  paragraphs: tuple[str, ...]
  rows: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statement:
  """What may be claimed of a run.

  Attributes:
    facts: Every number and choice, as values that JSON can hold.
    sections: The same in words.
    profile: The whole guarantee, or None where PLD has no analysis.
  """

  facts: dict[str, Any]
  sections: tuple[Section, ...]
  profile: PrivacyProfile | None

  def _repr_html_(self) -> str:
    """Returns what a notebook shows."""
    return _html.statement(self)

  def plot(self) -> Any:
    """Returns a figure of Matplotlib: delta at each epsilon, the best attack.

    Raises:
      ValueError: If PLD has no analysis of the run, and so no profile.
      ImportError: If Matplotlib is missing: the extra is "plots".
    """
    if self.profile is None:
      _validate.fail("profile", "known, to be plotted", None)
    return self.profile.plot()


def make_statement(
    mechanism: AnyMechanism,
    *,
    delta: float,
    accountant: str = "pld",
    batches: str | None = None,
    unit: str | None = None,
    max_rows_per_unit: int | None = None,
    generator: str | None = None,
    grid_scale: int | None = None,
    examples_per_user: Sequence[int] = (),
    more_warnings: tuple[str, ...] = (),
) -> Statement:
  """States what a run may claim.

  Args:
    mechanism: Description of what the run releases, or a `Composition`.
    delta: Delta of the guarantee, in (0, 1).
    accountant: Name of the accountant: "pld" or "rdp".
    batches: Name of how the program really draws batches, one of `BATCHES`:
      "poisson", "shuffled", "fixed"...; None if not known.
    unit: Name of what one example is: "image", "patient record"; None for
      "example", or for what the composition states.
    max_rows_per_unit: Most rows of a unit that are used, if all rows of a unit
      are one example (user-level training); None if an example is one row.
    generator: Name of what draws noise and batches: "threefry", "chacha20";
      None if not known.
    grid_scale: Steps in the clip norm, if sums and noise were rounded to a
      grid; None for floating-point numbers.
    examples_per_user: Numbers of examples of a person; the statement then has
      the epsilon of each, with sampling counted on and without.
    more_warnings: Texts of other warnings, which the caller alone knows.

  Returns:
    The statement.

  Raises:
    ValueError: If an argument breaks its rule, see `accounting.epsilon`, a
      choice is none of its options, or the composition states another unit.
  """
  if isinstance(mechanism, Basic | Disjoint):
    mechanism = Composition([mechanism])
  delta = _check(mechanism, delta, accountant, batches)
  if generator is not None:
    _validate.choice("generator", generator, options=GENERATORS)
  unit = _unit(mechanism, unit)
  if max_rows_per_unit is not None:
    _validate.integer("max_rows_per_unit", max_rows_per_unit)
  if grid_scale is not None:
    _validate.integer("grid_scale", grid_scale)
  found = evaluate(mechanism, delta=delta, accountant=accountant)
  value, notes = found.epsilon, found.notes
  profile = _profile(mechanism)
  facts = {
      "epsilon": value,
      "delta": delta,
      "accountant": found.accountant,
      **_mechanism_facts(mechanism, delta, accountant),
      "expected_epochs": mechanism.expected_epochs,
      "batches": batches,
      "unit": unit,
      "max_rows_per_unit": max_rows_per_unit,
      "generator": generator,
      "grid_scale": grid_scale,
      "epsilon_by_relation": _by_relation(mechanism, delta, accountant),
      "epsilon_deterministic": deterministic_epsilon(mechanism, delta=delta),
      **attacked(mechanism, delta=delta),
      "versions": versions(),
      "epsilon_by_examples_per_user": _by_count(
          mechanism, delta, examples_per_user
      ),
  }
  if profile is not None:
    facts |= profile_facts(profile)
  facts["warnings"] = [
      *dict.fromkeys(
          [str(n) for n in notes + vacuous(value)]
          + delta_warnings(mechanism, delta)
          + _all_batch_warnings(facts)
          + list(more_warnings)
      )
  ]
  return Statement(
      facts=facts, sections=_words.sections(facts, Section), profile=profile
  )


def _unit(mechanism: AnyMechanism, unit: str | None) -> str:
  stated = mechanism.unit if isinstance(mechanism, Composition) else None
  if unit is None:
    return stated or "example"
  if stated is not None and unit != stated:
    _validate.fail("unit", f"{stated!r}, as the composition states", unit)
  return _validate.unit("unit", unit)


def _mechanism_facts(mechanism: AnyMechanism, delta: float, accountant: str):
  """Returns the fields of a mechanism, or of each release in a composition."""
  if not isinstance(mechanism, Composition):
    return mechanism.to_dict()
  alone: list[float | None] = [
      evaluate(Composition([each]), delta=delta, accountant=accountant).epsilon
      for each in mechanism.releases[:_MAX_ALONE]
  ]
  alone += [None] * (len(mechanism.releases) - len(alone))
  return {
      "neighboring_relation": mechanism.neighboring_relation,
      "num_examples": mechanism.num_examples,
      "num_steps": mechanism.num_steps,
      "releases": [
          fields | {"epsilon": value}
          for fields, value in zip(_listed(mechanism), alone, strict=True)
      ],
  }


def _listed(composition: Composition) -> list[dict[str, Any]]:
  """Returns each release's fields and words; of disjoint data, each part's."""
  found = []
  for fields, (each, _) in zip(
      composition.to_dict()["releases"], composition.releases, strict=True
  ):
    fields |= {"words": getattr(each, "words", None)}
    if isinstance(each, Disjoint):
      fields["parts"] = {name: _listed(part) for name, part in each.of}
    found.append(fields)
  return found


def _check(mechanism, delta, accountant, batches) -> float:
  check_supported(mechanism, accountant=accountant)
  if batches is not None:
    _validate.choice("batches", batches, options=BATCHES)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Said in the statement itself.
    return check_delta(mechanism, delta)


def delta_warnings(mechanism: AnyMechanism, delta: float) -> list[str]:
  """Returns the warnings of `check_delta` about this delta.

  Args:
    mechanism: Mechanism of the run.
    delta: Delta of the guarantee.
  """
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    check_delta(mechanism, delta)
  return [str(w.message) for w in caught]


def batch_warnings(facts: dict[str, Any]) -> list[str]:
  """Returns warnings where batches are not drawn as the accounting assumes.

  Args:
    facts: Values of "sampling", "batches", "neighboring_relation" and
      "epsilon_deterministic" (None if there is no delta to compute it at);
      and those of `attacked`.

  Returns:
    Warnings, none of them if all is well.
  """
  sampler = samplers.get(facts["sampling"])
  amplified, drawn, found = sampler.amplifies, facts["batches"], []
  if amplified and drawn not in (None, sampler.batches):
    text = (
        f"batches are {drawn.replace('_', ' ')}, but accounted for as "
        f"{facts['sampling'].replace('_', ' ')}: that is not proven."
    )
    if facts["epsilon_deterministic"] is not None:
      bound = claims.at_most(facts["epsilon_deterministic"])
      text += f" Without counting on sampling, epsilon is {bound}."
    found.append(text)
  if not amplified and facts["neighboring_relation"] == "add_or_remove_one":
    found.append(
        "deterministic batches and add_or_remove_one: this holds if the other "
        "examples stay in their batches when one leaves, as with a fixed slot "
        "for each. If batches close up, use replace_one."
    )
  if (least := facts.get("epsilon_at_least")) is not None:
    found.append(
        f"the epsilon of Poisson batches is not proven for "
        f"{facts['sampling']}; an attack proves that epsilon is at least "
        f"{claims.at_least(least)}."
    )
  return found


def _all_batch_warnings(facts: dict[str, Any]) -> list[str]:
  """As `batch_warnings`, of each release where there are several."""
  if "releases" not in facts:
    return batch_warnings(facts)
  found = [batch_warnings(run) for run in _sampling_words.runs(facts)]
  return [text for texts in found for text in texts]


def attacked(mechanism: AnyMechanism, *, delta: float) -> dict[str, float]:
  """Returns the epsilon that an attack proves; nothing where there is none.

  Args:
    mechanism: Any run, or a composition.
    delta: A checked delta.
  """
  if not isinstance(mechanism, Mechanism):
    return {}
  least = mechanism.sampler.lower_bound(mechanism, delta=delta)
  return {} if least is None else {"epsilon_at_least": least}


def deterministic_epsilon(mechanism: AnyMechanism, *, delta: float) -> float:
  """Returns epsilon when nothing is counted on from sampling.

  Args:
    mechanism: Any run, or a composition.
    delta: A checked delta.

  Returns:
    Epsilon by PLD (by RDP at a delta below 1e-30) of batches each example
    is in at most once in floor(1 / sampling_prob) steps, in each phase.
  """
  return evaluate(
      mechanism.unsampled(), delta=delta, accountant=accountants.TIGHTEST
  ).epsilon


def profile_facts(profile: PrivacyProfile) -> dict[str, Any]:
  """Returns a profile's numbers, but for the curve itself.

  Args:
    profile: Profile of the run.
  """
  return {
      "gdp_mu": profile.gdp_mu,
      "gdp_regret": profile.gdp_regret,
      "advantage": profile.advantage,
      "bayes_success": profile.bayes_success,
      "tpr_at_fpr": {claims.exact(k): v for k, v in profile.tpr_at_fpr.items()},
      "reconstruction_prior": profile.reconstruction_prior,
      "reconstruction_bound": profile.reconstruction_bound,
  }


def _profile(mechanism: AnyMechanism) -> PrivacyProfile | None:
  tightest = accountants.get(accountants.TIGHTEST)
  if not all(tightest.supports(each) for each in mechanisms_of(mechanism)):
    return None
  return privacy_profile(mechanism)


def _by_relation(mechanism: AnyMechanism, delta: float, accountant: str):
  """Epsilon under each relation: by the accountant, or else by PLD."""
  found = {}
  for relation in NEIGHBORING_RELATIONS:
    found[relation] = None
    try:
      run = mechanism.with_neighboring_relation(relation)
    except ValueError:  # What a release changes is stated for one alone.
      continue
    for name in dict.fromkeys((accountant, accountants.TIGHTEST)):
      try:
        check_supported(run, accountant=name)
        value = evaluate(run, delta=delta, accountant=name).epsilon
      except ValueError:
        continue
      found[relation] = value if math.isfinite(value) else None
      break
  return found


def _by_count(mechanism: AnyMechanism, delta: float, counts: Sequence[int]):
  """Epsilon of people with several examples, with and without sampling."""
  found = {}
  checked = [
      users.check_count(count, accountant=accountants.TIGHTEST)
      for count in counts
  ]
  for count in dict.fromkeys((1, *checked) if checked else ()):
    sampled, plain = (
        evaluate(
            users.grouped(each, count),
            delta=delta,
            accountant=accountants.TIGHTEST,
        ).epsilon
        for each in (mechanism, mechanism.unsampled())
    )
    found[str(count)] = {"epsilon": sampled, "without_sampling": plain}
  return found


def versions() -> dict[str, str]:
  """Returns the versions that the numbers were computed with."""
  names = ("dp-accounting", "numpy", "scipy")
  found = {name: importlib.metadata.version(name) for name in names}
  return {"python": platform.python_version(), **found}
