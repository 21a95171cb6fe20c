"""Evaluates what a run saved: overall, per class or label, and per group.

  python -m experiments.evaluate --workdir=runs/digits [--split=test]
    [--params=all|last|ema|ema_0.9999|polyak|...] [--labels=NAME,...]
    [--twin=OTHER_WORKDIR|FILE.npz] [--json=FILE]

Overall numbers are of all parameters that the run kept; the rest of those that
the config chose beforehand (eval.params), of the named ones, or of all of them.
A twin is evaluated on the same examples, and shown next to it with differences;
see `evaluation/twin.py`.

Needs the split's data and the run's folder; not the training data, unless that
is the split asked for.
"""

import pathlib

from absl import flags

from experiments.evaluation import evaluate_run, saved
from experiments.run import cli
from jax_privacy import checkpoint, data

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_SPLIT = flags.DEFINE_string(
    "split", None, "Split to evaluate on; by default the config's test split."
)
_PARAMS = flags.DEFINE_string(
    "params",
    None,
    "What parameters, by name: last, or an average that the run kept; or all."
    " By default the config's eval.params, and the others in short.",
)
_LABELS = flags.DEFINE_list(
    "labels",
    None,
    "Where an example has many labels, those to report; by default the"
    " config's eval.labels.",
)
_TWIN = flags.DEFINE_string(
    "twin",
    None,
    "Another model, evaluated with it: a run's folder, or logits and labels"
    " in a .npz file.",
)
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")


def main() -> None:
  """Runs the command line."""
  with cli.exit_on(
      ValueError, OSError, data.ExampleError, checkpoint.CheckpointError
  ):
    run = saved.load(
        pathlib.Path(_WORKDIR.value),
        split=_SPLIT.value,
        labels=_LABELS.value or None,
    )
    evaluate_run.evaluate(
        run,
        which=_PARAMS.value,
        twin=_TWIN.value,
        json_file=_JSON.value,
    )


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  cli.run(main)
