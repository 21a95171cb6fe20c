"""Settings every test runs under.

Strict promotion makes an unintended broadcast or a silent change of dtype an
error here, so that none can hide in the library.

Compiled programs are kept in a folder of their own for the length of one
session of tests, small ones too: workers, runs of the launcher and commands
compile the same ones. What is kept is the machine code, so no number differs.

Compiling was three quarters of the time, most of it in LLVM. The tests are of
the algebra, the bits of a run, and rounding's bounds, not of LLVM, so its
costly passes are left out here; XLA's own (fusion, the partitioner) are not.
Nor is a program split into parts that are compiled at the same time: most are
so small that this takes twice as long. What JAX makes anew for each program is
made once (`support/one_context.py`), and what only moves numbers about, outside
of `jax.jit`, is no program (`support/eager_moves.py`); an error that nobody
reads is short (`support/short_errors.py`). `FULL_XLA=1` does none of this:
`make test-slow` has it so for tests marked `full_xla`, and `make test-portable`
in its configuration "sse42".
"""

import atexit
import importlib.metadata
import os
import shutil
import signal
import tempfile

_FAST = "--xla_backend_optimization_level=0"
_FAST += " --xla_llvm_disable_expensive_passes=true"
_FAST += " --xla_cpu_parallel_codegen_split_count=1"
if importlib.metadata.version("jaxlib").startswith("0.10."):
  # Its older way to write loops, which 0.12 no longer has, takes half as long.
  _FAST += " --xla_cpu_use_fusion_emitters=false"
# Added to what the caller set. Workers inherit it, and must not add it twice.
if not os.environ.get("FULL_XLA") and _FAST not in os.environ.get(
    "XLA_FLAGS", ""
):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FAST}".strip()

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _folder = tempfile.mkdtemp(prefix="compiled-")
  atexit.register(shutil.rmtree, _folder, ignore_errors=True)
  # Workers and commands that tests start inherit these; JAX reads them when it
  # is imported.
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _folder
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# What a shell starts in the background ignores Ctrl-C, and so does all that it
# starts: tests that send it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402
import jax  # noqa: E402  (After its environment is set.)
import pytest  # noqa: E402

from tests.support import (  # noqa: E402
    eager_moves,
    few_cases,
    garbage,
    one_context,
    short_errors,
)

for _made_cheap in (one_context, eager_moves, short_errors):
  _made_cheap.share()

# The same examples in every run: a failure in CI is a failure here. The `slow`
# tests that look further choose new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# They start whole programs, one after the other: begun last, they would leave
# the other workers without work.
_LONGEST = ("tests/test_readme.py", "tests/experiments/run/test_kill.py")


@pytest.hookimpl(tryfirst=True)  # Before -m chooses by marks.
def pytest_collection_modifyitems(items):
  """Runs the longest first; of tests marked `few`, makes the rest slow."""
  few_cases.mark(items)
  items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))


def pytest_collection_finish():
  """All that is imported is there."""
  garbage.look_less()
