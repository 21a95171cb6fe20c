"""One process of a run on several, which writes down what it asked for.

Run as a program with the flags of `experiments.train`, and with `--told`: a
JSON file for the indices that the source was asked for, step by step, and the
digest of the parameters.
"""

import dataclasses
import json
import pathlib
import sys

from absl import flags

from experiments import train
from experiments.plan import experiment as experiment_lib
from experiments.run import devices, loop
from jax_privacy import checkpoint

_STOP_AFTER = flags.DEFINE_integer(
    "stop_after", None, "Ask this process, and no other, to stop."
)
_NO_SEED = flags.DEFINE_bool("no_seed", False, "Take config.seed=None.")
_TOLD = flags.DEFINE_string("told", None, "The JSON file.")


class Recorder:
  """A source that remembers what it was asked for."""

  def __init__(self, source):
    self._source = source
    self.asked = []

  def __getattr__(self, name):
    return getattr(self._source, name)

  def __len__(self):
    return len(self._source)

  def __getitem__(self, indices):
    self.asked.append(indices.tolist())
    return self._source[indices]


class Stop:
  """Asks to stop once so many batches were loaded."""

  def __init__(self, recorder, after):
    self._recorder, self._after = recorder, after

  @property
  def requested(self):
    return self._after is not None and len(self._recorder.asked) >= self._after


def main():
  flags.FLAGS(sys.argv)
  config = flags.FLAGS.config
  if _NO_SEED.value:
    config.seed = None
  devices.start(config)
  workdir = devices.workdir(flags.FLAGS.workdir)
  experiment = experiment_lib.build(config)
  workdir.claim(config)
  recorder = Recorder(experiment.train_source)
  experiment = dataclasses.replace(experiment, train_source=recorder)
  last = []
  real_train = loop.train
  loop.train = lambda *args, **options: _remember(
      real_train(*args, **options), last
  )
  stop = Stop(recorder, _STOP_AFTER.value)
  train.run(experiment, workdir, stop=stop)
  told = {
      "asked": recorder.asked,
      "params_sha256": checkpoint.tree_sha256(last[0].params),
      "step": int(last[0].step),
  }
  pathlib.Path(_TOLD.value).write_text(json.dumps(told))


def _remember(steps, last):
  for state, loss in steps:
    last[:] = [state]
    yield state, loss


if __name__ == "__main__":
  main()
