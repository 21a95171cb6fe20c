"""One step of DP-SGD of each family equals a slow oracle's.

With everything that could mix examples or steps turned on: two views an
example, stochastic depth, dropout, squeeze-excite, norms and skip gains. The
oracle takes each example's gradient by itself, and clips, adds and divides in
NumPy's float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import accounting
from jax_privacy import dp_sgd, models, noise_addition
from jax_privacy import views as views_lib
from tests.support import oracle

_RANDOM = {"stochastic_depth_rate": 0.9, "dropout_rate": 0.5}
_FAMILIES = {
    "wide_resnet": {
        "depth": 10,
        "width": 1,
        "norm": "none",
        "scale_activation": True,
        "skip_gain": 1.0,
        "squeeze_excite": True,
        **_RANDOM,
    },
    "nf_resnet": {"depth": 26, "width": 1, "squeeze_excite": True, **_RANDOM},
    "nfnet": {
        "channels": (8, 16, 24, 24),
        "num_blocks": (1, 1, 1, 1),
        "group_width": 4,
        **_RANDOM,
    },
}
_CLIP_NORM = 0.5
_LEARNING_RATE = 0.3
_MECHANISM = accounting.Mechanism.for_batch_size(
    noise_multiplier=0.8, num_steps=1, num_examples=4, expected_batch_size=2
)


def _loss_fn(apply_fn):
  loss_fn = views_lib.augmult(
      apply_fn,
      views_lib.mean_over_views(
          optax.softmax_cross_entropy_with_integer_labels
      ),
      augment_fn=lambda key, x: x + 0.3 * jax.random.normal(key, x.shape),
      num_views=2,
      forward_takes_keys=True,
  )
  return lambda *args: loss_fn(*args)[0]


def _batch():
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), jnp.float32)
  keys = views_lib.example_keys(
      jax.random.key(3), step=11, indices=jnp.array([2, 0])
  )
  return images, jnp.array([1, 2]), keys


@pytest.mark.slow  # Compiles a network for each of two methods.
@pytest.mark.parametrize("name", list(_FAMILIES))
def test_a_private_step_equals_the_slow_oracles(name):
  model = models.build(
      name,
      rngs=nnx.Rngs(0),
      num_classes=3,
      image_shape=(32, 32, 3),
      **_FAMILIES[name],
  )
  apply_fn, params = models.functional(model)
  # A head that starts at deviations of 0.01 would leave nothing to clip.
  params["linear"]["kernel"] *= 30.0
  loss_fn, batch = _loss_fn(apply_fn), _batch()
  _, grad_fn, optimizer = dp_sgd.make_private(
      loss_fn,
      optax.sgd(_LEARNING_RATE),
      _MECHANISM,
      l2_clip_norm=_CLIP_NORM,
      key=jax.random.key(5),
      batch_argnums=(1, 2, 3),
      keep_batch_dim=False,
  )
  state = optimizer.init(params)
  nobody = jnp.zeros(2, bool)
  grads = jax.jit(grad_fn)(params, *batch, is_padding_example=nobody)
  updates, _ = optimizer.update(grads, state, params)
  got = oracle.flat64(optax.apply_updates(params, updates))

  each_fn = jax.jit(jax.vmap(jax.grad(loss_fn), (None, 0, 0, 0)))
  each = each_fn(params, *batch)
  total = np.zeros_like(got)
  for i in range(2):
    row = oracle.flat64(jax.tree.map(lambda g, i=i: g[i], each))
    total += row * min(1.0, _CLIP_NORM / np.linalg.norm(row))
    assert np.linalg.norm(row) > _CLIP_NORM, "the step must have what to clip"
  # The noise from the same key and position, drawn for zeros.
  noise = noise_addition.gaussian_privatizer(
      stddev=0.8 * _CLIP_NORM / 2, prng_key=state[0].prng_key
  )
  zeros = jax.tree.map(jnp.zeros_like, params)
  drawn, _ = noise.update(zeros, noise.init(params))
  want = oracle.flat64(params) - _LEARNING_RATE * (
      total / 2 + oracle.flat64(drawn)
  )
  np.testing.assert_allclose(got, want, atol=2e-5)
  # And the masks were there: other keys give another gradient, beyond views.
  _assert_masks_matter(apply_fn, params, batch[0])


def _assert_masks_matter(apply_fn, params, images):
  run = jax.jit(apply_fn)
  keys = jax.random.split(jax.random.key(1), 2)
  with_masks = run(params, images, keys)
  assert jnp.max(jnp.abs(with_masks - run(params, images))) > 1e-3
  # An image's masks are its own key's, wherever it stands in the batch.
  swapped = run(params, images[::-1], keys[::-1])[::-1]
  np.testing.assert_allclose(with_masks, swapped, rtol=1e-4, atol=1e-5)
