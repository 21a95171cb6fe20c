"""Small frames of rows and their schema, for the tests of tables."""

import numpy as np

from jax_privacy.data import tables


def rows(num_rows=200, seed=0):
  """Rows of a number, a category and a target, as a structured array."""
  generator = np.random.default_rng(seed)
  made = np.zeros(num_rows, [("x", float), ("job", "U1"), ("y", "U3")])
  made["x"] = generator.normal(size=num_rows)
  made["job"] = generator.choice(["a", "b"], num_rows)
  made["y"] = generator.choice(["no", "yes"], num_rows)
  return made


SCHEMA = {
    "columns": {
        "x": {"kind": "number", "bounds": [-2, 2], "outside": "clamp"},
        "job": {"kind": "category", "values": ["a", "b"]},
        "y": {"kind": "category", "values": ["no", "yes"]},
    }
}


def source(frame, **options):
  """A source of a frame of such rows."""
  options = {"schema": SCHEMA, "target": "y"} | options
  return tables.from_frame(frame, **options)
