"""Augmentation multiplicity: K views of an example, clipped as one.

The loss of an example is the loss of its K views together, so the mean view's
gradient is clipped. K views cost K times the work, and no privacy.

The invariant: views never mix examples. The key of view k of example i at step
t depends on (run key, t, i, k) alone. So batch layout, padding, microbatches
and devices cannot change it.

Source: De et al. 2022 (arXiv 2204.13650), section 3; Fort et al. 2021
(2105.13343); Hoffer et al. 2019 (1901.09335).

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy import views
  >>> shift = lambda key, x: x + jax.random.uniform(key)
  >>> loss_fn = views.augmult(
  ...     lambda params, images: params * images,
  ...     views.mean_over_views(lambda logits, label: (logits - label) ** 2),
  ...     augment_fn=shift, num_views=8)
  >>> keys = views.example_keys(
  ...     jax.random.key(0), step=0, indices=jnp.array([5]))
  >>> loss, logits = loss_fn(1.0, jnp.float32(2.0), 2.0, keys[0])
  >>> print(logits.shape, (loss == jnp.mean((logits - 2.0) ** 2)).item())
  (8,) True
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jax_privacy import _validate

# In the place of a view's number, which it is not.
_MASKS = 2**32 - 1

# (key, image) -> image
AugmentFn = Callable[[chex.PRNGKey, jax.Array], jax.Array]


def augmult(
    forward_fn: Callable[..., jax.Array],
    loss_fn: Callable[[jax.Array, Any], jax.Array],
    *,
    augment_fn: AugmentFn | None = None,
    num_views: int = 1,
    forward_takes_keys: bool = False,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """Turns a model and a loss over views into the loss of one example.

  Args:
    forward_fn: `forward_fn(params, views)` for views [num_views, ...] giving
      logits [num_views, ...].
    loss_fn: `loss_fn(logits, label)` over ALL views' logits, giving a scalar:
      `mean_over_views` of a loss over one view, plus any term that compares
      views, which costs no sensitivity.
    augment_fn: One random view of an example; None for the example itself.
    num_views: Views an example; above 1 only with an `augment_fn`.
    forward_takes_keys: Whether it is `forward_fn(params, views, keys)`, with a
      key for each view's dropout and stochastic depth, [num_views], that comes
      from the example's key and the view's number alone.

  Returns:
    `fn(params, example, label, key) -> (loss, logits)` for one example without
    a batch axis; give it to `clipped_grad(has_aux=True, keep_batch_dim=False)`.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  _validate.integer("num_views", num_views, at_least=1)
  if augment_fn is None and num_views > 1:
    rule = "1 without an augment_fn (all views would be equal)"
    _validate.fail("num_views", rule, num_views)

  def example_loss(params, example, label, key):
    if augment_fn is None:
      views = jnp.expand_dims(example, 0)
    else:
      views = sample_views(augment_fn, key, example, num_views=num_views)
    masks = [_mask_keys(key, num_views)] if forward_takes_keys else []
    logits = forward_fn(params, views, *masks)
    return loss_fn(logits, label), logits

  return example_loss


def sample_views(
    augment_fn: AugmentFn,
    key: chex.PRNGKey,
    example: jax.Array,
    *,
    num_views: int,
) -> jax.Array:
  """Returns independent views of one example, [num_views, ...].

  Args:
    augment_fn: Function of (key, example) that returns one view.
    key: PRNG key of the example.
    example: Example, any shape.
    num_views: Number of views.
  """
  keys = _view_keys(key, num_views)
  return jax.vmap(augment_fn, in_axes=(0, None))(keys, example)


def _mask_keys(key, num_views):
  """A key per view, none of which `sample_views` gives to `augment_fn`."""
  return _view_keys(jax.random.fold_in(key, _MASKS), num_views)


def _view_keys(key, num_views):
  return jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(num_views))


def mean_over_views(
    loss_fn: Callable[[jax.Array, Any], jax.Array],
) -> Callable[[jax.Array, Any], jax.Array]:
  """Returns the mean over views of a loss over one view's logits.

  Args:
    loss_fn: Function of (logits, label) of one view.
  """

  def mean_loss(logits, label):
    losses = jax.vmap(loss_fn, in_axes=(0, None))(logits, label)
    chex.assert_rank(losses, 1)
    return jnp.mean(losses)

  return mean_loss


def example_keys(
    key: chex.PRNGKey, *, step: chex.Numeric, indices: jax.typing.ArrayLike
) -> jax.Array:
  """Returns a key per example, from (run key, step, example index) alone.

  For `clipped_grad(prng_argnum=..., keys_by_example=True)`, and for losses that
  draw views or dropout by themselves.

  Args:
    key: The run's augmentation key; not its noise key, nor `make_private`'s.
    step: The step's number.
    indices: Example indices [batch_size]; -1 for padding.

  Returns:
    Keys [batch_size].

  Guarantee: An example's key is the same in every batch of that step, wherever
    it is and whoever else is there: removing, adding or replacing one example
    changes no other's key. Of an index that is in a batch twice, both rows have
    the same key.
  """
  step_key = jax.random.fold_in(key, step)
  return jax.vmap(lambda i: jax.random.fold_in(step_key, i))(
      jnp.asarray(indices)
  )
