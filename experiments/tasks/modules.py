"""Builds the network that a config's `model` section names, for any task.

Invariant: what a task gives the network, no option may; an error names the
field.

>>> from configs import common
>>> config = common.base().model
>>> config.name = "table_linear"
>>> config.options = {"num_outputs": 3}
>>> build(config, key=0, what="a model of tables", num_outputs=2)
Traceback (most recent call last):
ValueError: model.options must be options that no other field decides, got \
num_outputs.
"""

from collections.abc import Sequence
from typing import Any

import ml_collections
from flax import nnx

from experiments.tasks import imported, sections
from jax_privacy import models


def build(
    model_config: ml_collections.ConfigDict,
    *,
    key: Any,
    what: str,
    takes: Sequence[str] | None = None,
    **given: Any,
) -> nnx.Module:
  """Returns the network.

  Args:
    model_config: Section `model` of the config.
    key: Key or seed of its first parameters.
    what: Text that says what own code must give.
    takes: Names of the arguments that own code must take; None for "rngs" and
      all that is given.
    **given: Arguments that the task decides.

  Raises:
    ValueError: If an option is decided elsewhere, or the network cannot be
      built from them.
  """
  options = sections.options(
      "model.options", model_config.options, taken=("name", "rngs", *given)
  )
  name = imported.resolve(
      "model.name",
      model_config.name,
      takes=("rngs", *given) if takes is None else takes,
      what=what,
  )
  with sections.named("model.options"):
    return models.build(name, rngs=nnx.Rngs(key), **given, **options)
