"""A small regression problem that many tests of clipping share."""

import jax
import jax.numpy as jnp


def params(dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0), 3)
  return {
      "w": jax.random.normal(keys[0], (4, 3)).astype(dtype),
      "inner": {
          "b": jax.random.normal(keys[1], (3,)).astype(dtype),
          "v": jax.random.normal(keys[2], (3,)).astype(dtype),
      },
  }


def batch(size=10, scale=1.0, dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(1), 2)
  x = scale * jax.random.normal(keys[0], (size, 4))
  y = jax.random.normal(keys[1], (size,))
  return {"x": x.astype(dtype), "y": y.astype(dtype)}


def loss(params, batch):
  """Mean over the given rows, of any rank: [n, 4] or one row [4]."""
  x = jnp.atleast_2d(batch["x"])
  hidden = jnp.tanh(x @ params["w"] + params["inner"]["b"][None])
  return jnp.mean((hidden @ params["inner"]["v"] - batch["y"]) ** 2)


def loss_aux(params, batch):
  value = loss(params, batch)
  return value, {"x": batch["x"], "double": 2 * value}
