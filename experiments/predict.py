"""Predicts with a run's model, for inputs of a user's own.

  python -m experiments.predict --workdir=runs/digits --input=FILE_OR_FOLDER
    --output=predictions.csv [--params=ema] [--unfinished]

What an input is, and which columns come out, is the task's: for images, a file,
a folder or an .npz archive, and each class's probability. --output is a new
.csv or .parquet file, for its owner alone. Text in a .csv file is never a
formula.

Predictions are post-processing of the released parameters, which they cost no
privacy: the guarantee for the training data is the run's. They say nothing of
the inputs' own privacy.
"""

from absl import flags

from experiments.release import model as model_lib
from experiments.release import output, predictions
from experiments.run import cli
from jax_privacy import checkpoint

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_INPUT = flags.DEFINE_string("input", None, "A file or folder to predict for.")
_OUTPUT = flags.DEFINE_string("output", None, "A new .csv or .parquet file.")
_PARAMS = flags.DEFINE_string(
    "params",
    None,
    "Which parameters: last, or an average that the run kept. By default the"
    " config's eval.params.",
)
_UNFINISHED = flags.DEFINE_bool(
    "unfinished", False, "Whether a run that is not over will do."
)


def main() -> None:
  """Runs the command line."""
  with (
      cli.exit_on(ValueError, OSError, ImportError, checkpoint.CheckpointError),
      cli.warnings_as_lines(),
  ):
    path = output.check_new(
        _OUTPUT.value, name="output", suffixes=predictions.SUFFIXES
    )
    model = model_lib.load(
        _WORKDIR.value,
        params=_PARAMS.value,
        unfinished=_UNFINISHED.value,
        inputs=_INPUT.value,
    )
    number = predictions.write(
        model, path, batch_size=model.config.eval.batch_size
    )
  print(
      f"{path}: {number} predictions by the {model.params_name} parameters of"
      f" step {model.step}."
  )
  for note in getattr(model.source, "notes", ()):
    print(note)
  print(f"The model is {model.statement}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "input", "output"])
  cli.run(main)
