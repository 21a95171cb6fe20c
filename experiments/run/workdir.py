"""The files of a run: config.json, metrics.jsonl, checkpoints, summary.json.

The invariant: a file is whole or absent (written under another name and
renamed), a folder holds one config's run only, and nobody but its owner can
read it: checkpoints hold the run's key. Numbers that are private, because they
are computed from the training data without noise, are in metrics.jsonl and
data_digest.json under `private_not_for_release`, and nowhere else.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from accounting import json_object
from experiments.plan import fields as plan_fields
from experiments.plan import not_private, public_files, restore
from experiments.run import identity
from experiments.run import metrics as metrics_lib
from experiments.tasks import imported as imported_lib
from experiments.tasks import registry
from jax_privacy import _owner_only, draws

# The key in JSON of what comes from the data without noise.
UNRELEASED_METRICS = "private_not_for_release"
_LOCK = ".lock"
_STEPS_BEGUN = "steps_begun.json"
DATA_DIGEST = "data_digest.json"
INPUTS = "inputs.json"
IMPORTED = plan_fields.IMPORTED


class WorkdirError(ValueError):
  """A file of the run is not as the run would have written it."""


@dataclasses.dataclass(frozen=True)
class Workdir:
  """A run's folder.

  Attributes:
    path: The folder; made by `claimed`.
  """

  path: pathlib.Path

  @property
  def checkpoints(self) -> pathlib.Path:
    """The folder of checkpoints."""
    return self.path / restore.CHECKPOINTS

  def check(self, config: ml_collections.ConfigDict) -> None:
    """Refuses a folder that holds anything but this config's run.

    Args:
      config: Config with the fields of `configs.common.base`.

    Raises:
      WorkdirError: If it does, or a public file of the run has changed; the
        text names the fields that differ.
    """
    held = self.read_config()
    if held is None:
      if self.path.exists() and self._foreign_files():
        raise WorkdirError(
            f"workdir must be empty or hold a run, got {self.path}, which holds"
            " other files and no config.json."
        )
      return
    names = sorted(
        identity.differing_fields(
            identity.of_config(held),
            identity.of_config(identity.plain(config)),
        )
    )
    if names:
      raise WorkdirError(
          f"workdir must hold a run of this config, got {self.path}, which"
          f" differs in {', '.join(names)}."
      )
    if public_files.KEY in held:
      task = registry.build(**plan_fields.task_sections(config))
      with _faults_of_files():
        public_files.check(held, task, folder=self.path)

  def check_imported(
      self, theirs: Mapping[str, Any] | None, ours: Mapping[str, Any] | None
  ) -> None:
    """Refuses to go on with other own code than the run was begun with.

    Args:
      theirs: Facts in the run's files; see `imported.facts`.
      ours: Facts as found now.

    Raises:
      WorkdirError: If they differ; the text names the modules.
    """
    if differs := imported_lib.difference(theirs, ours):
      raise WorkdirError(
          f"workdir must hold a run of this code, got {self.path}, which was"
          f" begun with another {differs}."
      )

  @contextlib.contextmanager
  def claimed(
      self,
      config: ml_collections.ConfigDict,
      *,
      imported: Mapping[str, Any] | None = None,
      files: Mapping[str, str] | None = None,
  ):
    """A context in which the folder is this config's, and this process's.

    It is locked before anything in it is written.

    Args:
      config: The run's.
      imported: Its own code; see `imported.facts`.
      files: Digests; see `task.Task.public_files`.

    Raises:
      WorkdirError: If it holds another run, or another process is at it.
    """
    self.check(config)  # Nothing is made in a folder of other things.
    with self.lock():
      self.claim(config, imported=imported, files=files)
      yield

  def claim(
      self,
      config: ml_collections.ConfigDict,
      *,
      imported: Mapping[str, Any] | None = None,
      files: Mapping[str, str] | None = None,
  ) -> None:
    """Makes the folder this config's, and its owner's alone; see `claimed`.

    Args:
      config: Config with the fields of `configs.common.base`.
      imported: Own code of the run; see `imported.facts`.
      files: Digests of public files; see `task.Task.public_files`.
    """
    self.check(config)
    if (held := self.read_config()) is not None:
      self.check_imported(held.get(IMPORTED), imported)
    _owner_only.make_folder(self.path)
    _owner_only.restrict(self.path)
    if why := _owner_only.others_may_read(self.path):
      print(
          f"note: workdir {self.path} {why}: it will hold the run's key and"
          " private losses. Use a folder of your own, of mode 700.",
          flush=True,
      )
    more = {} if imported is None else {IMPORTED: imported}
    if files:
      more[public_files.KEY] = dict(files)
    if not config.dp.enabled:
      more[not_private.LABEL] = not_private.SENTENCE
    _write_json(self.path / "config.json", identity.plain(config) | more)

  @contextlib.contextmanager
  def lock(self):
    """A context in which no other process may train in this folder.

    The system lets go of the lock however the process ends.

    Raises:
      WorkdirError: If another process is at it.
    """
    _owner_only.make_folder(self.path)
    with _owner_only.open_text(self.path / _LOCK, "w") as file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        raise WorkdirError(
            f"workdir must be used by one process at a time, got {self.path},"
            " in which another is training."
        ) from None
      yield

  def _foreign_files(self) -> bool:
    # A kill between locking and claiming leaves these, and no run.
    ours = {_LOCK, "config.json.partial"}
    return any(entry.name not in ours for entry in self.path.iterdir())

  def read_config(self) -> dict[str, Any] | None:
    """Returns config.json as a dict, or None if there is none."""
    return _read_json(self.path / "config.json")

  def read_summary(self) -> dict[str, Any] | None:
    """Returns summary.json as a dict, or None for a run that is not over."""
    return _read_json(self.path / "summary.json")

  def write_summary(self, summary: Mapping[str, Any]) -> None:
    """Writes summary.json in one go: it says that the run is over.

    Args:
      summary: Values by key, as JSON can hold.
    """
    _write_json(self.path / "summary.json", summary)

  def write_audit(self, audit: Mapping[str, Any]) -> None:
    """Writes audit.json: what an audited run has in place of a summary.

    Args:
      audit: Values by key, as JSON can hold.
    """
    _write_json(self.path / "audit.json", audit)

  def keep_metrics_until(self, step: int) -> None:
    """Drops lines beyond `step`: a resumed run writes these again.

    Args:
      step: Number of the last step that is kept.
    """
    kept = [m for m in self.read_metrics() if m["step"] <= step]
    text = "".join(json.dumps(metrics) + "\n" for metrics in kept)
    _write_text(self.path / "metrics.jsonl", text)

  def read_metrics(self) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl; one cut short by a kill is left."""
    path = self.path / "metrics.jsonl"
    if not path.exists():
      return []
    with _faults_of_files():
      return metrics_lib.read(path)

  def append_metrics(self, metrics: Mapping[str, Any]) -> None:
    """Appends one line to metrics.jsonl; it is on disk on return.

    Args:
      metrics: Values by name, as JSON can hold.
    """
    _write_durably(
        self.path / "metrics.jsonl", json.dumps(metrics) + "\n", mode="a"
    )

  def write_inputs(self, description: Mapping[str, Any] | None) -> None:
    """Writes what predicting needs to know; see `Task.input_description`.

    Args:
      description: Values that JSON can hold, or None for nothing.
    """
    if description is not None:
      _write_json(self.path / INPUTS, description)

  def read_inputs(self) -> dict[str, Any] | None:
    """Returns inputs.json; None of a task, or an older run, that has none."""
    return _read_json(self.path / INPUTS)

  def write_data_digest(self, digest: str) -> None:
    """Writes the digest of the data that the run began with: private.

    Args:
      digest: Hexadecimal digest, keyed by the run's secret.
    """
    _write_json(self.path / DATA_DIGEST, {UNRELEASED_METRICS: digest})

  def read_steps_begun(self) -> int:
    """Returns how many steps were ever taken, their block's rest included."""
    return self._read_begun()[0]

  def read_versions(self, *, after_step: int) -> list[dict[str, str] | None]:
    """Returns what steps above `after_step` were begun with.

    Each is `draws.versions()` of then; None for steps of which it is not known.

    Args:
      after_step: Number of steps to leave out.
    """
    steps, taken_with = self._read_begun()
    starts = [first for first, _ in taken_with]
    ends = [*starts, steps][1:]
    found = [
        versions
        for (_, versions), end in zip(taken_with, ends, strict=True)
        if end > after_step
    ]
    unknown_until = starts[0] if starts else steps
    return [None, *found] if unknown_until > after_step else found

  def write_steps_begun(self, steps: int, *, after_step: int = 0) -> None:
    """Writes it down for good, before the steps are taken.

    Args:
      steps: Number of steps ever begun, these included.
      after_step: Number of steps done before those that are begun now, by this
        version's draws.
    """
    _, taken_with = self._read_begun()
    mine = draws.versions()
    if not taken_with or taken_with[-1][1] != mine:
      taken_with = [*taken_with, (after_step, mine)]
    record = {
        "steps_begun": steps,
        "taken_with": [
            {"after_step": first, "versions": versions}
            for first, versions in taken_with
        ],
    }
    _write_json(self.path / _STEPS_BEGUN, record)

  def _read_begun(self) -> tuple[int, list[tuple[int, dict[str, str]]]]:
    path = self.path / _STEPS_BEGUN
    held = _read_json(path)
    if held is None:
      return 0, []
    steps = held.get("steps_begun")
    if type(steps) is not int or steps < 0:
      raise WorkdirError(
          f"{path} must hold a number of steps, at least 0, got {steps!r}."
      )
    taken_with = held.get("taken_with", [])  # An older version has none.
    try:
      return steps, [
          (int(entry["after_step"]), dict(entry["versions"]))
          for entry in taken_with
      ]
    except (KeyError, TypeError, ValueError) as error:
      raise WorkdirError(
          f"{path} must hold a list of after_step and versions as taken_with,"
          f" got {taken_with!r:.200}."
      ) from error


class Onlooker(Workdir):
  """The folder as other processes of the run see it: they write nothing."""

  def claim(self, config, *, imported=None, files=None) -> None:
    """Only checks.

    Args:
      config: Config with the fields of `configs.common.base`.
      imported: Own code of the run; see `imported.facts`.
      files: Digests of public files; see `task.Task.public_files`.
    """
    self.check(config)

  def lock(self):
    """Leaves that to the primary.

    Returns:
      A context that does nothing.
    """
    return contextlib.nullcontext()

  def _write_nothing(self, *unused, **unused_options) -> None:
    pass

  write_summary = write_audit = write_steps_begun = _write_nothing
  keep_metrics_until = append_metrics = write_data_digest = _write_nothing
  write_inputs = _write_nothing


def _read_json(path: pathlib.Path) -> dict[str, Any] | None:
  if not path.exists():
    return None
  with _faults_of_files():
    return json_object.read(path, what=str(path))


@contextlib.contextmanager
def _faults_of_files():
  """Says of a reader's ValueError that it is the workdir's fault."""
  try:
    yield
  except ValueError as error:
    raise WorkdirError(str(error)) from error


def _write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
  _write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def _write_text(path: pathlib.Path, text: str) -> None:
  partial = path.with_name(path.name + ".partial")
  _write_durably(partial, text, mode="w")
  os.replace(partial, path)


def _write_durably(path: pathlib.Path, text: str, *, mode: str) -> None:
  try:
    with _owner_only.open_text(path, mode) as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())  # Else a power cut may leave the name, no bytes.
  except OSError as error:
    # A full disk is met here, and its error does not name the file.
    raise WorkdirError(
        f"{path} must be written whole, got {error}. The run is as it was last"
        " saved: the same command goes on."
    ) from error
