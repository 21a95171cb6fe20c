"""A small network, and comparisons, that all checks on several devices share.

Imported by programs that are started with several CPU devices; see
`mesh_checks.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jax_privacy
from jax_privacy import sharding

MESHES = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 8), (2, 4)]  # data, fsdp
# Sums are of the same float32 numbers in another order, and convolutions of
# fewer images run by other code: relative to the largest entry. Measured:
# 1.4e-7 as compiled here; with all of XLA's optimisations,
# 4e-6 in a network of this kind.
BOUND = 2e-5
BATCH_SIZE = 16
CLIP_NORM = 11.0
CONV = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(1, 1),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
)


# Where what is tested is the algebra: compiles in a third of the time.
compiled = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def mesh_of(data, fsdp):
  return sharding.make_mesh(data=data, fsdp=fsdp)


def normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def assert_near(got, want, bound=BOUND):
  """The largest difference, relative to the largest entry of the tree."""
  got, want = jax.device_get(got), jax.device_get(want)
  assert jax.tree.structure(got) == jax.tree.structure(want)
  scale = max(np.abs(x).max(initial=0) for x in jax.tree.leaves(want))
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert a.shape == b.shape
    assert np.isfinite(b).all()
    off = np.abs(a - b).max(initial=0)
    assert off <= bound * scale, f"{off} of {scale}"


def assert_same_bits(got, want):
  got, want = jax.device_get(got), jax.device_get(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes(), np.mean(a != b)


# A network with a convolution, a dense layer, a bias, and dropout: the key of
# an example must go with it to whichever device.
def params():
  return {
      "kernel": normal(0, 3, 3, 2, 8),
      "bias": normal(1, 8),
      "dense": normal(2, 5 * 5 * 8, 3) / 10,
  }


def loss(params, x, key):
  y = jnp.tanh(CONV(x[None], params["kernel"]) + params["bias"][(None,) * 3])
  y *= jax.random.bernoulli(key, 0.5, y.shape).astype(y.dtype)
  value = jnp.sum(jnp.sin(y.ravel() @ params["dense"]))
  return value, {"mean": jnp.mean(y)}


def batch():
  """Images, one of them not finite, and which rows are padding."""
  x = normal(3, BATCH_SIZE, 5, 5, 2) * np.geomspace(
      0.1, 10, BATCH_SIZE, dtype=np.float32
  ).reshape(-1, 1, 1, 1)
  padding = np.isin(np.arange(BATCH_SIZE), [3, 13, 14, 15])
  return x.at[5].set(np.nan), padding


def run_loss(method, mesh=None, jit=True, **options):
  x, padding = batch()
  p, key = params(), jax.random.key(1)
  if mesh is not None:
    p = sharding.put(mesh, p)
    x, padding = sharding.put_batch(mesh, (x, padding))
  grad_fn = jax_privacy.clipped_grad(
      loss,
      has_aux=True,
      l2_clip_norm=CLIP_NORM,
      keep_batch_dim=False,
      prng_argnum=2,
      return_values=True,
      return_grad_norms=True,
      method=method,
      mesh=mesh,
      **options,
  )
  run = compiled(grad_fn.fun) if jit else grad_fn
  return run(p, x, key, is_padding_example=padding)


@functools.cache
def on_one_device(method):
  return run_loss(method)


def real(aux):
  """Per-example outputs of real, finite examples; padding's must be 0."""
  _, padding = batch()
  assert not any(np.any(np.asarray(x)[padding]) for x in jax.tree.leaves(aux))
  keep = ~padding & (np.arange(BATCH_SIZE) != 5)
  return jax.tree.map(lambda x: np.asarray(x)[keep], aux)


def raises(text, fun, *args, **kwargs):
  try:
    fun(*args, **kwargs)
  except ValueError as error:
    assert text in str(error), str(error)
    return
  raise AssertionError(f"No error: {text}")
