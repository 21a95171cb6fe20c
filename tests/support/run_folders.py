"""Folders of runs, written by hand: what a page shows of them takes no run."""

import json

from tests.support import records

# No number of a test is equal to these by chance.
LOSS, CLIPPED, NORM = 0.7351246, 0.6134572, 4.1928374


def config(**changes):
  return records.config(**{"data.source": "digits", **changes}) | {
      "task": {"name": "classification", "options": {}}
  }


def metrics(num_lines=4, *, num_steps=50):
  lines = []
  for number in range(1, num_lines + 1):
    lines.append(
        {
            "step": number * num_steps // num_lines,
            "epsilon": 0.25 * number,
            "examples_per_second": 1000.0 + number,
            "train_seconds": float(number),
            "private_not_for_release": {
                "loss": LOSS + number,
                "clipped_fraction": CLIPPED,
                "grad_norm_quantiles": {"0.05": 0.5, "0.95": NORM},
            },
        }
    )
  return lines


def evaluation(rows, **facts):
  """What `evaluate --json` writes, of classes with these accuracies."""
  of_class = {
      name: {"value": v, "standard_error": 0.01, "num_examples": 9}
      for name, v in rows.items()
  }
  return {
      "num_examples": 9 * len(rows),
      "step": 50,
      "split": "test",
      "params": {"ema": {"class": {"rows": of_class, **facts}}},
  }


def write(folder, *, summary=None, own=None, lines=None, **files):
  """Writes a finished run; None leaves a file out, and a text is itself.

  Args:
    folder: Where.
    summary: Changes of summary.json; False for none.
    own: Changes of dotted fields of config.json.
    lines: Lines of metrics.jsonl, or its text.
    **files: Other files by name, "_" for ".".
  """
  folder.mkdir(parents=True, exist_ok=True)
  if summary is not False:
    headline = {"metric": "accuracy", "params": "ema", "value": 0.91}
    headline |= {"values": {"ema": 0.91, "last": 0.9}, "is_share": True}
    found = records.summary(
        task="classification", name="small", headline=headline
    )
    found |= {"eval_params": "ema", "test_examples": 40} | (summary or {})
    (folder / "summary.json").write_text(json.dumps(found))
  (folder / "config.json").write_text(json.dumps(config(**(own or {}))))
  lines = metrics() if lines is None else lines
  if not isinstance(lines, str):
    lines = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / "metrics.jsonl").write_text(lines)
  for name, content in files.items():
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name.replace("_", ".")).write_text(text)
  return folder
