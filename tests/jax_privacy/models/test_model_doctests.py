"""Every example in the docstrings of jax_privacy.models runs as printed."""

import doctest
import importlib
import pkgutil

import pytest

from jax_privacy import models

_MODULES = [
    "jax_privacy.models",
    *(
        f"jax_privacy.models.{module.name}"
        for module in pkgutil.iter_modules(models.__path__)
    ),
]


@pytest.mark.parametrize("name", _MODULES)
def test_examples(name):
  result = doctest.testmod(importlib.import_module(name))
  assert result.attempted > 0, "A module opens with a runnable example."
  assert result.failed == 0
