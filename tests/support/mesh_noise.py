"""Checks of noise on a mesh; see `mesh_checks.py`."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jax_privacy import dp_sgd, noise_addition, secure_noise, sharding
from jax_privacy.matrix_factorization import noising
from tests.support import meshes

_SHAPES = {"a": (8, 3, 3, 7)}


def _noise():
  key = jax.random.key(3)
  return noise_addition.gaussian_privatizer(stddev=0.7317, prng_key=key)


def _updates(shapes):
  return {
      k: 1e3 * meshes.normal(i, *s) for i, (k, s) in enumerate(shapes.items())
  }


def _check_noise_bits(updates, sizes):
  # Compiled with all optimisations: these might round differently.
  noise = _noise()
  run = lambda updates, state: noise.update(updates, state)[0]
  want = run(updates, noise.init(None))  # Not compiled as a whole, one device.
  meshes.assert_same_bits(jax.jit(run)(updates, noise.init(None)), want)
  for data, fsdp in sizes:
    mesh = meshes.mesh_of(data, fsdp)
    everywhere = NamedSharding(mesh, PartitionSpec())
    own = sharding.shardings(mesh, updates)
    sharded, state = sharding.put(mesh, (updates, noise.init(None)))
    for out in (own, jax.tree.map(lambda _, to=everywhere: to, own)):
      got = jax.jit(run, out_shardings=out)(sharded, state)
      meshes.assert_same_bits(got, want)
    meshes.assert_same_bits(run(sharded, state), want)


def check_noise_has_the_same_bits():
  _check_noise_bits(_updates(_SHAPES), [(2, 4)])


def check_noise_has_the_same_bits_everywhere():
  shapes = {
      **_SHAPES,
      "b": (),
      "d": (999, 64),
      "e": (17,),
      "f": (40,),
      "g": (0, 3),
  }
  zeros = {k: jnp.zeros(s) for k, s in shapes.items()}
  _check_noise_bits(zeros, meshes.MESHES)
  _check_noise_bits(_updates(shapes), meshes.MESHES)
  short = {k: x.astype(jnp.bfloat16) for k, x in _updates(shapes).items()}
  _check_noise_bits(short, meshes.MESHES)


def check_correlated_noise_has_the_same_bits():
  updates = _updates({"a": (8, 6), "b": (5,)})
  mesh = meshes.mesh_of(2, 4)
  own = sharding.shardings(mesh, updates)
  for source in (
      noising.BandedNoising((1.0, -0.4567, -0.1234)),
      noising.BandedStrategy((0.8, 0.5, 0.3)),
      noising.BufferedStrategy((0.9, 0.5), (0.2, 0.3)),
  ):
    noise = noise_addition.matrix_factorization_privatizer(
        source, stddev=0.7317, prng_key=jax.random.key(3)
    )

    def steps(updates, state, noise=noise):
      for _ in range(3):
        out, state = noise.update(updates, state)
      return out

    want = steps(updates, noise.init(updates))  # Not compiled as a whole.
    meshes.assert_same_bits(jax.jit(steps)(updates, noise.init(updates)), want)
    sharded, state = sharding.put(mesh, (updates, noise.init(updates)))
    got = jax.jit(steps, out_shardings=own)(sharded, state)
    meshes.assert_same_bits(got, want)


def _check_noise_bits_by_placement(noise, ask):
  """Also as XLA places it by itself, where `ask` is false."""
  zeros = jnp.zeros((8, 6))
  one, _ = jax.jit(noise.update)(zeros, noise.init(zeros))
  mesh = jax.make_mesh((4,), ("d",), devices=jax.devices()[:4])
  for spec in (PartitionSpec("d"), PartitionSpec(), PartitionSpec(None)):
    placement = NamedSharding(mesh, spec)
    put = jax.device_put(zeros, placement)
    options = {"out_shardings": (placement, None)} if ask else {}
    many, _ = jax.jit(noise.update, **options)(put, noise.init(put))
    assert len(many.sharding.device_set) == 4
    meshes.assert_same_bits(many, one)


def check_noise_bits_do_not_depend_on_placement():
  _check_noise_bits_by_placement(_noise(), ask=False)


def check_secure_noise_bits_do_not_depend_on_placement():
  noise = secure_noise.secure_gaussian_privatizer(stddev=1.0, key=bytes(32))
  _check_noise_bits_by_placement(noise, ask=True)


def check_secure_noise_has_the_same_bits():
  noise = secure_noise.secure_gaussian_privatizer(stddev=2.0, key=bytes(32))
  updates = _updates({"a": (64, 33), "b": (17,), "c": ()})
  run = lambda updates, state: noise.update(updates, state)[0]
  want = jax.jit(run)(updates, noise.init(None))
  for data, fsdp in meshes.MESHES:
    mesh = meshes.mesh_of(data, fsdp)
    own = sharding.shardings(mesh, updates)
    sharded, state = sharding.put(mesh, (updates, noise.init(None)))
    meshes.assert_same_bits(
        jax.jit(run, out_shardings=own)(sharded, state), want
    )


def check_noise_is_added_once():
  # All padding, so that an update is noise alone: whatever the mesh, the very
  # array that one device draws. Its scale is tested too, lest all be wrong
  # alike: of 40,000 draws the standard deviation is off by less than 5 / sqrt(2
  # x 40,000) = 1.8%, but for one run in a million. Eight devices' noise would
  # be off by a factor of 2.8.
  mechanism = types.SimpleNamespace(
      noise_multiplier=3.0, num_steps=2, sampling="poisson",
      sampling_prob=0.25, num_examples=64, max_batch_size=None,
  )  # fmt: skip
  found = []
  for data, fsdp in [(1, 1), (2, 1), (8, 1), (2, 4)]:
    mesh = meshes.mesh_of(data, fsdp)
    private = dp_sgd.make_private(
        lambda w, x: jnp.sum(jnp.sin(x @ w)), optax.sgd(1.0), mechanism,
        l2_clip_norm=0.5, key=7, mesh=mesh, check_loss=False,
    )  # fmt: skip
    w = sharding.put(mesh, jnp.zeros((200, 200)))
    state = sharding.put(mesh, private.optimizer.init(w))
    x, padding = sharding.put_batch(
        mesh, (jnp.ones((8, 200)), np.ones(8, dtype=bool))
    )

    @meshes.compiled
    def step(w, state, x, padding, private=private):
      grads = private.grad_fn(w, x, is_padding_example=padding)
      return private.optimizer.update(grads, state, w)[0]

    found.append(np.asarray(step(w, state, x, padding)))
  for noise in found:
    meshes.assert_same_bits(noise, found[0])
  want = 3.0 * 0.5 / (64 * 0.25)
  assert abs(found[0].std() / want - 1) < 5 / np.sqrt(2 * 40_000)


def check_refused_generators():
  noise, key = _noise(), jax.random.key(0, impl="rbg")
  meshes.raises(
      "prng_key must be a key of threefry2x32, got 'rbg'",
      noise_addition.gaussian_privatizer, stddev=1.0, prng_key=key,
  )  # fmt: skip
  state = noise.init(None)
  with jax.threefry_partitionable(False):
    text = "jax_threefry_partitionable must be True"
    meshes.raises(text, noise.update, _updates(_SHAPES), state)
    meshes.raises(text, _noise)
  noise.update(_updates(_SHAPES), state)
