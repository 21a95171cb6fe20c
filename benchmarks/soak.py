"""Kills a training run at random, again and again, and checks what is left.

  python -m benchmarks.soak --minutes=10 --seed=0 --json=soak.json

Trains a small config once without a break. Then, until the time is over and
there were enough kills, trains it in a child process that is killed at random
moments and started again until it is done: by SIGKILL anywhere in its life, by
SIGKILL aimed at a checkpoint being saved, or by SIGTERM. A moment is a number
of steps or saves that were seen, so a slow machine sees as many kills as any.
Prints, and writes as JSON, what `Tally` holds.

Invariant: only the command line is used and only the files of a run are read,
as by someone who lost their machine. Exit code 1 if a step was lost, a number
differs from the unbroken run's, or a process ended in an error.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

_ROOT = pathlib.Path(__file__).parents[1]
_CONFIG = "configs/digits_cnn.py:smoke=True"
# Calibrated noise and a PLD for every line would take longer than the steps.
_FLAGS = (
    "--config.dp.epsilon=None",
    "--config.dp.noise_multiplier=2.0",
    "--config.dp.accountant=rdp",
    "--config.log_every=1",
)
_KINDS = ("kill", "kill_at_save", "term")
# Private, as the loss is, but it must not change either.
_TIMES = ("train_seconds", "examples_per_second", "peak_memory_bytes")


@dataclasses.dataclass
class Tally:
  """What happened.

  Attributes:
    runs: Runs that were trained to their end, in spite of kills.
    starts: Child processes, for all runs but the unbroken one.
    steps: Steps of those runs, each counted once.
    redone_steps: Steps that a kill undid and that were run again.
    kills: SIGKILLs at a random moment.
    kills_at_save: SIGKILLs when a save was seen to begin.
    terms: SIGTERMs.
    clean_terms: Of these, how many ended with exit code 0.
    saves_hit: Kills that left an unfinished save behind.
    kills_before_a_step: Kills while the process was still starting.
    lost_steps: Steps missing from metrics.jsonl, there twice, or missing from
      the number of steps in the summary.
    differing_runs: Runs whose summary or any line of metrics.jsonl differs from
      the unbroken run's, time and memory apart; but a line's epsilon may be
      larger: it counts the steps that a kill undid.
    errors: The last line on standard error of processes that failed.
  """

  runs: int = 0
  starts: int = 0
  steps: int = 0
  redone_steps: int = 0
  kills: int = 0
  kills_at_save: int = 0
  terms: int = 0
  clean_terms: int = 0
  saves_hit: int = 0
  kills_before_a_step: int = 0
  lost_steps: int = 0
  differing_runs: int = 0
  errors: list[str] = dataclasses.field(default_factory=list)

  @property
  def all_kills(self) -> int:
    """Of every kind."""
    return self.kills + self.kills_at_save + self.terms

  @property
  def passed(self) -> bool:
    """Whether nothing was lost, changed or failed, and a run was finished."""
    return self.runs > 0 and not (
        self.lost_steps or self.differing_runs or self.errors
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What is trained.

  Attributes:
    flags: Of `experiments.train`, without the folder.
    num_steps: How many steps that is.
  """

  flags: tuple[str, ...]
  num_steps: int

  def start(self, workdir: pathlib.Path) -> subprocess.Popen:
    """Starts a child process; its output goes beside the folder."""
    with open(f"{workdir}.out", "wb") as out, open(f"{workdir}.err", "wb") as e:
      return subprocess.Popen(
          [sys.executable, "-m", "experiments.train", *self.flags]
          + [f"--workdir={workdir}"],
          cwd=_ROOT,
          stdout=out,
          stderr=e,
          env={**os.environ, **_cache(workdir.parent / "compiled")},
      )


def _cache(folder) -> dict[str, str]:
  """Has programs compiled once for all children: time for more kills."""
  return {
      "JAX_COMPILATION_CACHE_DIR": str(folder),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }


def soak(
    job: Job,
    folder: pathlib.Path,
    *,
    seconds: float,
    kills: int,
    rng: random.Random,
) -> Tally:
  """Trains, kills and compares until there is enough of both.

  Args:
    job: What is trained.
    folder: For the files of the runs; an unbroken one stays in it.
    seconds: When no new run is started, counted from the end of the unbroken
      one; the last is still finished.
    kills: How many there must be, of any kind, whatever time that takes.
    rng: Of the kinds and moments of kills.

  Returns:
    What happened.

  Raises:
    RuntimeError: If the unbroken run fails.
  """
  whole = folder / "whole"
  before = _seconds_of_children()
  if job.start(whole).wait():
    raise RuntimeError(_last_line(whole))
  life = _seconds_of_children() - before
  tally, end = Tally(), time.monotonic() + seconds
  while not tally.errors:
    if time.monotonic() >= end and tally.all_kills >= kills:
      break
    workdir, reached = folder / "killed", 0
    while not (workdir / "summary.json").exists() and not tally.errors:
      _live(job, workdir, tally, life=life, rng=rng)
      first, last = _first_step(workdir), _last_step(workdir)
      if first is not None:
        tally.redone_steps += max(0, reached - first + 1)
        reached = last
    if not tally.errors:
      _compare(job, whole, workdir, tally)
      shutil.rmtree(workdir)
  return tally


def _seconds_of_children() -> float:
  """What they computed for, and not how long they waited for a machine."""
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  return usage.ru_utime + usage.ru_stime


def _live(job, workdir, tally, *, life, rng) -> None:
  """Starts a child, and kills it, or lets it end."""
  kind = rng.choice((*_KINDS, None))
  stale = _unfinished(workdir)
  process = job.start(workdir)
  tally.starts += 1
  if kind == "kill_at_save":
    _wait_for_saves(process, workdir, rng.randint(1, 6))
    time.sleep(rng.uniform(0, 0.03))
  else:
    # Half of the kills come while it starts, or soon after.
    steps = rng.choice((0, rng.randint(1, job.num_steps // 2)))
    _wait_for_steps(process, workdir, math.inf if kind is None else steps)
    if not steps:
      _wait(process, rng.uniform(0, life))
  alive = process.poll() is None
  if alive:
    process.send_signal(signal.SIGTERM if kind == "term" else signal.SIGKILL)
  code = process.wait()
  if alive:
    _count(kind, code, workdir, tally, stale=stale)
  elif code:
    tally.errors.append(f"exit code {code}: {_last_line(workdir)}")


def _count(kind, code, workdir, tally, *, stale) -> None:
  """Counts a kill, by kind and by what it hit."""
  starting = _first_step(workdir) is None
  tally.kills += kind == "kill"
  tally.kills_at_save += kind == "kill_at_save"
  tally.terms += kind == "term"
  tally.clean_terms += kind == "term" and code == 0
  tally.kills_before_a_step += starting
  tally.saves_hit += bool(_unfinished(workdir) - stale)
  allowed = {0, -signal.SIGKILL}
  if kind == "term":  # While it starts, it ends as any process does.
    allowed = {0, -signal.SIGTERM} if starting else {0}
  if code not in allowed:
    tally.errors.append(f"{kind}, exit code {code}: {_last_line(workdir)}")


def _wait(process, seconds) -> None:
  """Returns after so many seconds, or at the end."""
  end = time.monotonic() + seconds
  while process.poll() is None and time.monotonic() < end:
    time.sleep(0.005)


def _wait_for_steps(process, workdir, number) -> None:
  """Returns once it has shown that many steps, or at the end."""
  while process.poll() is None and len(_steps(workdir)) < number:
    time.sleep(0.001)


def _wait_for_saves(process, workdir, number) -> None:
  """Returns when so many saves have been seen to begin, or at the end."""
  seen = set(_unfinished(workdir))
  while process.poll() is None:
    new = _unfinished(workdir) - seen
    seen |= new
    number -= len(new)
    if number <= 0:
      return
    time.sleep(0.001)


def _unfinished(workdir) -> set[str]:
  """The saves that are under way: Orbax renames them when they are done."""
  checkpoints = workdir / "checkpoints"
  if not checkpoints.exists():
    return set()
  return {path.name for path in checkpoints.iterdir() if "tmp" in path.name}


def _first_step(workdir) -> int | None:
  """The first step that the last child showed."""
  return next(iter(_steps(workdir)), None)


def _steps(workdir) -> list[int]:
  """The steps that the last child showed."""
  text = pathlib.Path(f"{workdir}.out").read_text()
  return [int(n) for n in re.findall(r"^step (\d+)/", text, re.MULTILINE)]


def _last_step(workdir) -> int:
  lines = _metrics(workdir)
  return lines[-1]["step"] if lines else 0


def _metrics(workdir) -> list[dict[str, Any]]:
  """The whole lines of metrics.jsonl, without times."""
  path = workdir / "metrics.jsonl"
  if not path.exists():
    return []
  text = path.read_text()
  lines = [
      json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()
  ]
  return [_timeless(line) for line in lines]


def _timeless(fields: dict[str, Any]) -> dict[str, Any]:
  return {key: value for key, value in fields.items() if key not in _TIMES}


def _compare(job, whole, workdir, tally) -> None:
  """Compares a run that is over with the unbroken one."""
  got, want = _metrics(workdir), _metrics(whole)
  steps = [line["step"] for line in got]
  summaries = [
      _timeless(json.loads((path / "summary.json").read_text()))
      for path in (workdir, whole)
  ]
  missing = set(range(1, job.num_steps + 1)) - set(steps)
  tally.lost_steps += len(missing) + len(steps) - len(set(steps))
  tally.lost_steps += abs(summaries[0]["num_steps"] - job.num_steps)
  tally.differing_runs += summaries[0] != summaries[1] or not _agree(got, want)
  tally.runs += 1
  tally.steps += job.num_steps


def _agree(got, want) -> bool:
  """Whether all lines are those of the unbroken run, or tell more epsilon."""
  if any(a["epsilon"] < b["epsilon"] for a, b in zip(got, want, strict=False)):
    return False
  for line in (*got, *want):
    del line["epsilon"]
  return str(got) == str(want)  # As text: a loss that is NaN equals itself.


def _last_line(workdir) -> str:
  lines = pathlib.Path(f"{workdir}.err").read_text().strip().splitlines()
  return lines[-1] if lines else ""


def main() -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--minutes", type=float, default=10.0)
  parser.add_argument("--kills", type=int, default=1)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--config", default=_CONFIG)
  parser.add_argument("--num-steps", type=int, default=1000)
  parser.add_argument("--save-every", type=int, default=25)
  parser.add_argument("--json", type=pathlib.Path)
  args = parser.parse_args()
  flags = (
      f"--config={args.config}",
      *_FLAGS,
      f"--config.train.num_steps={args.num_steps}",
      f"--config.save_every={args.save_every}",
  )
  with tempfile.TemporaryDirectory() as folder:
    tally = soak(
        Job(flags=flags, num_steps=args.num_steps),
        pathlib.Path(folder),
        seconds=60 * args.minutes,
        kills=args.kills,
        rng=random.Random(args.seed),
    )
  report = {"settings": {**vars(args), "json": None}}
  report |= dataclasses.asdict(tally) | {"passed": tally.passed}
  text = json.dumps(report, indent=2)
  print(text)
  if args.json:
    args.json.write_text(text + "\n", encoding="utf-8")
  sys.exit(0 if tally.passed else 1)


if __name__ == "__main__":
  main()
