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

  python -m experiments.evaluate --workdir=runs/diffusion --synthetic=DIR,...
    [--classifiers=logistic,mlp,cnn,wrn] [--features=scattering|pixels]
    [--inception=FILE] [--private] [--epochs=50] [--split=test] [--json=FILE]

--synthetic evaluates images that `experiments.generate` drew, in place of the
run: classifiers that are trained on them and tested on the split; distances to
its images. --private reads training images too: what they tell is private.
"""

import pathlib

from absl import flags

from experiments.evaluation import evaluate_run, saved
from experiments.run import cli
from experiments.synthetic import image_features, report
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
_SYNTHETIC = flags.DEFINE_list(
    "synthetic",
    None,
    "Folders of drawn images, to evaluate, not the run.",
)
_CLASSIFIERS = flags.DEFINE_list(
    "classifiers",
    ["logistic", "mlp", "cnn"],
    "Classifiers to train on drawn images: logistic, mlp, cnn, wrn.",
)
_FEATURES = flags.DEFINE_enum(
    "features",
    "scattering",
    image_features.NAMES,
    "Features of images, for distances.",
)
_INCEPTION = flags.DEFINE_string(
    "inception",
    None,
    "Program of features in place of --features, as jax.export writes it: its"
    " Frechet distance is called FID.",
)
_PRIVATE = flags.DEFINE_bool(
    "private", False, "Whether to compare drawn images with training images."
)
_EPOCHS = flags.DEFINE_integer(
    "epochs", 50, "Epochs of the classifiers cnn and wrn."
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
    if _SYNTHETIC.value:
      _evaluate_images(run)
      return
    evaluate_run.evaluate(
        run,
        which=_PARAMS.value,
        twin=_TWIN.value,
        json_file=_JSON.value,
    )


def _evaluate_images(run: saved.SavedRun) -> None:
  """Evaluates drawn images, by the flags."""
  for flag in (_PARAMS, _LABELS, _TWIN):
    if flag.value is not None:
      raise ValueError(
          f"{flag.name} must be none with synthetic, got {flag.value}."
      )
  options = report.Options(
      kinds=_CLASSIFIERS.value,
      features=_FEATURES.value,
      inception=_INCEPTION.value,
      private=_PRIVATE.value,
      num_epochs=_EPOCHS.value,
  )
  report.evaluate(run, _SYNTHETIC.value, options, json_file=_JSON.value)


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  cli.run(main)
