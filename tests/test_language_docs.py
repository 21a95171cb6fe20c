"""docs/language.md does what it says."""

import re

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.plan import trainable
from jax_privacy import models
from jax_privacy.data import text
from jax_privacy.models import lora
from tests.support import launch

_PAGE = (launch.ROOT / "docs/language.md").read_text(encoding="utf-8")


def _programs():
  return re.findall(r"```python\n(.*?)```", _PAGE, flags=re.DOTALL)


@pytest.mark.slow
def test_its_program_runs():
  program = _programs()[0]
  found = {}
  with jax.numpy_dtype_promotion("standard"):  # As users have it.
    exec(compile(program, "docs/language.md", "exec"), found)  # noqa: S102
  leaves = jax.tree.leaves(found["params"])
  assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_its_expressions_choose_what_they_say():
  found = {}
  for program in _programs()[1:]:
    exec(program, found)  # noqa: S102
  model = models.build(
      "transformer",
      rngs=nnx.Rngs(0),
      vocabulary_size=5,
      norm="layer",
      use_bias=True,
      **found["options"],
  )
  _, params = models.functional(model)
  # Two layers of width 64: four heads of 16, one of keys; 256 inside the MLP.
  wanted = {
      "adapters": 2 * 8 * ((64 + 64) + (64 + 16)),
      # Queries, keys, values, out; gate, up, down; two norms, and the last.
      "biases": 2 * (64 + 16 + 16 + 64 + 256 + 256 + 64 + 2 * 64) + 64,
      "norms": 2 * 2 * 2 * 64 + 2 * 64,
  }
  for name, number in wanted.items():
    trained, _ = trainable.Partition(found[name]).split(params)
    assert models.num_parameters(trained) == number, name
  assert found["adapters"] == lora.PATTERN


def test_it_names_all_models_sources_and_packings():
  names = (*models.sequence_names(), *text.names(), *text.PACKINGS)
  assert all(f"`{name}`" in _PAGE for name in names)


def test_its_commands_name_commands_and_recipes_that_there_are():
  blocks = re.findall(r"```bash\n(.*?)```", _PAGE, flags=re.DOTALL)
  commands = "".join(blocks)
  for command in commands.splitlines():
    module = command.split()[2].replace(".", "/")
    assert (launch.ROOT / f"{module}.py").is_file()
  assert "configs/copying.py:epsilon=3.0" in commands
