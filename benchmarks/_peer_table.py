"""Checks what the workers computed, and turns their times into a table.

A record is a dict, one line of the JSON file: network, batch_size, library,
method, label, versions, threads, load_before (the machine's load average), and
either `error` or what was measured (num_parameters, norm, deviation,
first_seconds with compilation, step_seconds: one number a round). Invariant:
a contestant has a row whatever happened to it, and one whose sum is wrong has
no time in it.

>>> record = {"network": "mlp", "batch_size": 4, "label": "ours, ghost",
...           "method": "ghost", "num_parameters": 9,
...           "step_seconds": [1.0, 2.0, 4.0]}
>>> rate(record)
2.0
"""

import json
import math
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import table, text

Record = dict[str, Any]
# A parameter's gradient may differ by this much of the whole sum's norm.
TOLERANCE = 1e-4
_OURS = ("ours", "ghost")


def check(
    leaf_norms: Mapping[str, float],
    reference: Mapping[str, float] | None,
    *,
    norm_bound: float | None,
) -> Record:
  """Compares a gradient with a reference, parameter by parameter.

  Args:
    leaf_norms: parameter name to the norm of its gradient.
    reference: the same of another library; None if this one comes first.
    norm_bound: what the norm of all together must not exceed, or None.

  Returns:
    `norm`, that norm; and `deviation`, the largest difference over the
    reference's norm, or None without a reference.

  Raises:
    ValueError: if the names differ, the norm is not a number or above its
      bound, or the difference above `TOLERANCE`.
  """
  norm = math.hypot(*leaf_norms.values())
  bound = math.inf if norm_bound is None else norm_bound * (1 + TOLERANCE)
  if not (math.isfinite(norm) and norm <= bound):
    raise ValueError(f"the sum's norm must be <= {norm_bound}, got {norm}.")
  if reference is None:
    return {"norm": norm, "deviation": None}
  if set(leaf_norms) != set(reference):
    names = sorted(set(leaf_norms) ^ set(reference))
    raise ValueError(f"the parameters must be the others', got {names} amiss.")
  total = math.hypot(*reference.values())
  deviation = max(abs(leaf_norms[k] - reference[k]) for k in reference) / total
  if not deviation <= TOLERANCE:
    raise ValueError(
        f"the sum must be the others' within {TOLERANCE:g}, got a difference"
        f" of {deviation:.2g}."
    )
  return {"norm": norm, "deviation": deviation}


def rate(record: Record) -> float | None:
  """Returns examples a second from the median round, or None if it failed.

  Args:
    record: of a contestant.
  """
  if "error" in record:
    return None
  return record["batch_size"] / statistics.median(record["step_seconds"])


def build(records: Sequence[Record]) -> table.Table:
  """Returns one table, a row a record, a section a network.

  Args:
    records: in the order of the rows.
  """
  result = table.Table(title=_title(records), title_justify="left")
  result.add_column("gradient by", min_width=24)
  for name in ("examples/s", "ms a step", "quartiles", "of ours"):
    result.add_column(name, justify="right", no_wrap=True)
  for network in dict.fromkeys(r["network"] for r in records):
    rows = [r for r in records if r["network"] == network]
    ours = _rate_of_ours(rows)
    result.add_row(text.Text(_heading(rows), style="bold"))
    for record in rows:
      result.add_row(*_cells(record, ours))
    result.add_section()
  return result


def _cells(record, ours):
  speed = rate(record)
  if speed is None:
    # Not a string, in which rich would read "[...]" as markup.
    return text.Text(f"{record['label']}: {record['error']}"), "-"
  times = [1e3 * s for s in record["step_seconds"]]
  low, middle, high = (
      _short(t) for t in statistics.quantiles(times, n=4, method="inclusive")
  )
  beside = "" if ours is None else f"{speed / ours:.2g}"
  return record["label"], _short(speed), middle, f"{low}-{high}", beside


def _short(value: float) -> str:
  return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rate_of_ours(rows):
  """Examples a second of our ghost clipping, which others are put beside."""
  found = [rate(r) for r in rows if (r["library"], r["method"]) == _OURS]
  return found[0] if found else None


def _heading(rows):
  counts = {r["num_parameters"] for r in rows if "num_parameters" in r}
  lines = [rows[0]["network"], f"batch {rows[0]['batch_size']}"]
  lines += [f"{count:,} parameters" for count in sorted(counts)]
  return "\n".join(lines)


def _title(records):
  versions: dict[str, str] = {}
  threads = set()
  for record in records:
    versions |= record.get("versions", {})
    threads |= {record["threads"]} if "threads" in record else set()
  packages = ", ".join(f"{k} {v}" for k, v in versions.items())
  counts = " and ".join(str(t) for t in sorted(threads))
  loads = [f"{r['load_before']:.2g}" for r in records if "load_before" in r]
  busy = f"; load average {loads[0]} before the run" if loads else ""
  return f"float32, CPU, {counts} threads each{busy}; {packages}"


def write(records: Iterable[Record], path: pathlib.Path) -> None:
  """Writes records, one JSON object a line.

  Args:
    records: of contestants.
    path: a file, replaced if there.
  """
  path.write_text("".join(json.dumps(r) + "\n" for r in records))


def read(path: pathlib.Path) -> list[Record]:
  """Returns the records of a file that `write` made.

  Args:
    path: the file.
  """
  return [json.loads(line) for line in path.read_text().splitlines()]
