"""docs/language.md does what it says."""

import re

import jax
import numpy as np

from jax_privacy import models
from jax_privacy.data import text
from tests.support import launch

_PAGE = (launch.ROOT / "docs/language.md").read_text(encoding="utf-8")


def test_its_program_runs():
  (program,) = re.findall(r"```python\n(.*?)```", _PAGE, flags=re.DOTALL)
  found = {}
  with jax.numpy_dtype_promotion("standard"):  # As users have it.
    exec(compile(program, "docs/language.md", "exec"), found)  # noqa: S102
  leaves = jax.tree.leaves(found["params"])
  assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_it_names_all_models_sources_and_packings():
  names = (*models.sequence_names(), *text.names(), *text.PACKINGS)
  assert all(f"`{name}`" in _PAGE for name in names)


def test_its_commands_name_commands_and_recipes_that_there_are():
  (commands,) = re.findall(r"```bash\n(.*?)```", _PAGE, flags=re.DOTALL)
  for command in commands.splitlines():
    module = command.split()[2].replace(".", "/")
    assert (launch.ROOT / f"{module}.py").is_file()
  assert "configs/copying.py:epsilon=3.0" in commands
