"""Checks the privacy claims of what a config describes.

  python -m experiments.audit --config=configs/digits_cnn.py --replay
    [--max_examples=8]

`--replay` builds the run's own gradient function and optimiser, takes the first
training examples, and checks both (see `jax_privacy.testing.check_private`). It
trains nothing and writes nothing. Exit code 1, with the evidence, if a check
fails. What is printed tells of private examples: not for release.
"""

import sys

from absl import flags
from ml_collections import config_flags

from experiments import _build, _cli, _replay
from jax_privacy import data, testing

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A recipe: configs/NAME.py[:key=value,...]."
)
_REPLAY = flags.DEFINE_bool(
    "replay", False, "Replay gradient and noise on neighbouring batches."
)
_MAX_EXAMPLES = flags.DEFINE_integer(
    "max_examples", 8, "How many training examples are replayed.", lower_bound=2
)


def main() -> None:
  """Runs the command line."""
  with _cli.exit_on(ValueError, OSError, data.ImageError):
    if not _REPLAY.value:
      raise ValueError("--replay must be given, got no check to run.")
    experiment = _build.build(_CONFIG.value)
    try:
      report = _replay.replay(experiment, max_examples=_MAX_EXAMPLES.value)
    except (testing.SensitivityError, testing.NoiseError) as error:
      print(f"FAILED: {error}", file=sys.stderr)
      sys.exit(1)
  _replay.show(report)


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  _cli.run(main)
