"""What a key draws, pinned to `draws.VERSION`.

A test that fails here says that a draw was changed: add one to `VERSION`, and
an entry to `_PINNED` below; leave the old entries. Only whole numbers are
digested. Normals are compared by value, since their last bits depend on the
processor.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import accounting
from jax_privacy import (
    batch_selection,
    dp_sgd,
    draws,
    noise_addition,
    root_key,
    secure_noise,
    secure_random,
    streams,
)
from jax_privacy import (
    views as views_lib,
)
from jax_privacy.data import augment

_ROOT = root_key.RootKey.from_seed(7)


def _digest(arrays):
  """Of whole numbers, their order and their lengths."""
  digest = hashlib.sha256()
  for array in arrays:
    array = np.asarray(array)
    assert array.dtype.kind in "iu", array.dtype
    digest.update(f"{array.shape}".encode())
    digest.update(array.astype("<i8").tobytes())
  return digest.hexdigest()[:16]


def _keys():
  labels = ("parameters", "augmentation", "noise", "sampler")
  child = _ROOT.child("private")
  for root in (_ROOT, child, root_key.RootKey.of(jax.random.key(3))):
    for label in labels:
      yield jax.random.key_data(root.prng_key(label))
      yield np.frombuffer(root.derive(label, 32), np.uint8)


def _mechanism(sampling, **fields):
  return accounting.Mechanism(
      num_examples=50,
      noise_multiplier=1.0,
      sampling=sampling,
      sampling_prob=0.2,
      num_steps=3,
      **fields,
  )


def _samplers(secure):
  """The batches of every sampler there is, from the same keys."""
  for mechanism in (
      _mechanism("poisson"),
      _mechanism("truncated_poisson", max_batch_size=9),
      _mechanism("fixed_without_replacement"),
  ):
    for batch in dp_sgd.make_sampler(
        mechanism, key=_ROOT, secure_random=secure, num_devices=2
    ):
      yield batch.indices
  cyclic = batch_selection.CyclicPoissonSampling
  key = secure_random.SecureKey(bytes(range(32))) if secure else 5
  for strategy in (
      *(cyclic(0.6, 3, None, 2, p) for p in batch_selection.PartitionType),
      cyclic(0.3, 3, batch_size_schedule=((0, 1.0), (1, 2.0))),
      batch_selection.FixedBatchSampling(6, 2, replace=True),
  ):
    yield from strategy.bind(20, key)


def _views():
  key = _ROOT.prng_key("augmentation")
  keys = views_lib.example_keys(key, step=2, indices=jnp.array([4, -1]))
  yield jax.random.key_data(keys)
  image = jnp.arange(16, dtype=jnp.float32).reshape(4, 4, 1)
  augment_fn = augment.compose(
      augment.random_flip,
      lambda k, x: augment.mirror_pad_and_crop(k, x, pad=2),
  )
  # Pixels are moved, and so are whole numbers still.
  views = views_lib.sample_views(augment_fn, keys[0], image, num_views=4)
  yield np.asarray(views).astype(np.int64)
  yield jax.random.key_data(views_lib._mask_keys(keys[0], 3))


def _grid_noise():
  """Noise on a grid; at a deviation of 1e3 steps no two draws are alike."""
  zeros = {"a": jnp.zeros(3, jnp.int32), "b": jnp.zeros(2, jnp.int32)}
  noise = secure_noise.secure_gaussian_privatizer(
      stddev=1e3, key=bytes(range(32)), grid_step=1.0
  )
  for drawn in _two_steps(noise, zeros):
    yield np.asarray(drawn).astype(np.int64)  # Whole, as floats.


def _two_steps(noise, zeros):
  state = noise.init(zeros)
  for _ in range(2):
    drawn, state = noise.update(zeros, state)
    yield from jax.tree.leaves(drawn)


def _noise_keys(secure):
  """Those that `make_private` keys noise by."""
  private = dp_sgd.make_private(
      lambda params, batch: jnp.sum(params) * jnp.sum(batch),
      optax.identity(),
      _mechanism("poisson"),
      l2_clip_norm=1.0,
      key=_ROOT,
      secure_random=secure,
  )
  for leaf in jax.tree.leaves(private.optimizer.init(jnp.ones(2))):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    yield jax.random.key_data(leaf) if is_key else leaf


_DRAWN = {
    "keys": _keys,
    "batches": lambda: _samplers(False),
    "secure batches": lambda: _samplers(True),
    "views": _views,
    "noise's keys": lambda: _noise_keys(False),
    "secure noise's keys": lambda: _noise_keys(True),
    "grid noise": _grid_noise,
}
_PINNED = {
    1: {
        "keys": "5ad44ece4cd05792",
        "batches": "60a323866f442992",
        "secure batches": "3f595db5a341472f",
        "views": "1c765c0bc6fed18c",
        "noise's keys": "5dd5452fd5cb43fe",
        "secure noise's keys": "fe0055489dda368d",
        "grid noise": "742663e1cf407a34",
    },
}
# Two steps of leaves [3] and [2], standard deviation 1.
_NORMALS = {
    1: {
        "noise": [
            0.774716,
            0.035879,
            2.440781,
            -0.301884,
            -0.007148,
            -1.268564,
            0.138983,
            -0.395021,
            -0.53582,
            -0.113089,
        ],
        "secure noise": [
            -1.207419,
            0.09066,
            -1.522879,
            -0.353458,
            1.914036,
            0.145118,
            -0.275615,
            1.163163,
            0.842863,
            1.545977,
        ],
    }
}


@pytest.mark.parametrize("name", _DRAWN)
def test_whole_numbers_are_those_of_the_version(name):
  assert _digest(_DRAWN[name]()) == _PINNED[draws.VERSION][name]


@pytest.mark.parametrize("name", ["noise", "secure noise"])
def test_normals_are_those_of_the_version(name):
  """To 1e-4; JAX's and NumPy's functions are right to some 1e-6."""
  if name == "noise":
    noise = noise_addition.gaussian_privatizer(stddev=1.0, prng_key=3)
  else:
    noise = secure_noise.secure_gaussian_privatizer(
        stddev=1.0, key=bytes(range(32))
    )
  drawn = _two_steps(noise, {"a": jnp.zeros(3), "b": jnp.zeros(2)})
  drawn = np.concatenate(list(drawn))
  np.testing.assert_allclose(drawn, _NORMALS[draws.VERSION][name], atol=1e-4)


def test_another_draw_has_another_digest(monkeypatch):
  """Planted: batch t drawn from stream t, and the next leaf's noise."""
  batches, noise = _digest(_samplers(False)), _digest(_grid_noise())
  real = streams.generator_of
  monkeypatch.setattr(
      streams,
      "generator_of",
      lambda seed, stream: real(seed, max(stream - 1, 0)),
  )
  assert _digest(_samplers(False)) != batches
  monkeypatch.setattr(secure_random, "NOISE", secure_random.NOISE + 1)
  assert _digest(_grid_noise()) != noise


def test_every_version_has_draws_of_its_own():
  assert set(_PINNED) == set(_NORMALS) == set(range(1, draws.VERSION + 1))
  assert len({str(pinned) for pinned in _PINNED.values()}) == len(_PINNED)


def test_versions_name_what_draws_depend_on():
  versions = draws.versions()
  assert versions["draws"] == str(draws.VERSION)
  assert versions["jax"] == jax.__version__
  assert draws.package_version("no-such-package") == draws.UNKNOWN
