r"""Checks the privacy claims of what a config describes, by audit or by replay.

  python -m experiments.audit --config=configs/digits_cnn.py:epsilon=8 \
    --workdir=runs/digits_audit [--num_canaries=1000] [--confidence=0.95] \
    [--canary=dirac|random_direction|clipped|input|text] [--num_copies=1]

trains with canaries through the one training loop, and prints the claimed
epsilon with lower bounds measured by an attacker who guesses which canaries
were in. The folder is the audit's own: it holds audit.json, and no model to be
released, for canaries harm it. The same command goes on where it was stopped.

  python -m experiments.audit --config=configs/digits_cnn.py --replay
    [--max_examples=8] [--workdir=DIR]

builds the run's own gradient function and optimiser, takes the first training
examples, and checks both (see `jax_privacy.testing.check_private`). It trains
nothing and writes nothing. With --workdir, what is replayed is the run in that
folder: another config, schema, code or other data are refused, as on a resume.
Without, nothing says which run it is. What is printed comes from private
examples: not for release.

Exit code 1, with the evidence, if the claim is contradicted or a check fails; 2
for a mistake.
"""

import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import ml_collections
from absl import flags

from experiments import train
from experiments.audits import audit as audit_lib
from experiments.audits import canaries, replay
from experiments.plan import experiment as experiment_lib
from experiments.run import cli, devices, resume, signals
from experiments.run import log as log_lib
from experiments.run import workdir as workdir_lib
from jax_privacy import checkpoint, data, testing

# --config and --workdir.
flags.adopt_module_key_flags(train)

_CANARY = flags.DEFINE_enum(
    "canary", "dirac", canaries.KINDS, "What the attacker looks for."
)
_NUM_CANARIES = flags.DEFINE_integer(
    "num_canaries", 1000, "How many.", lower_bound=canaries.MIN_CANARIES
)
_NUM_COPIES = flags.DEFINE_integer(
    "num_copies",
    1,
    "How often each is inserted, for 'input' and 'text'. What is audited is the"
    " epsilon of that number of examples.",
    lower_bound=1,
)
_CONFIDENCE = flags.DEFINE_float(
    "confidence", 0.95, "Of each bound, and of the verdict: in (0, 1)."
)
_REPLAY = flags.DEFINE_bool(
    "replay", False, "Replay gradient and noise on neighbouring batches."
)
_MAX_EXAMPLES = flags.DEFINE_integer(
    "max_examples", 8, "How many training examples are replayed.", lower_bound=2
)


def main() -> None:
  """Runs the command line.

  Raises:
    ValueError: If a flag breaks its rule.
  """
  config = flags.FLAGS.config
  with cli.exit_on(
      ValueError, OSError, data.ExampleError, checkpoint.CheckpointError
  ):
    for name in ("show", "continue_from"):
      if flags.FLAGS[name].present:
        rule = "must be given to experiments.train alone"
        raise ValueError(f"--{name} {rule}, got it here.")
    devices.check_one_device(config)
    if _REPLAY.value:
      _run_replay(config, flags.FLAGS.workdir)
      return
    if flags.FLAGS.workdir is None:
      raise ValueError(
          "--workdir must be given for an audit, or --replay, got neither."
      )
    log_lib.say(
        f"reading data and building the model, with {_CANARY.value} canaries"
    )
    with signals.StopSignals() as stop:
      audit = run(
          config,
          workdir_lib.Workdir(pathlib.Path(flags.FLAGS.workdir)),
          canary=_CANARY.value,
          num_canaries=_NUM_CANARIES.value,
          num_copies=_NUM_COPIES.value,
          confidence=_CONFIDENCE.value,
          stop=stop,
      )
  if audit is not None:
    conclude(audit)


def run(
    config: ml_collections.ConfigDict,
    workdir: workdir_lib.Workdir,
    *,
    canary: str,
    num_canaries: int,
    confidence: float,
    num_copies: int = 1,
    stop: signals.StopSignals | None = None,
) -> dict[str, Any] | None:
  """Trains with canaries, from the last checkpoint or the start.

  Args:
    config: Config of the run to audit.
    workdir: A folder of the audit's own.
    canary: A kind; see `audits/canary_kinds.py`.
    num_canaries: Number of canaries.
    confidence: Confidence of the bounds, in (0, 1).
    num_copies: Number of examples that each canary is.
    stop: Signals to stop at; see `train.run`.

  Returns:
    What audit.json holds; see `audits.audit.summarise`. None if a signal
    stopped it.

  Raises:
    ValueError: If the run is not one that canaries can audit, an argument
      breaks its rule, or the folder holds another run.
  """
  confidence = audit_lib.check_confidence(confidence)
  config = canaries.add_to_config(
      config,
      canary=canary,
      num_canaries=num_canaries,
      num_copies=num_copies,
  )
  workdir.check(config)
  experiment = canaries.build(config)
  experiment, state, train_seconds = train.fit(
      experiment, workdir, stop=stop, build_fn=canaries.build
  )
  if int(state.step) < experiment.mechanism.num_steps:
    return None
  audit = audit_lib.summarise(
      experiment, state, confidence=confidence, train_seconds=train_seconds
  )
  workdir.write_audit(audit)
  return audit


def conclude(audit: Mapping[str, Any]) -> None:
  """Prints an audit; exits with code 1 if it contradicts the claim.

  Args:
    audit: Record of an audit, as `audit.json` holds it.
  """
  audit_lib.show(audit)
  if audit["contradicts_claim"]:
    print(f"FAILED: {audit_lib.verdict(audit)}", file=sys.stderr)
    sys.exit(1)
  print(audit_lib.verdict(audit))


def _run_replay(config: ml_collections.ConfigDict, path: str | None) -> None:
  experiment = experiment_lib.build(config)
  if path is not None:
    workdir = workdir_lib.Workdir(pathlib.Path(path))
    experiment = resume.check(experiment, workdir)
  try:
    report = replay.check(experiment, max_examples=_MAX_EXAMPLES.value)
  except (testing.SensitivityError, testing.NoiseError) as error:
    print(f"FAILED: {error}", file=sys.stderr)
    sys.exit(1)
  replay.show(report)


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  cli.run(main)
