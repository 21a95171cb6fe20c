import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy import views as views_lib
from tests.support import oracle


def _augment(key, image):
  return image + jax.random.normal(key, image.shape)


def _forward(params, views):
  return jnp.tanh(views @ params)


def _loss(logits, label):
  return jnp.sum((logits - label) ** 2)


def _make(num_views, loss_fn=None):
  return views_lib.augmult(
      _forward,
      loss_fn or views_lib.mean_over_views(_loss),
      augment_fn=_augment,
      num_views=num_views,
  )


def test_loss_is_the_mean_over_views_of_the_loss_of_each():
  params = jax.random.normal(jax.random.key(0), (4, 3))
  image = jnp.arange(4.0)
  key = jax.random.key(1)
  loss, logits = _make(5)(params, image, 0.5, key)
  views = views_lib.sample_views(_augment, key, image, num_views=5)
  each = [_loss(_forward(params, v[None])[0], 0.5) for v in views]
  np.testing.assert_allclose(loss, np.mean(each), rtol=1e-5)
  assert logits.shape == (5, 3)


def test_the_loss_sees_all_logits():
  # A term that compares views, as Botev et al. add.
  def spread(logits, label):
    del label
    return jnp.sum(jnp.var(logits, axis=0))

  params = jax.random.normal(jax.random.key(0), (4, 3))
  args = (params, jnp.ones(4), 0.0, jax.random.key(2))
  loss, logits = _make(6, spread)(*args)
  np.testing.assert_allclose(
      loss, np.asarray(logits).var(axis=0).sum(), rtol=1e-5
  )


def test_one_clip_for_all_views():
  # Clipping views by themselves and then averaging gives another sum.
  params = jax.random.normal(jax.random.key(0), (4, 3))
  images = jax.random.normal(jax.random.key(1), (6, 4))
  keys = views_lib.example_keys(
      jax.random.key(2), step=3, indices=jnp.arange(6)
  )
  loss_fn = _make(4)
  grad_fn = jax_privacy.clipped_grad(
      lambda *args: loss_fn(*args)[0],
      batch_argnums=(1, 2, 3),
      keep_batch_dim=False,
      l2_clip_norm=0.5,
  )
  got = jax.jit(grad_fn)(params, images, jnp.zeros(6), keys)
  view_grad = jax.jit(
      jax.grad(lambda p, v: _loss(_forward(p, v[None])[0], 0.0))
  )
  want = np.zeros(12)
  for i in range(6):
    views = views_lib.sample_views(_augment, keys[i], images[i], num_views=4)
    grads = [oracle.flat64(view_grad(params, v)) for v in views]
    mean = np.mean(grads, axis=0)
    want += mean * min(1, 0.5 / np.linalg.norm(mean))
  np.testing.assert_allclose(oracle.flat64(got), want, atol=2e-6)


def test_no_two_examples_steps_or_views_share_randomness():
  draws = []
  for step in range(3):
    keys = views_lib.example_keys(
        jax.random.key(0), step=step, indices=jnp.arange(5)
    )
    for key in keys:
      views = views_lib.sample_views(
          lambda k, x: x + jax.random.uniform(k),
          key,
          jnp.zeros(()),
          num_views=4,
      )
      draws.extend(views.tolist())
  assert len(set(draws)) == 3 * 5 * 4


def test_keys_do_not_depend_on_the_batch():
  key = jax.random.key(9)
  data = lambda k: jax.random.key_data(k)
  batch = views_lib.example_keys(key, step=2, indices=jnp.array([7, 3, -1, 5]))
  alone = views_lib.example_keys(key, step=2, indices=jnp.array([5]))
  np.testing.assert_array_equal(data(batch)[3], data(alone)[0])
  jitted = jax.jit(
      lambda step, i: views_lib.example_keys(key, step=step, indices=i)
  )(jnp.int32(2), jnp.array([7, 3], jnp.int16))
  np.testing.assert_array_equal(data(batch)[:2], data(jitted))


def test_without_augmentation():
  loss_fn = views_lib.augmult(_forward, views_lib.mean_over_views(_loss))
  params = jnp.ones((4, 3))
  loss, logits = loss_fn(params, jnp.ones(4), 0.0, None)
  assert logits.shape == (1, 3)
  np.testing.assert_allclose(loss, 3 * np.tanh(4.0) ** 2, rtol=1e-6)
  with pytest.raises(ValueError, match="num_views must be 1 without"):
    views_lib.augmult(_forward, _loss, num_views=2)
  with pytest.raises(ValueError, match="num_views must be an integer"):
    _make(0)
