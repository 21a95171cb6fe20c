"""In place of `experiments.train`, for the tests of sweeps: no run at all.

Its result follows from its learning rate; 13 fails, and 17 is killed. It writes
down that it was started, and by which flags.
"""

import json
import os
import pathlib
import re
import signal
import sys


def main():
  flags = dict(
      re.match(r"--([\w.]+)=(.*)", each).groups() for each in sys.argv[1:]
  )
  folder = pathlib.Path(flags["workdir"])
  folder.mkdir(parents=True, exist_ok=True)
  with (folder.parent / "started.txt").open("a") as file:
    file.write(json.dumps(flags) + "\n")
  rate = float(flags["config.train.learning_rate"])
  if rate == 13:
    print("error: the learning rate is 13.", file=sys.stderr)
    sys.exit(2)
  if rate == 17:
    os.kill(os.getpid(), signal.SIGKILL)
  summary = json.loads(pathlib.Path(os.environ["STUB_SUMMARY"]).read_text())
  head = {"metric": "accuracy", "is_share": True, "params": "ema"}
  head["value"] = 1 / (1 + abs(rate - 0.5))
  summary |= {"headline": head, "seed": int(flags["config.seed"])}
  (folder / "config.json").write_text(json.dumps({"seed": summary["seed"]}))
  # Whole or not at all, as a run's: a signal may come at any time.
  (folder / "summary.new").write_text(json.dumps(summary))
  (folder / "summary.new").rename(folder / "summary.json")


if __name__ == "__main__":
  main()
