"""Of a test with many cases, `make test` runs few, and `make test-slow` all.

`@pytest.mark.few(3)` keeps three, from the first to the last at even distances,
and marks the others `slow`. A case that is asked for by its name is run.
"""

import collections

import pytest


def mark(items) -> None:
  """Marks the cases that are over, of those that pytest collected."""
  functions = collections.defaultdict(list)
  for item in items:
    if item.get_closest_marker("few") and not item.get_closest_marker("slow"):
      functions[item.nodeid.split("[")[0]].append(item)
  for cases in functions.values():
    kept = spread(len(cases), *cases[0].get_closest_marker("few").args)
    for i, case in enumerate(cases):
      if i not in kept:
        case.add_marker(pytest.mark.slow)


def spread(cases: int, few: int) -> set[int]:
  """Positions of `few` of the cases: the first, the last, some in between."""
  if few >= cases:
    return set(range(cases))
  return {i * (cases - 1) // max(few - 1, 1) for i in range(few)}
