"""A user's own code: found, refused in one line, and known by its digest."""

import doctest
import shutil
import sys

import pytest

from experiments.tasks import imported
from tests.support import fuzz


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current folder; what is imported from it is forgotten afterwards."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.setattr(imported, "_folders", [])
  monkeypatch.setattr(imported, "_loaded", {})
  before = set(sys.modules)
  yield tmp_path
  _forget(set(sys.modules) - before)


def _forget(names):
  for name in names:
    del sys.modules[name]


def _write(folder, files):
  for name, text in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_examples_of_the_module(folder):
  options = doctest.NORMALIZE_WHITESPACE
  assert doctest.testmod(imported, optionflags=options).failed == 0


def test_the_current_folder_comes_before_the_configs(folder):
  own, other = folder / "own", folder / "other"
  _write(own, {"my_first.py": "WHERE = 'own'"})
  _write(other, {"my_first.py": "WHERE = 'other'", "my_second.py": "x = 3"})
  imported.search_in(other)
  with pytest.MonkeyPatch.context() as patched:
    patched.chdir(own)
    assert imported.find("loss.name", "my_first:WHERE") == "own"
    assert imported.find("loss.name", "my_second:x") == 3


def test_no_folder_hides_an_installed_package(folder):
  """Else a folder called `accounting` could change an epsilon."""
  _write(folder, {"optax/__init__.py": "adam = 3"})
  assert callable(imported.find("loss.name", "optax:adam"))


@pytest.mark.parametrize(
    "name, files, wanted",
    [
        ("my_none:f", {}, "there is no module my_none in the current folder"),
        ("my_a.b:f", {"my_a.py": ""}, "there is no module my_a.b in"),
        ("my_b:net", {"my_b.py": "Net = 1"}, "no 'net'. Did you mean 'Net'?"),
        ("my_c:f", {"my_c.py": "x = y\n"}, "NameError: name 'y' is not def"),
        ("my_c:f", {"my_c.py": "x = y\n"}, "(my_c.py, line 1)"),
        ("my_d:f", {"my_d.py": "x = ("}, "SyntaxError: '(' was never closed"),
        ("my_e:f", {"my_e.py": "raise SystemExit(3)"}, "SystemExit: 3"),
        ("my_f:f", {"my_f.py": "import no_such"}, "No module named 'no_such'"),
        ("my_g:f", {"my_g.py": "raise OSError('a\\nb')"}, "OSError: a b"),
        ("my_h:f", {"my_h.py": "f = 3"}, "must name a loss, got 'my_h:f', w"),
        ("my_i:f", {"my_i.py": "def f(x): ..."}, "without the parameter label"),
        ("my_j:f", {"my_j.py": "def f(**x): ..."}, "without the parameter la"),
        ("os:system", {}, "must be own or installed code, not Python's"),
        ("my-k:f", {}, 'must be of the form "package.module:name"'),
        ("my_l:", {}, "must be of the form"),
        (":f", {}, "must be of the form"),
        ("my_m:f:g", {}, "must be of the form"),
        ("../my_n:f", {}, "must be of the form"),
        ("my_o:" + "f" * 999, {"my_o.py": ""}, "must name something that"),
    ],
)  # fmt: skip
def test_a_bad_name_is_one_clear_line(folder, name, files, wanted):
  _write(folder, files)
  with pytest.raises(ValueError) as raised:
    imported.resolve("loss.name", name, takes=("label",), what="a loss")
  fuzz.assert_clear(raised.value, "loss.name must ", wanted)


def test_a_name_of_no_own_code_is_left_as_it_is():
  for name in ("softmax", "tfds:mnist"):
    assert imported.resolve("x", name, takes=("y",), what="a z") == name
  assert imported.facts(["softmax", "tfds:mnist", ""]) is None


_PACKAGE = {
    "my_pkg/__init__.py": "",
    "my_pkg/model.py": "from . import layers\nimport my_top\n\n\ndef net():\n"
    "  from my_late import thing\n",
    "my_pkg/layers.py": "import numpy, json\nfrom my_pkg.deep.er import x",
    "my_pkg/deep/__init__.py": "",
    "my_pkg/deep/er.py": "x = 1",
    "my_pkg/unused.py": "",
    "my_top.py": "import importlib\nimportlib.import_module('my_' + 'dynamic')",
    "my_dynamic.py": "",
    "my_late.py": "thing = 2",
    "my_other.py": "",
}


def _facts(folder, files):
  """The facts of `my_pkg.model:net`, imported anew."""
  shutil.rmtree(folder, ignore_errors=True)
  _write(folder, files)
  imported._loaded.clear()
  _forget([name for name in sys.modules if name.startswith("my_")])
  with pytest.MonkeyPatch.context() as patched:
    patched.chdir(folder)
    patched.setattr(sys, "path", list(sys.path))
    imported.find("model.name", "my_pkg.model:net")
    return imported.facts(["softmax", "my_pkg.model:net"])


def test_the_digest_is_of_what_is_imported(folder):
  """Relative, deep, in a function, and by a name that is made; no more."""
  facts = _facts(folder / "a", _PACKAGE)
  assert facts["names"] == ["my_pkg.model:net"]
  assert set(facts["modules"]) == {
      *("my_pkg", "my_pkg.model", "my_pkg.layers", "my_pkg.deep"),
      *("my_pkg.deep.er", "my_top", "my_late", "my_dynamic"),
  }
  assert _facts(folder / "b", _PACKAGE) == facts  # Wherever it lies.
  for name in _PACKAGE:
    changed = _facts(folder / "c", _PACKAGE | {name: _PACKAGE[name] + "\n#"})
    is_used = name not in ("my_pkg/unused.py", "my_other.py")
    assert (changed["sha256"] != facts["sha256"]) == is_used, name
    difference = imported.difference(facts, changed)
    module = name.removesuffix(".py").removesuffix("/__init__")
    assert (difference is not None) == is_used
    assert not is_used or difference.startswith(module.replace("/", ".") + ":")


def test_what_a_config_names_counts_where_ever_it_lies():
  """Though the project's own packages are known by its version."""
  imported.find("loss.name", "optax.losses:l2_loss")
  assert "optax.losses" in imported.facts(["optax.losses:l2_loss"])["modules"]
