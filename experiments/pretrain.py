r"""Trains WITHOUT privacy, on public data, what a private run begins with.

  python -m experiments.pretrain --output=runs/digits_0_to_4.npz \
    --config=configs/digits_finetune.py:stage=pretrain

Writes the parameters by name into one .npz file, for model.restore.path. The
invariant: nothing of it can be taken for a private run. A config that states an
epsilon is refused here, one that does not is refused by `experiments.train`,
and there is no workdir and no summary.json for `dp-budget` to report on.
"""

from absl import flags

from experiments.evaluation import final
from experiments.run import cli, plain
from experiments.run import log as log_lib

_CONFIG = cli.define_config("A recipe that states no epsilon and no noise.")
_OUTPUT = flags.DEFINE_string("output", None, "The .npz file to write.")


def main() -> None:
  """Runs the command line."""
  with cli.exit_on(ValueError, OSError):
    path = plain.check_output(_OUTPUT.value)
    log_lib.say("reading data, building the model, training WITHOUT privacy")
    params = plain.pretrain(_CONFIG.value)
    plain.save(path, params)  # Before anything else can go wrong.
    found = final.of_params(_CONFIG.value, params)
  for name, value in found.items():
    print(f"test {name} {value:.4f} (last parameters)")
  print(
      f"{path}: NO PRIVACY. These parameters have no guarantee whatever for the"
      " data that they were trained on, which must be public."
  )


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "output"])
  cli.run(main)
