"""Stochastic depth and dropout: their rates, and whose keys they look at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models
from jax_privacy import views as views_lib
from jax_privacy.models import masks

_KEYS = jax.random.split(jax.random.key(0), 4000)


def test_dropout_keeps_the_expectation():
  x = jnp.full((4000, 5), 3.0)
  y = np.asarray(masks.dropout(x, _KEYS, rate=0.4, layer=2))
  # Three roundings of 2^-24.
  np.testing.assert_allclose(np.unique(y), [0.0, 3.0 / 0.6], rtol=1e-6)
  # 20,000 draws: a deviation of 0.0035; five are allowed.
  assert abs(np.mean(y == 0.0) - 0.4) < 0.018


def test_each_entry_each_layer_and_each_image_is_drawn_by_itself():
  x = jnp.ones((4000, 2))
  first = np.asarray(masks.dropout(x, _KEYS, rate=0.5, layer=0)) > 0
  other = np.asarray(masks.dropout(x, _KEYS, rate=0.5, layer=1)) > 0
  # Independent fair coins agree half the time, within 5 * 0.0079.
  for a, b in (
      (first[:, 0], first[:, 1]),
      (first[:, 0], other[:, 0]),
      (first[1:, 0], first[:-1, 0]),
  ):
    assert abs(np.mean(a == b) - 0.5) < 0.04


def test_no_layer_of_stochastic_depth_shares_draws_with_another():
  kept = masks.stochastic_depth(_KEYS, rates=(0.0, 0.5, 0.5))
  assert kept[0] is None
  assert abs(float(jnp.mean(kept[1] == kept[2])) - 0.5) < 0.04


def test_without_keys_nothing_is_dropped():
  assert masks.stochastic_depth(None, rates=(0.0, 0.5)) == [None, None]
  x = jnp.ones((2, 3))
  assert masks.dropout(x, None, rate=0.5, layer=0) is x
  assert masks.dropout(x, _KEYS[:2], rate=0.0, layer=0) is x


def test_later_blocks_are_dropped_more_often():
  assert masks.drop_rates(0.5, num_blocks=4) == (0.0, 0.125, 0.25, 0.375)


@pytest.mark.parametrize(
    "keys",
    [
        jax.random.split(jax.random.key(0), 3),
        jax.random.key(0),
        jnp.zeros((2, 2), jnp.float32),
        jnp.zeros(2, jnp.uint32),
        jax.random.split(jax.random.key(0), (2, 2)),
    ],
    ids=["three", "one", "floats", "one raw", "two each"],
)
def test_keys_that_are_not_one_per_image_are_refused(keys):
  with pytest.raises(ValueError, match="keys must be one per image, 2, got"):
    masks.check_keys(keys, num_images=2)


def test_raw_keys_draw_what_typed_keys_draw():
  raw = jax.random.key_data(_KEYS[:4])
  masks.check_keys(raw, num_images=4)
  x = jnp.ones((4, 50))
  np.testing.assert_array_equal(
      masks.dropout(x, raw, rate=0.5, layer=1),
      masks.dropout(x, _KEYS[:4], rate=0.5, layer=1),
  )


class _Dropping(nnx.Module):
  """A linear layer behind dropout: what is dropped shows in the output."""

  def __init__(self):
    self.linear = nnx.Linear(8, 8, use_bias=False, rngs=nnx.Rngs(0))
    self.linear.kernel[...] = jnp.eye(8)

  def __call__(self, x, *, keys=None):
    return self.linear(masks.dropout(x, keys, rate=0.5, layer=0))


def test_apply_gives_keys_to_a_model_that_takes_them():
  apply_fn, params = models.functional(_Dropping())
  x, keys = jnp.ones((4, 8)), _KEYS[:4]
  np.testing.assert_array_equal(apply_fn(params, x), x)
  want = masks.dropout(x, keys, rate=0.5, layer=0)
  np.testing.assert_array_equal(apply_fn(params, x, keys), want)


def test_apply_gives_no_keys_to_a_model_without_masks():
  apply_fn, params = models.functional(nnx.Linear(8, 2, rngs=nnx.Rngs(0)))
  x = jnp.ones((4, 8))
  np.testing.assert_array_equal(
      apply_fn(params, x, _KEYS[:4]), apply_fn(params, x)
  )


def _masks_of_views(step, indices, *, augment_fn=None, num_views=3):
  """What augmult drops for each view of each example, [n, views, 8]."""
  apply_fn, params = models.functional(_Dropping())
  loss_fn = views_lib.augmult(
      apply_fn,
      lambda logits, label: jnp.sum(logits),
      augment_fn=augment_fn or (lambda key, x: x),
      num_views=num_views,
      forward_takes_keys=True,
  )
  keys = views_lib.example_keys(
      jax.random.key(7), step=step, indices=jnp.asarray(indices)
  )
  batch = jnp.ones((len(indices), 8))
  _, logits = jax.vmap(loss_fn, (None, 0, None, 0))(params, batch, 0.0, keys)
  return np.asarray(logits)


def test_masks_depend_on_run_key_step_and_example_index_alone():
  batch = _masks_of_views(4, [9, 2, -1, 5])
  np.testing.assert_array_equal(_masks_of_views(4, [5])[0], batch[3])
  np.testing.assert_array_equal(_masks_of_views(4, [2, 9]), batch[[1, 0]])
  assert (_masks_of_views(5, [9]) != batch[0]).any()


def test_no_two_views_examples_or_steps_share_a_mask():
  # 8 coins in 24 views: a pair is alike with probability 1/256, and of 276
  # pairs about one is, while shared keys would leave 12 different at most.
  rows = np.concatenate(
      [_masks_of_views(step, range(4)).reshape(-1, 8) for step in (0, 1)]
  )
  assert len(np.unique(rows, axis=0)) > 18


def test_masks_are_not_drawn_from_the_keys_of_augmentations():
  # An augmentation that draws as the mask does, and so would undo it.
  def augment(key, x):
    key = jax.random.fold_in(key, 0)
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 1.0, -1.0)

  logits = _masks_of_views(0, range(50), augment_fn=augment)
  views = np.sign(logits[logits != 0.0])
  # Some 600 kept entries, half of either sign: a deviation of 0.02.
  assert abs(np.mean(views > 0) - 0.5) < 0.1
