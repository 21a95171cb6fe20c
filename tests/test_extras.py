"""The core works alone; what is missing is named with its extra."""

import json
import re
import subprocess
import sys
import textwrap
import tomllib

import pytest

from tests.support import launch

# What needs an extra -> the extra whose name the error must give.
_NEEDS = {
    "import jax_privacy.models": "models",
    "from jax_privacy.models import cnn": "models",
    "from jax_privacy import checkpoint": "checkpoint",
    "from jax_privacy import data; data.load('digits')": "data",
    "from jax_privacy.data import decode; decode.decode_image("
    "'a.png', what='a', channels=1, size=None, resize=False)": "data",
    "from jax_privacy import data; data.load('tfds:mnist')": "tfds",
    "from jax_privacy.data import reading; reading._reader("
    "[], num_workers=1, num_ahead=1)": "workers",
    "from jax_privacy import secure_random; secure_random.SecureKey("
    "bytes(32))": "secure",
    "from accounting import plots; plots.curve([1], [1.0], label='a')": (
        "plots"
    ),
    "import argparse; from accounting.budget import page; page.run("
    "argparse.Namespace(port=0, ledger=None))": "page",
    "from jax_privacy.data.tables import files; list(files.read_file("
    "'tests/support/people.csv', columns=('age',)))": "tables",
    "from jax_privacy.data.text import tokenisers; tokenisers.File("
    "'pyproject.toml')": "language",
    "import sys; sys.modules.pop('optuna', None); from jax_privacy import"
    " _extras\nwith _extras.needed('sweep'): import optuna": "sweep",
    "import experiments.train": "experiments",
    "import experiments.evaluation.auc": "experiments",
    "import configs.common": "experiments",
}
# Where the core alone must do.
_WORKS = (
    "import jax_privacy, accounting, accounting.budget",
    "import jax_privacy.testing, jax_privacy.auditing, jax_privacy.ghost",
    "from jax_privacy import data; data.ArraySource",
    "from jax_privacy import dp_sgd, secure_noise, sharding",
    "from accounting import budget; assert budget.main(['epsilon',"
    "'--noise-multiplier=4', '--num-steps=9', '--sampling-prob=0.1',"
    "'--delta=1e-5', '--accountant=rdp']) == 0",
)
# Refuses the import of all that is not in the core, and says how all ends.
_PROGRAM = """
    import contextlib, importlib.abc, io, json, sys

    class Blocker(importlib.abc.MetaPathFinder):
      def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in (
            "PIL", "array_record", "cryptography", "flax", "grain",
            "matplotlib", "ml_collections", "optuna", "orbax", "plotly",
            "pyarrow", "rich", "sklearn", "starlette", "tensorflow",
            "tensorflow_datasets", "tokenizers", "uvicorn"):
          raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Blocker())
    ends = {}
    for statement in json.load(sys.stdin):
      with contextlib.redirect_stdout(io.StringIO()):
        try:
          exec(statement, {})
          ends[statement] = "works"
        except ImportError as error:
          ends[statement] = str(error)
    print(json.dumps(ends))
    """


@pytest.fixture(scope="module")
def ends():
  result = subprocess.run(
      [sys.executable, "-c", textwrap.dedent(_PROGRAM)],
      input=json.dumps([*_WORKS, *_NEEDS]),
      capture_output=True,
      text=True,
      cwd=launch.ROOT,
  )
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout)


@pytest.mark.parametrize("statement", _WORKS)
def test_the_core_works_alone(ends, statement):
  assert ends[statement] == "works"


@pytest.mark.parametrize("statement, extra", _NEEDS.items())
def test_a_missing_package_is_named_with_its_extra(ends, statement, extra):
  assert ends[statement].startswith("No module named ")
  assert f'pip install "jax-privacy-toolkit[{extra}]"' in ends[statement]


def test_every_extra_that_is_named_exists():
  text = (launch.ROOT / "pyproject.toml").read_text("utf-8")
  extras = tomllib.loads(text)["project"]["optional-dependencies"]
  assert set(_NEEDS.values()) <= set(extras)


def test_all_has_every_extra_of_users():
  text = (launch.ROOT / "pyproject.toml").read_text("utf-8")
  extras = tomllib.loads(text)["project"]["optional-dependencies"]

  def of(name):
    """The extra, and all that it asks for."""
    text = " ".join(extras[name])
    nested = ",".join(re.findall(r"jax-privacy-toolkit\[(.*?)\]", text))
    return {name}.union(*map(of, filter(None, nested.split(","))))

  # For one kind of hardware, for making data once, and for this project.
  others = {"cuda", "tfds-prepare", "docs", "test"}
  assert of("all") == set(extras) - others


def test_a_plot_without_matplotlib_ends_in_one_line(monkeypatch, capsys):
  from accounting import budget

  monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
  arguments = ["--noise-multiplier=4", "--num-steps=9", "--sampling-prob=0.1"]
  plot = ["--delta=1e-5", "--accountant=rdp", "--plot=a.svg"]
  assert budget.main(["curve", *arguments, *plot]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert 'pip install "jax-privacy-toolkit[plots]"' in line
