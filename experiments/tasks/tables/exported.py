"""A table's predictor for other programs: with the schema's encoding inside.

Invariant: of a row that the schema refuses nothing is said: its outputs are
NaN, for a program raises no error.

>>> from jax_privacy.data import tables
>>> source = tables.load("wine", split="test")
>>> made = build(source.encoder, None, outputs={})
>>> made.inputs["numbers"].shape, made.interface["numbers"][0]["column"]
((1, 13), 'alcohol')
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from experiments.tasks import parts
from jax_privacy.data import tables as tables_lib


def build(
    encoder: tables_lib.Encoder,
    predictor: parts.Predictor,
    *,
    outputs: Mapping[str, Any],
) -> parts.Exported:
  """Returns the predictor of numbers and codes as `tables.encode_raw` has them.

  Args:
    encoder: Encoder of the table.
    predictor: Predictor of encoded rows.
    outputs: Meaning of its outputs, for JSON.
  """

  def predict_fn(params, raw):
    batch, is_refused = tables_lib.encode_raw(encoder, raw)
    found = predictor.predict_fn(params, batch)
    shape = (-1, *(1,) * (found.ndim - 1))
    return jnp.where(is_refused.reshape(shape), jnp.nan, found)

  return parts.Exported(
      inputs=tables_lib.blank_raw(encoder),
      predict_fn=predict_fn,
      interface={**tables_lib.describe_raw(encoder), "outputs": dict(outputs)},
  )
