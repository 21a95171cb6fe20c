"""The launcher: trains, evaluates and reports what a config describes.

Here are its commands. `tasks` are what a run can learn, with `metrics` to
judge it by; `plan` turns a config into the objects of a run, `run` trains and
keeps it, `evaluation` and `audits` look at what came out, `release` gives it to
other programs. `experiments.load(workdir)` returns a run's model. Imports go
one way: commands -> audits, release -> evaluation -> run -> plan -> tasks ->
metrics.
"""

from typing import Any as _Any

from jax_privacy import _extras

with _extras.needed("experiments"):
  import flax as _flax  # noqa: F401
  import ml_collections as _ml_collections  # noqa: F401
  import orbax.checkpoint as _checkpoint  # noqa: F401
  import rich as _rich  # noqa: F401

__all__ = ("load",)


def __getattr__(name: str) -> _Any:
  # Only when it is asked for: it imports most of the launcher.
  if name == "load":
    from experiments.release import model

    return model.load
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
