"""A task of one's own: how far a ball has rolled, from its time and slope."""

import jax.numpy as jnp
import numpy as np

from experiments.metrics import estimate
from experiments.tasks import task


class Balls:
  """What a task's source must have: a stated size, a length, rows by index."""

  def __init__(self, seed, num_examples):
    rng = np.random.default_rng(seed)
    self._x = rng.uniform(size=(500, 2)).astype(np.float32)
    self._y = self._x @ np.array([2.0, -1.0], np.float32)
    self.num_examples = num_examples

  def __len__(self):
    return len(self._y)

  def __getitem__(self, indices):
    is_real = (indices >= 0).astype(np.float32)  # Index -1 is padding.
    return {
        "x": self._x[indices] * is_real[:, None],
        "y": self._y[indices] * is_real,
    }


class Rolling(task.Task):
  metrics = {"error": "mean squared error"}

  def load(self, split, *, num_examples=None, for_evaluation=False):
    return Balls({"train": 0, "test": 1}[split], num_examples)

  def describe(self, source):
    return {"inputs": ["time", "slope"]}

  def build_model(self, source, key):
    return task.Model(
        params={"w": jnp.zeros(2)},
        loss_fn=lambda params, example, key: (
            (example["x"] @ params["w"] - example["y"]) ** 2
        ),
    )

  def build_predictor(self, source, model=None):
    return task.Predictor(
        params={"w": jnp.zeros(2)},
        predict_fn=lambda params, batch: batch["x"] @ params["w"],
    )

  def outcomes(self, source, batch, outputs):
    return (outputs - batch["y"]) ** 2

  def overall(self, source, outcomes):
    return {"error": estimate.mean(outcomes)}

  def columns(self, source, outputs):
    return {"distance": outputs}
