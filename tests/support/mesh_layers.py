"""Checks of parameters that stay split over a mesh; see `mesh_checks.py`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jax_privacy
from jax_privacy import sharding
from tests.support import meshes

_CLIP_NORM = 4.0


def _params():
  return {
      "table": meshes.normal(0, 24, 8) / 4,
      "up": meshes.normal(1, 4, 8, 16) / 4,
      "bias": meshes.normal(2, 4, 16),
      "down": meshes.normal(3, 4, 8, 16) / 4,
      "gain": meshes.normal(4, 2, 4, 8) / 4,
      # Split along the layers: the last has no other axis to be split along.
      "stack": meshes.normal(5, 4, 4, 2) / 9,
      "odd": meshes.normal(6, 4, 3),
  }


def _block(x, p):
  gain, up, bias, down, stack, odd = p
  x, _ = jax.lax.scan(lambda x, g: (x * (1 + g)[None], None), x, gain)
  h = jnp.tanh(x @ up + bias[None])
  added = jnp.sum(h[:, :4] @ stack) + jnp.sum(h[:, :3] * odd[None])
  return x + h @ down + added, None


_CHECKPOINTED = jax.checkpoint(_block)


def _loss(p, ids, scale, block=_CHECKPOINTED):
  """Layers under scan, some of weights that are moved before; a tied table."""
  x = p["table"][ids] * scale
  gain, down = jnp.swapaxes(p["gain"], 0, 1), jnp.swapaxes(p["down"], 1, 2)
  layers = gain, p["up"], p["bias"], down, p["stack"], p["odd"]
  x, _ = jax.lax.scan(block, x, layers)
  return jnp.mean(jnp.sin(x @ p["table"].T))


def _run(loss, method, mesh=None, **options):
  size = 16
  rng = np.random.default_rng(0)
  ids = rng.integers(0, 24, size=(size, 3))
  scale = np.geomspace(1e-3, 1, size).astype(np.float32)
  # On eight devices two rows each: one has none that counts.
  scale[[2, 3]] = np.inf, np.nan
  padding = np.isin(np.arange(size), [3, 9, 14])
  p, rows = _params(), (ids, scale, padding)
  if mesh is not None:
    p, rows = sharding.put(mesh, p), sharding.put_batch(mesh, rows)
  grad_fn = jax_privacy.clipped_grad(
      loss,
      l2_clip_norm=_CLIP_NORM,
      batch_argnums=(1, 2),
      keep_batch_dim=False,
      return_grad_norms=True,
      method=method,
      mesh=mesh,
      **options,
  )
  ids, scale, padding = rows
  total, aux = meshes.compiled(grad_fn.fun)(
      p, ids, scale, is_padding_example=padding
  )
  norms = np.asarray(aux.grad_norms)
  norms = norms[~np.asarray(padding) & np.isfinite(norms)]
  assert len(norms) == 12 and norms.min() < _CLIP_NORM < norms.max()
  return total, norms


def _check(sizes, loss, **options):
  want, want_norms = _run(loss, "vmap")
  for data, fsdp in sizes:
    mesh = meshes.mesh_of(data, fsdp)
    total, norms = _run(loss, "ghost", mesh, passes=2, **options)
    meshes.assert_near(total, want)
    meshes.assert_near(norms, want_norms)
    specs = {name: x.sharding.spec for name, x in total.items()}
    params = _params()
    assert specs == {k: sharding.spec(mesh, x.shape) for k, x in params.items()}


def check_layers_stay_split():
  _check([(2, 4)], _loss)


def check_layers_stay_split_everywhere():
  _check([(1, 2), (1, 8)], _loss)
  _check([(2, 4)], _loss, microbatch_size=8)
  dots = jax.checkpoint_policies.dots_saveable
  for block in (_block, jax.checkpoint(_block, policy=dots)):
    _check([(2, 4)], functools.partial(_loss, block=block))


def _bytes(loss, fsdp, params):
  """Bytes that one of `fsdp` devices takes for a step, as compiled."""
  mesh = meshes.mesh_of(1, fsdp)
  grad_fn = jax_privacy.clipped_grad(
      loss, l2_clip_norm=1.0, keep_batch_dim=False, passes=2, mesh=mesh
  )
  params = sharding.put(mesh, params)
  x = sharding.put_batch(mesh, jnp.ones((8, 2, params["up"].shape[1])))
  compiled = meshes.compiled(grad_fn.fun).lower(params, x).compile()
  found = compiled.memory_analysis()
  return (
      found.argument_size_in_bytes
      + found.output_size_in_bytes
      + found.temp_size_in_bytes
  )


def _layers(p, x, block):
  return jnp.sum(jax.lax.scan(block, x, (p["up"], p["down"]))[0])


def check_memory_falls_with_devices(sizes=(1, 8)):
  """A part of all, and some copies of one layer, of 128, are all there is."""

  def block(x, p):
    return x + jnp.tanh(x @ p[0]) @ p[1], None

  params = {
      "up": meshes.normal(0, 128, 16, 32),
      "down": meshes.normal(1, 128, 32, 16),
  }
  of_layer = 2 * 16 * 32 * 4
  for kind in (jax.checkpoint(block), block):
    loss = functools.partial(_layers, block=kind)
    found = [_bytes(loss, fsdp, params) for fsdp in sizes]
    # The sum is made in a loop and copied into the result; where layers are
    # gathered in it, the loop has a copy of the split parameters too. Were they
    # gathered whole, 7/8 of their 128 layers would be over on eight devices.
    whole = found[0] + 2 * sum(x.nbytes for x in params.values())
    for fsdp, num_bytes in zip(sizes, found, strict=True):
      assert num_bytes <= whole / fsdp + 24 * of_layer, found


def check_memory_falls_with_devices_everywhere():
  check_memory_falls_with_devices((1, 2, 4, 8))
