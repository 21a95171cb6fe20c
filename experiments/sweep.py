"""Searches for settings of a config, with what the whole search costs.

  python -m experiments.sweep --config=configs/digits_cnn.py:epsilon=3.0
    --space=train.learning_rate=0.5,1,2 --space=dp.l2_clip_norm=0.5,1
    --workdir=sweeps/digits

Each --space is `field=value,value,...`, `field=low..high`,
`field=low..high:log`, or a TOML file of such fields. --method is grid, random
(--num_runs of them), or a sampler of Optuna's, tpe or gp, which learns from
earlier runs.

--accounting says what is released, and is chosen before the first run:

  all     every run may be shown. Their costs compose.
  best    the best of a random number of runs (--num_runs is its mean), by
          Papernot and Steinke. Nothing else may be shown, nor the number.
  public  none: --proxy=data.source=... puts public data in place of the
          private, and the winning settings cost nothing.

Runs are processes of this machine, as many as fit its cores and its memory.
The same command on the same folder goes on: a finished run is never run again,
and one that failed is named, and tried again with --retry_failed. SIGTERM or
Ctrl-C lets all runs save, says "to be continued" and exits 0.

Writes DIR/page.html, the winner's config as a recipe in DIR, and the runs in
DIR/runs. With --accounting=best, all but page and recipe is private.
"""

import pathlib
import re
import sys

import jax
from absl import flags

from experiments.run import cli, signals
from experiments.sweeps import cost as cost_lib
from experiments.sweeps import plan as plan_lib
from experiments.sweeps import space as space_lib
from experiments.sweeps import sweep_run

_CONFIG = cli.define_config("A recipe: configs/NAME.py[:key=value,...].")
_SPACE = flags.DEFINE_multi_string(
    "space", None, "A field and its values, or a TOML file of fields."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The sweep's folder.")
_METHOD = flags.DEFINE_enum(
    "method", plan_lib.GRID, plan_lib.METHODS, "How settings are found."
)
_NUM_RUNS = flags.DEFINE_integer(
    "num_runs", None, "Number of runs; its mean with --accounting=best."
)
_ACCOUNTING = flags.DEFINE_enum(
    "accounting", cost_lib.ALL, cost_lib.KINDS, "What is released."
)
_DISTRIBUTION = flags.DEFINE_enum(
    "distribution",
    "geometric",
    cost_lib.DISTRIBUTIONS,
    "Of the number of runs, with --accounting=best.",
)
_PROXY = flags.DEFINE_multi_string(
    "proxy", [], "A field of public data, with --accounting=public."
)
_GOAL = flags.DEFINE_enum(
    "goal",
    "auto",
    plan_lib.GOALS,
    "Whether the largest or the least result wins; auto takes the largest of"
    " shares, such as accuracy, and the least of all else.",
)
_SEED = flags.DEFINE_integer("settings_seed", 0, "Seed of the settings.")
_PARALLEL = flags.DEFINE_integer(
    "parallel", 1, "Runs whose settings tpe or gp finds at once.", lower_bound=1
)
_WORKERS = flags.DEFINE_integer(
    "workers", 0, "Runs at once; 0 for what fits this machine.", lower_bound=0
)
_CORES = flags.DEFINE_integer("cores_per_run", 2, "Cores.", lower_bound=1)
_GIB = flags.DEFINE_float(
    "gib_per_run", 2.0, "Memory, in GiB.", lower_bound=0.1
)
_RETRY = flags.DEFINE_bool("retry_failed", False, "Try failed runs again.")
_LEDGER = flags.DEFINE_string(
    "ledger", None, "A data set's ledger, in which the sweep is booked."
)
_VISIBLE_TO = flags.DEFINE_string(
    "visible_to", "whoever gets the model", "Who may see it, for --ledger."
)


def main() -> None:
  """Runs the command line."""
  # Runs get the devices: this process plans them on the CPU.
  jax.config.update("jax_platforms", "cpu")
  with (
      cli.exit_on(ValueError, OSError, ImportError),
      signals.StopSignals() as stop,
      cli.warnings_as_lines(),
  ):
    config = _CONFIG.value
    proxy = sweep_run.proxy(_PROXY.value, config)
    made = plan_lib.make(
        config,
        space_lib.parse(_SPACE.value),
        method=_METHOD.value,
        num_runs=_NUM_RUNS.value,
        accounting=_ACCOUNTING.value,
        distribution=_DISTRIBUTION.value,
        parallel=_PARALLEL.value,
        seed=_SEED.value,
        goal=_GOAL.value,
        proxy=proxy,
    )
    sweep_run.run(
        pathlib.Path(_WORKDIR.value),
        made,
        config,
        config_flags=_config_flags(sys.argv[1:]),
        workers=_WORKERS.value,
        cores_per_run=_CORES.value,
        gib_per_run=_GIB.value,
        retry_failed=_RETRY.value,
        ledger=_LEDGER.value,
        visible_to=_VISIBLE_TO.value,
        stop=stop,
    )


def _config_flags(arguments: list[str]) -> list[str]:
  """Returns the flags of the config, each as one argument."""
  found = []
  for at, argument in enumerate(arguments):
    if not re.match(r"--?(no)?config(\.|=|$)", argument):
      continue
    following = arguments[at + 1 : at + 2]
    if "=" not in argument and following and following[0][:1] != "-":
      argument = f"{argument}={following[0]}"
    found.append(argument)
  return found


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "space", "workdir"])
  cli.run(main)
