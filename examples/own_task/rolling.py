"""A task of one's own: how far a ball has rolled, from its time and slope."""

import jax.numpy as jnp
import numpy as np

from experiments.metrics import estimate
from experiments.tasks import task


class Balls:

  def __init__(self, seed, num_examples):
    self.x = np.random.default_rng(seed).uniform(size=(500, 2)).astype("f4")
    self.num_examples = num_examples  # As stated.

  def __len__(self):
    return 500

  def __getitem__(self, indices):
    x = self.x[indices] * (indices[:, None] >= 0)  # Index -1 is padding.
    return {"x": x, "y": 2 * x[:, 0] - x[:, 1]}


def predict(params, batch):
  return batch["x"] @ params["w"]


class Rolling(task.Task):
  metrics = {"error": "mean squared error"}

  def load(self, split, *, num_examples=None, for_evaluation=False):
    return Balls({"train": 0, "test": 1}[split], num_examples)

  def describe(self, source):
    return {"inputs": ["time", "slope"]}

  def build_model(self, source, key):
    def loss_fn(params, example, key):
      return (predict(params, example) - example["y"]) ** 2

    return task.Model(params={"w": jnp.zeros(2)}, loss_fn=loss_fn)

  def build_predictor(self, source, model=None):
    return task.Predictor(params={"w": jnp.zeros(2)}, predict_fn=predict)

  def outcomes(self, source, batch, outputs):
    return (outputs - batch["y"]) ** 2

  def overall(self, source, outcomes):
    return {"error": estimate.mean(outcomes)}
