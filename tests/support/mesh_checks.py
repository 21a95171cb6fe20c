"""Runs checks that need several devices: each compares a mesh with one device.

Run as a program, `python -m tests.support.mesh_checks NAME...`, with eight CPU
devices: their number is fixed when JAX starts, so no test can ask for them by
itself, and one start serves many checks. Prints one JSON object: each check's
traceback, or null. A check is a function `check_NAME` of one of the modules
below.
"""

import json
import sys
import time
import traceback

import jax

from tests.support import (
    mesh_compiled,
    mesh_layers,
    mesh_noise,
    mesh_sums,
    one_context,
)


def _find(name):
  for module in (mesh_sums, mesh_noise, mesh_compiled, mesh_layers):
    if hasattr(module, f"check_{name}"):
      return getattr(module, f"check_{name}")
  raise ValueError(f"No check is called {name}.")


def main():
  one_context.share()
  jax.config.update("jax_numpy_rank_promotion", "raise")
  jax.config.update("jax_numpy_dtype_promotion", "strict")
  found = {}
  for name in sys.argv[1:]:
    start = time.process_time()
    try:
      _find(name)()
      found[name] = None
    except Exception:  # Told to the test, whatever it is.
      found[name] = traceback.format_exc()
    print(f"{time.process_time() - start:.1f} s {name}", file=sys.stderr)
  print(json.dumps(found))


if __name__ == "__main__":
  main()
