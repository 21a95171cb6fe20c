"""Runs the contestants of `benchmarks.peers` in turns.

Invariant: one process computes at a time, and every contestant has a record,
with its times or with the reason why it has none.

>>> [c.label for c in CONTESTANTS if c.library == "ours"]
['ours, ghost', 'ours, vmap', 'non-private JAX']
"""

import contextlib
import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from benchmarks import _peer_environments, _peer_table
from benchmarks._peer_environments import PeerError, Worker
from benchmarks._peer_table import Record
from benchmarks.peer_workers.peer_networks import NETWORKS

Workers: TypeAlias = Mapping[str, Worker | PeerError]
# Between two rounds, for the threads of the last process to fall asleep.
_PAUSE = 0.1


@dataclasses.dataclass(frozen=True)
class Contestant:
  """A row of the table: a method of a library."""

  library: str
  method: str
  label: str


CONTESTANTS = (
    Contestant("ours", "ghost", "ours, ghost"),
    Contestant("ours", "vmap", "ours, vmap"),
    Contestant("jax-privacy", "default", "jax-privacy clipped_grad"),
    # For the MLP at batch 16 a step took 0.027 s, and 15 s by the line above.
    Contestant("jax-privacy", "one_by_one", "jax-privacy, one by one"),
    Contestant("opacus", "hooks", "Opacus hooks"),
    Contestant("opacus", "ghost", "Opacus ghost"),
    Contestant("ours", "none", "non-private JAX"),
    Contestant("opacus", "none", "non-private PyTorch"),
)
_ENVIRONMENT_OF = {"jax-privacy": "jax", "opacus": "torch"}


def start_workers(
    stack: contextlib.ExitStack, *, envs: pathlib.Path, logs: pathlib.Path
) -> Workers:
  """Starts one worker a library.

  Args:
    stack: what ends them.
    envs: where environments are, or will be.
    logs: an existing folder for their standard error.

  Returns:
    By library, its worker, or why there is none.
  """
  threads = str(_peer_environments.num_threads())
  scripts = {
      "ours": ("worker_jax.py", "jax-privacy-toolkit"),
      "jax-privacy": ("worker_jax.py", "jax-privacy"),
      "opacus": ("worker_torch.py", threads),
  }
  workers: dict[str, Worker | PeerError] = {}
  for library, (script, argument) in scripts.items():
    _say(f"starting {library}")
    try:
      worker = Worker(
          _python(library, envs),
          script=script,
          argument=argument,
          log=logs / f"{library}.log",
          ours=library == "ours",
      )
    except PeerError as error:
      workers[library] = error
    else:
      workers[library] = stack.enter_context(contextlib.closing(worker))
  return workers


def _python(library, envs):
  if library not in _ENVIRONMENT_OF:
    return sys.executable
  name = _ENVIRONMENT_OF[library]
  return _peer_environments.build(_peer_environments.ENVIRONMENTS[name], envs)


def measure(
    workers: Workers,
    model: str,
    *,
    batch_size: int,
    seconds: float,
    rounds: int,
) -> list[Record]:
  """Times one model by every method that can run it.

  Args:
    workers: by library, a worker or why there is none.
    model: a key of `peer_networks.NETWORKS`.
    batch_size: examples.
    seconds: of computing for each contestant, about. A step is never cut, so
      a slow one takes longer, in fewer rounds: two at least.
    rounds: that these are divided into, at least two.

  Returns:
    A record for each contestant (see `_peer_table`).
  """
  records = [
      {"network": model, "batch_size": batch_size, **dataclasses.asdict(c)}
      for c in CONTESTANTS
      if NETWORKS[model].in_torch or c.library != "opacus"
  ]
  _prepare(workers, records)
  for i in range(rounds):
    live = [r for r in records if _has_time_left(r, i, seconds)]
    start = i % max(1, len(live))
    for record in live[start:] + live[:start]:
      _run_round(workers, record, seconds / rounds)
  for worker in workers.values():
    with contextlib.suppress(PeerError):
      _ask(worker, do="release")
  return records


def _prepare(workers, records):
  """Compiles each step, and compares what it returns with the others'."""
  references: dict[bool, Mapping[str, float]] = {}
  # The plainest method first, since the first is what others are held to.
  for record in sorted(records, key=lambda r: r["method"] != "vmap"):
    worker = workers[record["library"]]
    with _noting_errors(record):
      answer = _ask(
          worker,
          do="prepare",
          network=record["network"],
          method=record["method"],
          batch_size=record["batch_size"],
      )
      record |= {k: worker.facts[k] for k in ("versions", "threads")}
      private = record["method"] != "none"
      norms = answer.pop("leaf_norms")
      record |= answer | _peer_table.check(
          norms,
          references.get(private),
          norm_bound=_norm_bound(record) if private else None,
      )
      record |= {"step_seconds": [], "spent_seconds": 0.0}
      references.setdefault(private, norms)
      _say(f"{record['network']}: {record['label']} is ready")


def _has_time_left(record, num_rounds, seconds):
  if "error" in record:
    return False
  return num_rounds < 2 or record["spent_seconds"] < seconds


def _norm_bound(record):
  return record["batch_size"] * NETWORKS[record["network"]].clip_norm


def _run_round(workers, record, seconds):
  steps = max(1, round(seconds / record["warm_seconds"]))
  time.sleep(_PAUSE)
  with _noting_errors(record):
    answer = _ask(
        workers[record["library"]],
        do="round",
        method=record["method"],
        steps=steps,
    )
    record["step_seconds"].append(answer["seconds"] / steps)
    record["spent_seconds"] += answer["seconds"]


def _ask(worker: Worker | PeerError, **request: Any) -> dict[str, Any]:
  if isinstance(worker, PeerError):
    raise worker
  return worker.ask(**request)


@contextlib.contextmanager
def _noting_errors(record: Record) -> Iterator[None]:
  """Turns a failure into the record's reason."""
  try:
    yield
  except (PeerError, ValueError) as error:
    record["error"] = str(error)
    _say(f"{record['network']}: {record['label']}: {error}")


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
