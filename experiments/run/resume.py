"""Goes on with a run, as the same run or not at all.

The invariant: no noise is drawn before what it is derived from is on disk, and
a step is taken again only with the same draws on the same config, mechanism
and training data. It then has the same result, to the bit, and costs no privacy
beyond what it cost the first time.
"""

from collections.abc import Callable
from typing import Any

import accounting
from experiments.plan import experiment as experiment_lib
from experiments.plan import not_private, units
from experiments.run import data_digest, identity, loop
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from jax_privacy import checkpoint, draws, root_key


def facts(experiment: experiment_lib.Experiment) -> dict[str, Any]:
  """Returns what makes a run this run; saved with every checkpoint.

  Nothing is computed from the examples: a data set's identity is its stated
  description. `data_digest` compares the examples themselves.

  Args:
    experiment: Run, as `plan.experiment.build` makes it.
  """
  config, source = experiment.config, experiment.train_source
  data_set = {
      "source": config.data.source,
      "options": identity.plain(config.data.options),
      "train_split": config.data.train_split,
      "num_examples": source.num_examples,
      **(units.facts(config.data) if config.data.unit else {}),
      **experiment.task.describe(experiment.row_source),
  }
  return {
      "config_sha256": identity.json_sha256(
          identity.of_config(identity.plain(config))
      ),
      "mesh": identity.plain(config.mesh),
      "data_sha256": identity.json_sha256(data_set),
      "mechanism": _released(experiment),
      "restored_from": experiment.restored_from,
      "imported": experiment.imported,
      "versions": summary_lib.versions(),
  }


def _released(experiment: experiment_lib.Experiment) -> dict[str, Any]:
  """Returns the mechanism; without noise, where none is added."""
  mechanism = experiment.mechanism.to_dict()
  if not experiment.config.dp.enabled:
    mechanism["noise_multiplier"] = None
  return mechanism


def start(
    experiment: experiment_lib.Experiment,
    workdir: workdir_lib.Workdir,
    checkpoints: checkpoint.Checkpoints,
    *,
    build_fn: Callable[..., experiment_lib.Experiment] = experiment_lib.build,
) -> tuple[experiment_lib.Experiment, loop.TrainState]:
  """Returns the experiment and the state to go on with, and says which.

  Args:
    experiment: The run; with `seed=None`, of a key that may be replaced.
    workdir: Its folder.
    checkpoints: Its checkpoints. If there are none, the first is saved.
    build_fn: `build_fn(config, run_key=...)` makes the experiment again.

  Raises:
    WorkdirError: If the checkpoint is of another run, or steps would be taken
      again with other noise or on other data.
    CheckpointError: If there are checkpoints, and none can be read.
  """
  state, mine = loop.init_state(experiment), facts(experiment)
  _check_same_data(experiment, mine)
  begun = workdir.read_steps_begun()
  restored = checkpoints.restore_latest(state._asdict())
  if restored is None:
    if begun and experiment.config.seed is None:
      raise workdir_lib.WorkdirError(
          f"workdir must hold the checkpoint with the run's key, got"
          f" {workdir.path} without, after {begun} steps were begun: with"
          " another key they would cost their privacy twice."
      )
    if begun and experiment.restored_from is not None:
      raise workdir_lib.WorkdirError(
          "workdir must hold the checkpoint with the parameters that the run"
          f" began with, got {workdir.path} without, after {begun} steps were"
          " begun: from others they would cost their privacy twice."
      )
    _check_draws({}, workdir, step=0)
    data_digest.begin(experiment, workdir)
    _say(0, begun, experiment)
    print("saving what the run begins with", flush=True)
    checkpoints.save(0, state._asdict(), facts=mine)
    checkpoints.wait()
    return experiment, state
  for line in restored.damaged:
    print(f"warning: a damaged checkpoint was set aside: {line}", flush=True)
  _check_same_run(restored.facts, mine, workdir)
  saved_with = restored.facts.get("versions", {})
  _check_draws(
      saved_with,
      workdir,
      step=restored.step,
      spans_steps=experiment.mechanism.draws_span_steps,
  )
  state = loop.TrainState(**restored.state)
  if experiment.config.seed is None:
    # What it began with, known to the checkpoint alone.
    run_key = root_key.RootKey.from_words(state.run_key)
    experiment = build_fn(experiment.config, run_key=run_key)
  data_digest.check(experiment, workdir)
  _say(restored.step, begun, experiment)
  if begun > restored.step and restored.facts.get("mesh") != mine["mesh"]:
    print(
        "warning: on another mesh the steps taken again have the same noise,"
        " but sums that round otherwise: release nothing of the lost ones.",
        flush=True,
    )
  return experiment, state


def check(
    experiment: experiment_lib.Experiment, workdir: workdir_lib.Workdir
) -> experiment_lib.Experiment:
  """Refuses an experiment that is not the run in a folder.

  Args:
    experiment: Built anew.
    workdir: Folder of a run with a checkpoint, which is only read.

  Returns:
    The experiment, with the key that the run has.

  Raises:
    WorkdirError: If config, data, schema, own code, mechanism or first
      parameters differ, or there is no checkpoint.
    CheckpointError: If there are checkpoints, and none can be read.
  """
  workdir.check(experiment.config)
  restored = None
  if workdir.checkpoints.is_dir():
    like = {"run_key": experiment.run_key.words()}
    with checkpoint.Checkpoints(workdir.checkpoints, read_only=True) as found:
      restored = found.restore_latest(like)
  if restored is None:
    raise workdir_lib.WorkdirError(
        f"workdir must hold a run with a checkpoint, got {workdir.path}."
    )
  _check_same_run(restored.facts, facts(experiment), workdir)
  if experiment.config.seed is None:
    run_key = root_key.RootKey.from_words(restored.state["run_key"])
    experiment = experiment_lib.build(experiment.config, run_key=run_key)
  data_digest.check_only(experiment, workdir)
  return experiment


def epsilon_spent(
    experiment: experiment_lib.Experiment, num_steps: int
) -> float:
  """Returns the epsilon of the run's first steps.

  Args:
    experiment: Run, as `plan.experiment.build` makes it.
    num_steps: Number of steps, from the first on.

  Raises:
    ValueError: If it is not private.
  """
  not_private.refuse(experiment.config.dp.enabled, "have an epsilon")
  if not num_steps:
    return 0.0
  return accounting.epsilon(
      experiment.mechanism.with_num_steps(num_steps),
      delta=experiment.config.dp.delta,
      accountant=experiment.config.dp.accountant,
  )


def _check_same_run(saved, mine, workdir) -> None:
  for key, name in (("config_sha256", "config"), ("data_sha256", "data set")):
    if saved.get(key) != mine[key]:
      raise workdir_lib.WorkdirError(
          f"workdir must hold checkpoints of this {name}, got those of another"
          f" in {workdir.path}: {key} {saved.get(key)}, not {mine[key]}."
      )
  workdir.check_imported(saved.get("imported"), mine["imported"])
  _check_same_start(saved, mine, workdir)
  theirs = saved.get("mechanism")
  names = sorted(identity.differing_fields(theirs, mine["mechanism"]))
  if names:
    raise workdir_lib.WorkdirError(
        f"workdir must hold checkpoints of this mechanism, got {workdir.path},"
        f" which differs in {', '.join(names)}: {theirs}, not"
        f" {mine['mechanism']}."
    )


def _check_same_data(experiment, mine) -> None:
  """Refuses to compose with a run that was trained on other data."""
  origin = experiment.restored_from
  if origin is None:
    return
  if "released" not in origin:
    # Of a file nothing is known; a run without privacy claims nothing.
    if origin["format"] == "run" and experiment.config.dp.enabled:
      data_digest.check_public(experiment, data_sha256=mine["data_sha256"])
    return
  if origin["data_sha256"] != mine["data_sha256"]:
    raise workdir_lib.WorkdirError(
        "model.restore.same_data must be True only for a run on the same data,"
        f" got True for {origin['path']}, whose stated data are others:"
        f" data_sha256 {origin['data_sha256']}, not {mine['data_sha256']}."
    )
  data_digest.check_continued(experiment)


def _check_same_start(saved, mine, workdir) -> None:
  theirs, ours = (f.get("restored_from") or {} for f in (saved, mine))
  if theirs.get("sha256") != ours.get("sha256"):
    raise workdir_lib.WorkdirError(
        "workdir must hold checkpoints of a run that began with the parameters"
        f" at model.restore.path, got {workdir.path}, which began with others:"
        f" sha256 {theirs.get('sha256')}, not {ours.get('sha256')}."
    )


def _check_draws(saved_with, workdir, *, step, spans_steps=False) -> None:
  """Refuses to redraw a lost step's noise by what may draw otherwise.

  Args:
    saved_with: Versions that saved the checkpoint.
    workdir: Knows the steps that were begun, and by which versions.
    step: The checkpoint's.
    spans_steps: Whether a draw is for several steps.
  """
  changed = _changed(saved_with)
  begun = workdir.read_steps_begun()
  if begun > step:
    # Not the checkpoint's versions: others may have gone on from it.
    taken_with = workdir.read_versions(after_step=step)
    changed = [
        text
        for versions in taken_with
        for text in _changed(saved_with if versions is None else versions)
    ]
    if changed:
      raise workdir_lib.WorkdirError(
          f"Steps {step + 1} to {begun} were begun and lost, and must be taken"
          f" again with the versions that took them, got"
          f" {', '.join(dict.fromkeys(changed))}: other noise would cost their"
          " privacy twice. Install those versions, or begin anew in another"
          " folder, and add both runs' epsilons."
      )
  elif changed and step and spans_steps:
    raise workdir_lib.WorkdirError(
        f"A run with groups that take turns, or correlated noise, must go on"
        f" with the versions that it was begun with, got {', '.join(changed)}:"
        " an example may be in another group from then on. Install those"
        " versions, or begin anew in another folder."
    )
  elif changed and step:
    print(f"warning: saved with {', '.join(changed)}.", flush=True)


def _changed(theirs) -> list[str]:
  mine = draws.versions()
  return [
      f"{name} {theirs.get(name, draws.UNKNOWN)} (now {mine[name]})"
      for name in mine
      if theirs.get(name) != mine[name]
  ]


def _say(step, begun, experiment) -> None:
  if not begun:
    return
  lost = f"; {begun - step} are taken again, with the same noise"
  print(
      f"going on after step {step} of {experiment.mechanism.num_steps}"
      f" ({begun} begun{lost if begun > step else ''})",
      flush=True,
  )
