"""Writes a run's model to a file for other programs.

  python -m experiments.export --workdir=runs/digits --format=stablehlo
    --output=digits.stablehlo [--params=ema] [--unfinished]

  stablehlo    the whole model, with all that is done to an input before it:
               `jax.export.deserialize` gives a function of any number of
               examples, on a CPU, a GPU or a TPU, without this project
  safetensors  the parameters by name
  npz          the same, for NumPy; model.restore.path takes it too

Each file holds, as metadata, the class names, what an input is, and the privacy
statement. See docs/export.md.
"""

import numpy as np
from absl import flags

from experiments.release import arrays, output, program
from experiments.release import model as model_lib
from experiments.run import cli
from jax_privacy import checkpoint
from jax_privacy.models import saved

_FORMATS = ("stablehlo", "safetensors", "npz")

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_FORMAT = flags.DEFINE_enum("format", None, _FORMATS, "Of the file.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "A new file; by default model.FORMAT in the run's folder."
)
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
  kind = _FORMAT.value
  with (
      cli.exit_on(ValueError, OSError, ImportError, checkpoint.CheckpointError),
      cli.warnings_as_lines(),
  ):
    path = output.check_new(
        _OUTPUT.value or f"{_WORKDIR.value}/model.{kind}",
        name="output",
        suffixes=[f".{kind}"],
    )
    model = model_lib.load(
        _WORKDIR.value, params=_PARAMS.value, unfinished=_UNFINISHED.value
    )
    content = _content(model, kind)
    with output.new_file(path) as file:
      file.write(content)
  print(
      f"{path}: the {model.params_name} parameters of step {model.step},"
      f" {len(content):,} bytes."
  )
  print(f"The model is {model.statement}")


def _content(model: model_lib.SavedModel, kind: str) -> bytes:
  metadata = model.metadata(of_program=kind == "stablehlo")
  if kind == "stablehlo":
    made = program.lower(model.program_signature, model.params)
    metadata["platforms"] = list(made.platforms)
    return program.to_bytes(made, metadata)
  flat = saved.flatten(model.params)
  by_name = {name: np.asarray(leaf) for name, leaf in flat.items()}
  return getattr(arrays, kind)(by_name, metadata)


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "format"])
  cli.run(main)
