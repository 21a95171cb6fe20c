"""Serves steps of a library called jax_privacy: this project's or its namesake.

  python worker_jax.py DISTRIBUTION

DISTRIBUTION is the name under which the library is installed; a worker that
finds another one stops. Both libraries are called in the same way, on the same
losses. Methods: "none" (the gradient of the mean), "default" (`clipped_grad`
as it comes), "one_by_one" (in microbatches of one example), and what our
`clipped_grad(method=...)` takes.
"""

import importlib.metadata
import importlib.util
import os
import sys

import jax
import numpy as np
import peer_networks
import peer_networks_jax
import peer_protocol

import jax_privacy

_OPTIONS = {"default": {}, "one_by_one": {"microbatch_size": 1}}


def make(name: str, method: str, batch_size: int) -> peer_protocol.Contestant:
  """Returns the step of that network and method.

  Args:
    name: a key of `peer_networks.NETWORKS`.
    method: see above.
    batch_size: examples.
  """
  network = peer_networks.NETWORKS[name]
  loss = peer_networks_jax.loss_fn(name, standardise=_own_standardisation())
  if method == "none":
    grad_fn = jax.grad(loss)
  else:
    options = _OPTIONS.get(method, {"method": method})
    grad_fn = jax_privacy.clipped_grad(
        loss, l2_clip_norm=network.clip_norm, batch_argnums=(1, 2), **options
    )
  grad_fn = jax.jit(grad_fn)
  args = jax.device_put(
      (
          peer_networks.parameters(network),
          *peer_networks.batch(network, batch_size=batch_size),
      )
  )
  return peer_protocol.Contestant(
      step=lambda: grad_fn(*args),
      wait=jax.block_until_ready,
      leaf_norms=_leaf_norms,
      num_parameters=sum(p.size for p in args[0].values()),
  )


def _own_standardisation():
  """The library's weight standardisation, where it has one."""
  if not importlib.util.find_spec("jax_privacy.weight_standardisation"):
    return None
  from jax_privacy import weight_standardisation

  return weight_standardisation.standardise_weight


def _leaf_norms(grads):
  return {
      name: float(np.linalg.norm(np.asarray(g, np.float64).ravel()))
      for name, g in grads.items()
  }


def _facts(distribution):
  version = importlib.metadata.version
  return {
      "versions": {p: version(p) for p in (distribution, "jax", "jaxlib")},
      # XLA's pool on the CPU has a thread for each core it may use.
      "threads": len(os.sched_getaffinity(0)),
      "imported_from": os.path.dirname(jax_privacy.__file__),
  }


if __name__ == "__main__":
  peer_protocol.serve(_facts(sys.argv[1]), make)
