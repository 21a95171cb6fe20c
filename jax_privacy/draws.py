"""The version of what a key draws: batches, noise and random views.

The invariant: two versions of this project with the same `VERSION` draw the
same numbers from the same key. Only then may a lost step be taken again: with
other noise it would cost its privacy a second time.

If you change a draw, add one to `VERSION` and pin the new draws in
`tests/jax_privacy/test_draws.py`, which fails until then. Draws are independent
from step to step today, so a run that lost no step may go on under another
version. A draw that spans steps (groups of a cycle, correlated noise) may not.
If you add one, also add a rule that refuses this in
`experiments/run/resume.py`.

Example:
  >>> from jax_privacy import draws
  >>> sorted(draws.versions())
  ['draws', 'jax', 'jax-privacy-toolkit', 'jaxlib', 'numpy', 'scipy']
"""

import functools
import importlib.metadata

VERSION = 1
UNKNOWN = "unknown"

PROJECT = "jax-privacy-toolkit"
# Other versions of these may draw other bits from the same key.
# SciPy inverts the normal distribution for secure noise.
_PACKAGES = (PROJECT, "jax", "jaxlib", "numpy", "scipy")


def versions() -> dict[str, str]:
  """Returns the version of all that a draw depends on, by name."""
  found = {name: package_version(name) for name in _PACKAGES}
  return {"draws": str(VERSION), **found}


@functools.cache  # A run asks dozens of times, and each reads a file.
def package_version(name: str) -> str:
  """Returns an installed package's version, or "unknown" for a checkout's.

  Args:
    name: Name of the distribution.
  """
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return UNKNOWN
