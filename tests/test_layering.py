"""The import table: which folder may import what of this project.

It is read off the syntax trees, so imports inside functions count too.
"""

import ast
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_OURS = ("accounting", "jax_privacy", "experiments", "configs", "tests")

# What any part of experiments may import.
_OUTSIDE = ("accounting", "jax_privacy", "configs")
_TASKS = ("experiments.metrics", "experiments.tasks")
_PLAN = (*_TASKS, "experiments.plan")

# Folder -> prefixes of our own modules that it may import; the longest prefix
# of a file's module name that stands here decides. A name with "-" before it
# is forbidden though a shorter one allows it.
_TABLE = {
    # numerics <- public files <- budget.
    "accounting": ("accounting", "-accounting.budget"),
    "accounting.numerics": ("accounting.numerics", "accounting._validate"),
    "accounting.budget": ("accounting", "-accounting.numerics"),
    "jax_privacy": (
        "jax_privacy",
        "-jax_privacy.models",
        "-jax_privacy.data",
        "-jax_privacy.auditing",
    ),
    # A layer that the ghost method knows is defined in the core.
    "jax_privacy.models": (
        "jax_privacy.models",
        "jax_privacy._extras",
        "jax_privacy._validate",
        "jax_privacy.weight_standardisation",
    ),
    "jax_privacy.data": (
        "jax_privacy.data",
        "jax_privacy._extras",
        "jax_privacy._validate",
    ),
    "jax_privacy.auditing": (
        "jax_privacy",
        "-jax_privacy.models",
        "-jax_privacy.data",
    ),
    "configs": (
        *("configs.common", "configs.denoisers"),
        *("configs.families", "configs.fields"),
    ),
    "configs.fields": ("configs.fields",),
    # Commands -> audits, evaluation -> run -> plan -> tasks -> metrics.
    "experiments": _OUTSIDE + ("experiments",),
    "experiments.metrics": ("jax_privacy", "experiments.metrics"),
    "experiments.tasks": _OUTSIDE + _TASKS,
    "experiments.plan": _OUTSIDE + _PLAN,
    "experiments.run": _OUTSIDE + _PLAN + ("experiments.run",),
    "experiments.evaluation": _OUTSIDE
    + _PLAN
    + ("experiments.run", "experiments.evaluation"),
    "experiments.release": _OUTSIDE
    + _PLAN
    + ("experiments.run", "experiments.evaluation", "experiments.release"),
    "experiments.synthetic": _OUTSIDE
    + _PLAN
    + (
        *("experiments.run", "experiments.evaluation"),
        *("experiments.release", "experiments.synthetic"),
    ),
    "experiments.audits": _OUTSIDE
    + _PLAN
    + ("experiments.run", "experiments.audits"),
    "experiments.reports": _OUTSIDE
    + _PLAN
    + ("experiments.run", "experiments.reports"),
    "experiments.sweeps": _OUTSIDE
    + _PLAN
    + ("experiments.run", "experiments.reports", "experiments.sweeps"),
}
# Packages of others that a folder must not touch.
_JAX = ("jax", "flax", "optax", "chex")
_FOREIGN = {
    "accounting": _JAX,
    "accounting.numerics": _JAX,
    "accounting.budget": _JAX,
    "configs": ("jax", "flax", "optax", "numpy"),
    "configs.fields": ("jax", "flax", "optax", "numpy", "ml_collections"),
    "jax_privacy": ("dp_accounting",),
    "jax_privacy.models": ("dp_accounting",),
    "jax_privacy.data": ("dp_accounting",),
    "jax_privacy.auditing": ("dp_accounting",),
}


def _imports(source: str) -> set[str]:
  """Dotted names of all that a file imports, `from a import b` as a.b."""
  tree = ast.parse(source)
  # A package's table of contents for type checkers: nothing imports them.
  tree.body = [n for n in tree.body if not _is_contents(n)]
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "relative imports hide what is imported"
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


def _is_contents(node: ast.stmt) -> bool:
  """Whether it is the `if _typing.TYPE_CHECKING:` of a package's `__init__`."""
  return (
      isinstance(node, ast.If)
      and ast.unparse(node.test) == "_typing.TYPE_CHECKING"
      and not node.orelse
      and all(isinstance(each, ast.ImportFrom) for each in node.body)
  )


def _starts(name: str, prefix: str) -> bool:
  return name == prefix or name.startswith(prefix + ".")


def _faults(module: str, source: str) -> list[str]:
  folder = max((f for f in _TABLE if _starts(module, f)), key=len)
  allowed = [p for p in _TABLE[folder] if not p.startswith("-")]
  barred = [p[1:] for p in _TABLE[folder] if p.startswith("-")]
  faults = []
  for name in _imports(source):
    ours = name.split(".")[0] in _OURS
    ok = any(_starts(name, p) for p in allowed) and not any(
        _starts(name, p) for p in barred
    )
    foreign = any(_starts(name, p) for p in _FOREIGN.get(folder, ()))
    if (ours and not ok) or foreign:
      faults.append(f"{module} imports {name}")
  return faults


def _files():
  for folder in ("accounting", "jax_privacy", "experiments", "configs"):
    yield from sorted((_ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    "path", list(_files()), ids=lambda p: str(p.relative_to(_ROOT))
)
def test_imports_follow_the_table(path):
  parts = path.relative_to(_ROOT).with_suffix("").parts
  module = ".".join(parts).removesuffix(".__init__")
  assert not _faults(module, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "module, source",
    [
        ("accounting.x", "import jax.numpy as jnp"),
        ("accounting.x", "if TYPE_CHECKING:\n  import jax"),
        ("accounting.x", "def f():\n  from jax_privacy import clipping"),
        ("accounting.numerics.x", "import jax.numpy as jnp"),
        ("accounting.budget.x", "from flax import nnx"),
        ("accounting.x", "from accounting import budget"),
        ("accounting.numerics.x", "from accounting import claims"),
        ("accounting.numerics.x", "from accounting.mechanism import Mechanism"),
        ("accounting.budget.x", "from accounting.numerics import pld"),
        ("jax_privacy.dp_sgd", "import accounting"),
        ("jax_privacy.dp_sgd", "from jax_privacy import models"),
        ("jax_privacy.dp_sgd", "from jax_privacy.data import augment"),
        ("jax_privacy.models.cnn", "from jax_privacy import clipping"),
        ("jax_privacy.models.cnn", "from jax_privacy.data import load"),
        ("jax_privacy.data.idx", "from jax_privacy import clipping"),
        ("configs.x", "import jax"),
        ("configs.x", "from configs import digits_cnn"),
        ("configs.fields.x", "from configs import common"),
        ("experiments.train", "from tests import conftest"),
        ("experiments.plan.x", "from experiments.run import loop"),
        ("experiments.plan.x", "from experiments import train"),
        ("experiments.tasks.x", "from experiments.plan import fields"),
        ("experiments.tasks.x", "from experiments.run import loop"),
        ("experiments.metrics.x", "from experiments.tasks import task"),
        ("experiments.run.x", "from experiments.evaluation import final"),
        ("experiments.evaluation.x", "from experiments.audits import replay"),
        ("experiments.evaluation.x", "from experiments.release import output"),
        ("experiments.release.x", "from experiments.audits import replay"),
        ("experiments.audits.x", "from experiments.evaluation import final"),
        ("experiments.audits.x", "from experiments import audit"),
        ("experiments.reports.x", "from experiments.release import model"),
        ("experiments.reports.x", "from experiments.sweeps import plan"),
    ],
)
def test_a_forbidden_import_is_caught(module, source):
  assert _faults(module, source)


def _loaded_by(statement: str) -> set[str]:
  """Top-level modules loaded by a statement in a fresh interpreter."""
  program = f"{statement}\nimport sys; print(*sys.modules)"
  result = subprocess.run(
      [sys.executable, "-c", program],
      capture_output=True,
      text=True,
      check=True,
      cwd=_ROOT,
  )
  return {name.split(".")[0] for name in result.stdout.split()}


def test_what_an_import_loads():
  assert not _loaded_by("import accounting") & {"jax", "flax", "optax"}
  # dp-accounting takes a second to load, so only its users wait for it.
  assert "dp_accounting" not in _loaded_by("import accounting")
  loaded = _loaded_by("import jax_privacy")
  assert not loaded & {"accounting", "dp_accounting", "flax", "sklearn"}
