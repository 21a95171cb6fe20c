"""What a finished run says of itself: summary.json, and the same on screen."""

import platform
import resource
from collections.abc import Mapping
from typing import Any

import jax

import accounting
from accounting import claims
from experiments.metrics import estimate as estimate_lib
from experiments.plan import (
    averages,
    clipping,
    continued,
    not_private,
    public_files,
    units,
)
from experiments.plan import experiment as experiment_lib
from jax_privacy import checkpoint, draws, models

# What reading a file that is no summary ends with.
_NOT_A_SUMMARY = (
    AttributeError,
    LookupError,
    OverflowError,
    TypeError,
    ValueError,
)
# Of the mechanism, as it writes them; all but the first are there if they are
# not as usual.
_SHAPE = ("batch_size_schedule", "sampling_options", "noise", "noise_options")
# What states a guarantee, and what it rests on.
_GUARANTEE = (
    *("epsilon", "epsilon_target", "delta", "accountant"),
    *("neighboring_relation", "noise_multiplier", "l2_clip_norm"),
    *("generator", "grid_scale"),
)
_PACKAGES = ("flax", "optax", "dp-accounting")


def summarise(
    experiment: experiment_lib.Experiment,
    params: Mapping[str, Any],
    *,
    num_steps: int,
    test_numbers: Mapping[str, Any],
    train_seconds: float,
) -> dict[str, Any]:
  """Returns what summary.json holds.

  Everything in it is public: derived from the mechanism, from the released
  parameters, or from the test split, which the guarantee does not cover.

  Args:
    experiment: The run.
    params: Its last parameters by name; see `averages.by_name`.
    num_steps: Updates done.
    test_numbers: Numbers of the test split; see `evaluation/final.py`.
    train_seconds: Spent in the training loop, compilation included.
  """
  config, mechanism = experiment.config, experiment.mechanism
  files = experiment.task.public_files()
  return {
      "status": "finished",
      "name": config.name,
      "task": config.task.name,
      **_example_is(experiment),
      **privacy(config, mechanism),
      "num_steps": num_steps,
      "num_views": config.augment.num_views,
      "num_parameters": models.num_parameters(params[averages.LAST]),
      "num_trained_parameters": models.num_parameters(
          experiment.partition.split(params[averages.LAST])[0]
      ),
      **test_numbers,
      "eval_params": config.eval.params,
      "train_seconds": train_seconds,
      "examples_per_second": mechanism.expected_epochs
      * mechanism.num_examples
      / train_seconds,
      "peak_memory_bytes": _peak_memory_bytes(),
      "device": jax.devices()[0].device_kind,
      "mesh": config.mesh.to_dict(),
      "params_sha256": checkpoint.tree_sha256(params[averages.LAST]),
      "restored_from": experiment.restored_from,
      **composed(experiment),
      "imported": experiment.imported,
      **({public_files.KEY: files} if files else {}),
      "seed": config.seed,
      "versions": versions(),
  }


def _example_is(experiment) -> dict[str, str]:
  said = experiment.task.example_is()
  # With a unit, all its rows are one example, which the unit's name says.
  is_row = not experiment.config.data.unit
  return {"example_is": said} if said and is_row else {}


def privacy(config: Any, mechanism: accounting.Mechanism) -> dict[str, Any]:
  """Returns the part of the summary that states and explains epsilon.

  Of a run that is not private, whatever would say so is None.

  Args:
    config: Config with the fields of `configs.common.base`.
    mechanism: Mechanism of the run.
  """
  dp = config.dp
  batches = {
      "sampling": mechanism.sampling,
      "sampling_prob": mechanism.sampling_prob,
      "max_batch_size": mechanism.max_batch_size,
      "num_examples": mechanism.num_examples,
      "expected_batch_size": mechanism.expected_batch_size,
      **{k: v for k, v in mechanism.to_dict().items() if k in _SHAPE},
      **units.facts(config.data),
  }
  if not dp.enabled:
    return {
        "private": False,
        not_private.LABEL: not_private.SENTENCE,
        **dict.fromkeys(_GUARANTEE),
        **batches,
    }
  return {
      "private": True,
      "epsilon": accounting.epsilon(
          mechanism, delta=dp.delta, accountant=dp.accountant
      ),
      "epsilon_target": dp.epsilon,
      "delta": dp.delta,
      "accountant": dp.accountant,
      "neighboring_relation": mechanism.neighboring_relation,
      "noise_multiplier": mechanism.noise_multiplier,
      **batches,
      "l2_clip_norm": dp.l2_clip_norm,
      **clipping.facts(dp),
      "generator": "chacha20" if dp.secure_random else "threefry",
      "grid_scale": dp.grid_scale,
  }


def composed(experiment: experiment_lib.Experiment) -> dict[str, float]:
  """Returns the epsilon of a run with all that it continues, if it does.

  Args:
    experiment: Run, as `plan.experiment.build` makes it.
  """
  value = continued.epsilon(
      experiment.restored_from,
      experiment.mechanism,
      delta=experiment.config.dp.delta,
  )
  return {} if value is None else {"epsilon_composed": value}


def show(summary: Mapping[str, Any]) -> None:
  """Prints the result: accuracy, and the guarantee it was reached under.

  Args:
    summary: Values of a summary's keys.

  Raises:
    ValueError: If the summary was read from a file and is not of a run.
  """
  try:
    text = _text(summary)
  except _NOT_A_SUMMARY as error:
    raise ValueError(
        f"summary.json must be of a finished run, got {error!r:.200}."
    ) from error
  print(text)


def _text(summary: Mapping[str, Any]) -> str:
  metric, is_share, found = _headline(summary)
  chosen = summary["eval_params"]
  # JSON has put the names in order of the alphabet.
  names = sorted(found, key=lambda name: name != averages.LAST)
  shown = {name: _shown(found[name], is_share) for name in names}
  each = ", ".join(f"{name} {shown[name]}" for name in names)
  text = (
      f"test {metric} {shown[chosen]} ({chosen} parameters; {each})\n"
      f"{_guarantee(summary)}\n"
      f"{summary['num_parameters']:,} parameters,"
      f" {summary['train_seconds']:.1f} s of training,"
      f" {summary['examples_per_second']:.0f} examples/s"
  )
  if summary["generator"] == "chacha20":
    print("Noise and batches were drawn by a cipher (ChaCha20).")
  if summary["grid_scale"] is not None:
    print(
        f"Sums and noise were exact, on a grid of {summary['grid_scale']} steps"
        " to the clip norm."
    )
  if example_is := summary.get("example_is"):
    text += f"\nAn example is {example_is}."
  if units.of(summary) != units.EXAMPLE:
    text += (
        f"\nAll rows of one {units.of(summary)} were one example. Testing is by"
        " row."
    )
  if (origin := summary.get("restored_from")) is not None:
    text += f"\n{_origin(origin, summary)}"
  if summary["seed"] is not None and _is_private(summary):
    text += (
        f"\nThe seed was fixed ({summary['seed']}): fine for research; a"
        " release of a private model needs --config.seed=None."
    )
  return text


def _origin(origin: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
  """Says what a run's first parameters mean for its guarantee."""
  if "released" in origin:
    text = (
        f"Training went on from {origin['path']}, on the same data. Together"
        f" they are ({claims.at_most(summary['epsilon_composed'])},"
        f" {claims.at_most_short(summary['delta'])})-DP: state this epsilon,"
        " not the last run's own."
    )
    first = origin.get("began_with")
    return text if first is None else f"{text} {_origin(first, summary)}"
  text = (
      f"Training began with the parameters of {origin['path']} (sha256"
      f" {origin['sha256'][:12]}...): the guarantee says nothing of what THEY"
      " were trained on."
  )
  if origin.get("private", True) is not True:
    text += f" They come from a run that was {not_private.LABEL}."
  return text


def _is_private(summary) -> bool:
  return summary.get("private", True) is True


def _guarantee(summary) -> str:
  if not _is_private(summary):
    return not_private.SENTENCE
  return (
      f"({claims.at_most(summary['epsilon'])},"
      f" {claims.at_most_short(summary['delta'])})-DP for"
      f" {summary['neighboring_relation'].replace('_', ' ')}"
      f" {units.of(summary)}, by"
      f" {summary['accountant'].upper()}: {summary['num_steps']} steps, noise"
      f" multiplier {claims.exact(summary['noise_multiplier'])}, sampling"
      f" probability {claims.at_most_short(summary['sampling_prob'], digits=4)}"
      f"{_phases(summary)}"
  )


def _headline(summary) -> tuple[str, bool, Mapping[str, float | None]]:
  """Returns the metric's name, whether it is a share, and it by parameters."""
  if "headline" in summary:
    head = summary["headline"]
    return head["metric"], head["is_share"], head["values"]
  # Of a version before there were tasks.
  if summary["test_accuracies"] is not None:
    return "accuracy", True, summary["test_accuracies"]
  return "macro AUC", True, summary["test_macro_auc"]


def _shown(value: float | None, is_share: bool) -> str:
  if value is None:
    return "undefined"
  return estimate_lib.shown(value, is_share=is_share)


def _phases(summary: Mapping[str, Any]) -> str:
  """Says from which steps on the probability is how many times as large."""
  return "".join(
      f", times {factor:g} from step {first + 1} on"
      for first, factor in summary.get("batch_size_schedule", ())
  )


def _peak_memory_bytes() -> int:
  usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return usage if platform.system() == "Darwin" else usage * 1024


def versions() -> dict[str, str]:
  """Returns the versions of Python and of what a run's bits depend on."""
  packages = {name: draws.package_version(name) for name in _PACKAGES}
  return {"python": platform.python_version(), **packages, **draws.versions()}
