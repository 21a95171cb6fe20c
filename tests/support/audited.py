"""Audited runs of the launcher, in small."""

import math

import jax.numpy as jnp

from experiments.audits import audit as audit_lib
from experiments.audits import canaries
from experiments.run import loop
from experiments.tasks.images import model as model_lib
from tests.support import launch

NUM_CANARIES = 500


def use_a_linear_model(monkeypatch):
  """A model that compiles in no time; all else is the launcher's own."""

  def apply_fn(params, images, keys=None):
    del keys
    return images.reshape(images.shape[0], -1) @ params["w"] + params["b"][None]

  def build_network(model_config, source, key, **sections):
    del model_config, key, sections
    return model_lib.Network(
        apply_fn=apply_fn,
        standardise_fn=lambda images: images.astype(jnp.float32) / 255,
        params={
            "w": jnp.zeros((math.prod(source.image_shape), 10)),
            "b": jnp.zeros(10),
        },
        view_shape=source.image_shape,
    )

  monkeypatch.setattr(model_lib, "build_network", build_network)


# Of its 455 rows a batch is a part.
TABLE = {"make": launch.table, "train__expected_batch_size": 300}


def config(make=launch.config, **fields):
  return make(
      **{
          "dp__epsilon": 8.0,
          "dp__delta": 1e-5,
          "train__expected_batch_size": 500,
          "train__num_steps": 20,
          **fields,
      }
  )


def train(canary, *, num_canaries=NUM_CANARIES, **fields):
  """Trains through the launcher's loop; returns (experiment, last state)."""
  audited = canaries.add_to_config(
      config(**fields), canary=canary, num_canaries=num_canaries
  )
  experiment = canaries.build(audited)
  *_, (state, _) = loop.train(experiment, loop.init_state(experiment))
  return experiment, state


def summary(run, *, confidence):
  return audit_lib.summarise(*run, confidence=confidence, train_seconds=1.0)
