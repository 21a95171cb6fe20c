"""Runs commands in children of one process that has imported JAX already.

  python -m tests.support.command_server

A line of JSON on its input names a module, flags, a umask, and files for what
is printed; a line with the exit code answers. The child is what `python -m`
makes, from its own `sys.argv` to the end of the interpreter, but for imports,
which were most of a short command's time, and for what `conftest.py` makes
cheap. No flag is defined and no backend started before the fork.
"""

import importlib
import json
import os
import runpy
import sys
import warnings

from tests.support import eager_moves, garbage, one_context, short_errors

# What the commands import, but no module that defines a flag.
_IMPORTED = (
    "flax.nnx", "optax", "orbax.checkpoint", "ml_collections.config_flags",
    "scipy.signal", "scipy.stats", "sklearn.datasets", "accounting",
    "jax_privacy", "experiments.plan.experiment", "experiments.run.loop",
    "experiments.run.log", "experiments.run.resume", "experiments.run.summary",
)  # fmt: skip


def _serve():
  """Answers until the input ends; returns the request, in a child."""
  for line in sys.stdin:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # OpenBLAS has threads, and can fork.
      child = os.fork()
    if not child:
      return json.loads(line)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
  return None


def _become(request):
  for number, path in enumerate((os.devnull, *request["files"])):
    file = os.open(path, os.O_RDWR)
    os.dup2(file, number)
    os.close(file)
  os.umask(request["umask"])
  sys.argv = [request["module"], *request["flags"]]
  runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  sys.path[0] = ""  # As `python -m` has it: the checkout.
  for _name in _IMPORTED:
    importlib.import_module(_name)
  for _made_cheap in (one_context, eager_moves, short_errors):
    _made_cheap.share()
  garbage.look_less()
  _request = _serve()
  if _request is not None:
    _become(_request)
