"""`check_sensitivity` on the library's own sums, and on bugs of its kinds."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy import sensitivity, testing
from jax_privacy.testing import neighbours
from tests.support import float16, toy

_CLIP = 0.5


def _claims(fun, bound=_CLIP):
  return sensitivity.BoundedSensitivityCallable(
      fun=fun, l2_norm_bound=bound, has_aux=False
  )


def test_tied_weights_whose_norms_are_added_not_summed():
  # Both uses' gradients are x, so the true one is 2x, of norm 2 |x|; as two
  # parameters it seems to be sqrt(2) |x|, and the clip is too weak by sqrt(2).
  def fun(w, x, *, is_padding_example):
    del w
    factors = _CLIP / jnp.maximum(_CLIP, math.sqrt(2) * jnp.abs(x))
    grads = jnp.where(jnp.isfinite(x), 2 * x * factors, 0.0)
    return jnp.sum(jnp.where(is_padding_example, 0.0, grads))

  x = jnp.linspace(-1.0, 1.0, 5)
  with pytest.raises(testing.SensitivityError, match="add_or_remove_one") as e:
    testing.check_sensitivity(_claims(fun), jnp.ones(()), x)
  moved = float(str(e.value).split("moves the sum by ")[1].split(",")[0])
  assert moved == pytest.approx(math.sqrt(2) * _CLIP, rel=0.5)
  tied = jax_privacy.clipped_grad(
      lambda w, x: w * x + w * x, l2_clip_norm=_CLIP, keep_batch_dim=False
  )
  testing.check_sensitivity(tied, jnp.ones(()), x)


def test_norms_in_float16_are_caught_and_in_float32_not():
  float16.skip_if_missing(jnp.float16)
  # 4096 entries of 2e-4 have norm 1.3e-2; their squares, 4e-8, are less than
  # half of float16's least number, 6e-8 x 2 / 2, so the norm seems to be 0.
  clip = 1e-4

  def fun(w, x, *, is_padding_example, norm_dtype):
    del w
    squares = jnp.square(x.astype(norm_dtype))
    norms = jnp.sqrt(jnp.sum(squares.astype(jnp.float32), axis=1))
    finite = jnp.isfinite(norms) & jnp.isfinite(x).all(axis=1)
    keep = (finite & ~is_padding_example)[:, None]
    factors = jnp.minimum(1.0, clip * (1 - 1e-6) / norms)
    return jnp.sum(jnp.where(keep, x * factors[:, None], 0.0), axis=0)

  x = jax.random.normal(jax.random.key(0), (3, 4096))
  for dtype in (jnp.float16, jnp.float32):
    grad_fn = _claims(functools.partial(fun, norm_dtype=dtype), clip)
    if dtype == jnp.float32:
      testing.check_sensitivity(grad_fn, jnp.zeros(4096), x)
    else:
      with pytest.raises(testing.SensitivityError, match="times 0.0001|1e-05"):
        testing.check_sensitivity(grad_fn, jnp.zeros(4096), x)


def _conv_loss(params, image, label):
  features = jax.lax.conv_general_dilated(
      image, params["kernel"], (1, 1), "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )  # fmt: skip
  features = jnp.tanh(features + params["bias"].reshape(1, 1, 1, -1))
  logits = jnp.mean(features, axis=(1, 2))
  return -jnp.mean(jnp.sum(label * jax.nn.log_softmax(logits), axis=-1))


def _tied_loss(params, tokens):
  x = params["embed"][tokens]
  logits = x @ params["embed"].T
  return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[..., 0])


def _conv_case():
  keys = jax.random.split(jax.random.key(0), 3)
  params = {
      "kernel": jax.random.normal(keys[0], (3, 3, 2, 4)),
      "bias": jnp.zeros(4),
  }
  label = jax.nn.one_hot(jnp.arange(4), 4)
  return _conv_loss, params, (jax.random.normal(keys[1], (4, 5, 5, 2)), label)


def _tied_case():
  params = {"embed": jax.random.normal(jax.random.key(0), (7, 3))}
  return _tied_loss, params, (jnp.arange(20).reshape(4, 5) % 7,)


@pytest.mark.few(1)
@pytest.mark.parametrize("method", ["ghost", "vmap"])
@pytest.mark.parametrize(
    "case, options",
    [
        (lambda: (toy.loss, toy.params(), (toy.batch(3),)), {}),
        (
            lambda: (toy.loss, toy.params(), (toy.batch(3),)),
            {"microbatch_size": 2, "normalize_by": 16.0},
        ),
        (
            lambda: (toy.loss_aux, toy.params(), (toy.batch(3),)),
            {"has_aux": True, "rescale_to_unit_norm": True},
        ),
        (
            lambda: (toy.loss, toy.params(), (toy.batch(3),)),
            {"l2_clip_norm": {"w": 0.3, "inner": 0.1}},
        ),
        (_conv_case, {"batch_argnums": (1, 2), "return_values": True}),
        (_tied_case, {}),
    ],
    ids=["plain", "microbatches", "unit norm", "per part", "conv", "tied"],
)
def test_the_library_passes(method, case, options):
  loss_fn, params, batch = case()
  options = {"l2_clip_norm": _CLIP, **options}
  grad_fn = jax_privacy.clipped_grad(loss_fn, method=method, **options)
  report = testing.check_sensitivity(grad_fn, params, *batch)
  # Skipping microbatches of padding is known, told, and allowed.
  assert bool(report.padding_branches) == ("microbatch_size" in options)
  assert report.bounds["replace_one"] == 2 * report.bounds["add_or_remove_one"]


def _dropout_loss(params, batch, key):
  mask = jax.random.bernoulli(key, 0.5, batch["x"].shape)
  return toy.loss(params, {**batch, "x": jnp.where(mask, batch["x"], 0.0)})


@pytest.mark.slow
def test_dropout_with_keys_by_position_claims_and_passes_replacement():
  grad_fn = jax_privacy.clipped_grad(
      _dropout_loss, l2_clip_norm=_CLIP, prng_argnum=2
  )
  args = (toy.params(), toy.batch(4), jax.random.key(0))
  report = testing.check_sensitivity(grad_fn, *args, unbatched=(1,))
  assert set(report.bounds) == {"replace_special", "replace_one"}
  assert report.movements["replace_special"] > 0.99 * _CLIP


def test_keys_by_position_that_claim_removal_are_caught():
  grad_fn = dataclasses.replace(
      jax_privacy.clipped_grad(
          _dropout_loss, l2_clip_norm=_CLIP, prng_argnum=2
      ),
      keys_by_position=False,  # The planted bug: a claim for removal.
  )
  args = (toy.params(), toy.batch(4), jax.random.key(0))
  with pytest.raises(
      testing.SensitivityError, match="add_or_remove_one: .*dropped"
  ):
    testing.check_sensitivity(grad_fn, *args, unbatched=(1,))


def test_dropout_with_keys_by_example_passes():
  grad_fn = jax_privacy.clipped_grad(
      _dropout_loss, l2_clip_norm=_CLIP, prng_argnum=2, keys_by_example=True
  )
  keys = jax_privacy.example_keys(
      jax.random.key(0), step=0, indices=jnp.arange(4)
  )
  report = testing.check_sensitivity(grad_fn, toy.params(), toy.batch(4), keys)
  assert report.movements["add_or_remove_one"] > 0.99 * _CLIP


def test_what_nan_safe_gives_up_is_found():
  grad_fn = jax_privacy.clipped_grad(
      toy.loss, l2_clip_norm=_CLIP, nan_safe=False
  )
  with pytest.raises(testing.SensitivityError, match="nan"):
    testing.check_sensitivity(grad_fn, toy.params(), toy.batch(4))


def test_the_error_names_relation_example_movement_and_bound():
  grad_fn = _claims(lambda w, x, *, is_padding_example: jnp.sum(
      jnp.where(is_padding_example, 0.0, jnp.nan_to_num(x, posinf=0, neginf=0))
  ), 2.0)  # fmt: skip
  text = (
      "add_or_remove_one: example 0, marked as padding, moves the sum by 3,"
      r" more than the claimed sensitivity 2 \(tolerance"
  )
  with pytest.raises(testing.SensitivityError, match=text):
    x = jnp.array([3.0, 0.0])
    testing.check_sensitivity(grad_fn, jnp.zeros(()), x)


@pytest.mark.parametrize("row", [0, 2])
def test_replacements_change_one_row_only(row):
  batch = {
      "x": jnp.ones((3, 2)),
      "label": jnp.arange(3),
      "flag": jnp.ones(3) > 0,
  }
  names = []
  for name, other in neighbours.replacements(batch, row):
    names.append(name)
    for key, x in other.items():
      assert x.dtype == batch[key].dtype and x.shape == batch[key].shape
      rest = np.delete(np.arange(3), row)
      np.testing.assert_array_equal(x[rest], batch[key][rest])
  assert len(set(names)) == len(names) and len(names) > 30
