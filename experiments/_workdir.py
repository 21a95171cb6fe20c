"""The files of a run: config.json, metrics.jsonl, checkpoints, summary.json.

The invariant: a file is whole or absent (written beside its place and renamed),
and a folder holds one config's run only. Numbers that are private, because they
are computed from the training data without noise, stand in metrics.jsonl under
`private_not_for_release` and nowhere else.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

PRIVATE = "private_not_for_release"


@dataclasses.dataclass(frozen=True)
class Workdir:
  """A run's folder.

  Attributes:
    path: The folder; made by `claim`.
  """

  path: pathlib.Path

  @property
  def checkpoints(self) -> pathlib.Path:
    """The folder of checkpoints."""
    return self.path / "checkpoints"

  def check(self, config: ml_collections.ConfigDict) -> None:
    """Refuses a folder that holds anything but this config's run.

    Raises:
      ValueError: If it does; the text names the fields that differ.
    """
    held = self.read_config()
    if held is None:
      if self.path.exists() and any(self.path.iterdir()):
        raise ValueError(
            f"workdir must be empty or hold a run, got {self.path}, which holds"
            " other files and no config.json."
        )
      return
    names = sorted(_differing_fields(held, _plain(config)))
    if names:
      raise ValueError(
          f"workdir must hold a run of this config, got {self.path}, which"
          f" differs in {', '.join(names)}."
      )

  def claim(self, config: ml_collections.ConfigDict) -> None:
    """Makes the folder this config's; see `check`."""
    self.check(config)
    self.path.mkdir(parents=True, exist_ok=True)
    _write_json(self.path / "config.json", _plain(config))

  def read_config(self) -> dict[str, Any] | None:
    """Returns config.json as a dict, or None if there is none."""
    return _read_json(self.path / "config.json")

  def read_summary(self) -> dict[str, Any] | None:
    """Returns summary.json as a dict, or None for a run that is not over."""
    return _read_json(self.path / "summary.json")

  def write_summary(self, summary: Mapping[str, Any]) -> None:
    """Writes summary.json in one go: it says that the run is over."""
    _write_json(self.path / "summary.json", summary)

  def write_audit(self, audit: Mapping[str, Any]) -> None:
    """Writes audit.json: what an audited run has in place of a summary."""
    _write_json(self.path / "audit.json", audit)

  def keep_metrics_until(self, step: int) -> None:
    """Drops lines beyond `step`: a resumed run writes these again."""
    kept = [m for m in self.read_metrics() if m["step"] <= step]
    text = "".join(json.dumps(metrics) + "\n" for metrics in kept)
    _write_text(self.path / "metrics.jsonl", text)

  def read_metrics(self) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl; one cut short by a kill is left."""
    path = self.path / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    metrics = []
    for number, line in enumerate(lines, start=1):
      try:
        metrics.append(json.loads(line))
      except ValueError as error:
        if number < len(lines):
          raise ValueError(
              f"{path} must hold JSON lines, got {error}."
          ) from error
    return metrics

  def append_metrics(self, metrics: Mapping[str, Any]) -> None:
    """Appends one line to metrics.jsonl."""
    with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
      file.write(json.dumps(metrics) + "\n")


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the config as JSON would give it back."""
  return json.loads(config.to_json())


def params_sha256(params: Any) -> str:
  """Returns a digest of the names, shapes, dtypes and bits of a pytree."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    array = np.asarray(leaf)
    name = jax.tree_util.keystr(path)
    digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def _differing_fields(a: Any, b: Any, prefix: str = ""):
  """Yields the dotted names of fields in which two configs differ."""
  if not (isinstance(a, dict) and isinstance(b, dict)):
    if a != b:
      yield prefix
    return
  for key in a.keys() | b.keys():
    name = f"{prefix}.{key}" if prefix else key
    yield from _differing_fields(a.get(key), b.get(key), name)


def _read_json(path: pathlib.Path) -> dict[str, Any] | None:
  if not path.exists():
    return None
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise ValueError(f"{path} must hold JSON, got {error}.") from error
  if not isinstance(value, dict):
    raise ValueError(f"{path} must hold a JSON object, got {value!r}.")
  return value


def _write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
  _write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def _write_text(path: pathlib.Path, text: str) -> None:
  partial = path.with_name(path.name + ".partial")
  with open(partial, "w", encoding="utf-8") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())  # Else a power cut may leave the name, no bytes.
  os.replace(partial, path)
