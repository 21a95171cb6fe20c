"""`check_sensitivity`: planted bugs it must catch, sound ones it must pass.

Each bug is a gradient function with the claim of a sound one (C = 0.5), wrong
in one way that another library was, or could be. The control is `_clipped`, of
the same code without a bug.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import sensitivity, testing
from tests.support import toy

_CLIP = 0.5


def _claims(fun, bound=_CLIP):
  return sensitivity.BoundedSensitivityCallable(
      fun=fun, l2_norm_bound=bound, has_aux=False
  )


def _grads(params, batch):
  rows = jax.tree.map(lambda x: jnp.expand_dims(x, 1), batch)
  return jax.vmap(jax.grad(toy.loss), (None, 0))(params, rows)


def _squares(grad):
  return [jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grad)]


def _sound_factor(grad):
  norm = jnp.sqrt(sum(_squares(grad)))
  factor = jnp.minimum(1.0, _CLIP * (1 - 1e-6) / norm)
  return jnp.where(jnp.isfinite(norm), factor, 0.0)


def _sum(grads, factors, mask):
  def total(g):
    keep = (~mask & (factors != 0)).reshape(-1, *[1] * (g.ndim - 1))
    scaled = g * factors.reshape(keep.shape)
    return jnp.sum(jnp.where(keep, scaled, 0.0), axis=0)

  return jax.tree.map(total, grads)


def _clipped(factor_fn=_sound_factor, grads_fn=_grads):
  """A clipped gradient whose factor, or gradients, a bug can replace."""

  def fun(params, batch, *, is_padding_example):
    grads = grads_fn(params, batch)
    return _sum(grads, jax.vmap(factor_fn)(grads), is_padding_example)

  return _claims(fun)


def _clip_tree(tree):
  factor = _sound_factor(tree)
  return jax.tree.map(lambda g: jnp.where(factor > 0, g * factor, 0.0), tree)


_SOUND = _clipped()


def test_the_control_passes():
  # Every bug below is this code, changed in one place.
  report = testing.check_sensitivity(_SOUND, toy.params(), toy.batch(5))
  assert report.movements["add_or_remove_one"] <= _CLIP + report.tolerance
  # An example that is scaled far enough reaches its bound, and its opposite
  # the bound of a replacement: the check is not blind to a bound 1% too low.
  assert report.movements["add_or_remove_one"] > 0.99 * _CLIP
  assert report.movements["replace_one"] > 0.99 * 2 * _CLIP


def _of_the_mean(params, batch, *, is_padding_example):
  """Clips the batch's mean gradient, and not each example's."""
  grads = _sum(
      _grads(params, batch), jnp.ones(len(batch["y"])), is_padding_example
  )
  return _clip_tree(grads)


def _by_realised_size(params, batch, *, is_padding_example):
  """Divides by the realised batch size, claiming C over the expected 5."""
  total = _SOUND(params, batch, is_padding_example=is_padding_example)
  size = jnp.maximum(1.0, jnp.sum(~is_padding_example).astype(jnp.float32))
  return jax.tree.map(lambda g: g / size, total)


def _without(name):
  def factor(grad):
    return _sound_factor({k: v for k, v in grad.items() if k != name})

  return factor


def _each_leaf(params, batch, *, is_padding_example):
  """Clips each array to C by itself, and claims C for all."""
  mask = is_padding_example
  grads = _grads(params, batch)
  return jax.tree.map(
      lambda g: _sum(g, jax.vmap(_sound_factor)(g), mask), grads
  )


def _nan_slips(params, batch, *, is_padding_example):
  """min(1, C / NaN) is NaN, and the sum is lost."""
  grads = _grads(params, batch)

  def total(g, f):
    factors = f.reshape(-1, *[1] * (g.ndim - 1))
    keep = ~is_padding_example.reshape(factors.shape)
    return jnp.sum(jnp.where(keep, g * factors, 0.0), axis=0)

  def factor(grad):
    return jnp.minimum(1.0, _CLIP / jnp.sqrt(sum(_squares(grad))))

  factors = jax.vmap(factor)(grads)
  return jax.tree.map(lambda g: total(g, factors), grads)


def _batch_norm(params, batch, *, is_padding_example):
  """Standardises the inputs by the batch's own mean and deviation."""
  x = batch["x"]
  mean = jnp.mean(x, axis=0, keepdims=True)
  batch = {**batch, "x": (x - mean) / (jnp.std(x) + 1e-3)}
  return _SOUND(params, batch, is_padding_example=is_padding_example)


def _overlapping_microbatches(params, batch, *, is_padding_example):
  """Microbatches of 2 that overlap where 2 does not divide the batch."""
  total = jax.tree.map(jnp.zeros_like, params)
  size = len(batch["y"])
  for start in range(0, size, 2):
    start = min(start, size - 2)
    rows = jax.tree.map(lambda x, s=start: x[s : s + 2], batch)
    part = _SOUND(
        params, rows, is_padding_example=is_padding_example[start : start + 2]
    )
    total = jax.tree.map(jnp.add, total, part)
  return total


def _last_microbatch_lost(params, batch, *, is_padding_example):
  rows = jax.tree.map(lambda x: x[:-1], batch)
  # What is lost moves nothing: this leaks nothing, and is wrong all the same.
  doubled = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), rows)
  return _SOUND(params, doubled, is_padding_example=is_padding_example)


def _mean_of_microbatches(params, batch, *, is_padding_example):
  """Clips the mean gradient of two examples, and claims C for each."""
  mask = is_padding_example
  total = jax.tree.map(jnp.zeros_like, params)
  for start in range(0, len(mask), 2):
    rows = jax.tree.map(lambda x, s=start: x[s : s + 2], batch)
    part = _of_the_mean(
        params, rows, is_padding_example=mask[start : start + 2]
    )
    total = jax.tree.map(jnp.add, total, part)
  return total


def _data_dependent_cond(params, batch, *, is_padding_example):
  """Skips the backward pass if no example is far off."""
  return jax.lax.cond(
      jnp.max(jnp.abs(batch["x"])) > 1e-3,
      lambda: _SOUND(params, batch, is_padding_example=is_padding_example),
      lambda: _SOUND(params, batch, is_padding_example=is_padding_example),
  )


def _data_dependent_while(params, batch, *, is_padding_example):
  """Halves the sum until it is small: the number of rounds tells how large."""
  total = _SOUND(params, batch, is_padding_example=is_padding_example)

  def too_large(tree):
    return sum(_squares(tree)) > 1e-3

  return jax.lax.while_loop(
      too_large, lambda t: jax.tree.map(lambda g: g / 2, t), total
  )


def _data_dependent_shape(params, batch, *, is_padding_example):
  """Drops rows of large values, by NumPy, before they reach XLA."""
  keep = np.abs(np.asarray(batch["x"])).max(axis=1) < 1e6
  rows = jax.tree.map(lambda x: x[keep], batch)
  return _SOUND(params, rows, is_padding_example=is_padding_example[keep])


def _only_when_not_traced(params, batch, *, is_padding_example):
  """The same, where jit does not see it."""
  if not isinstance(batch["x"], jax.core.Tracer):
    return _data_dependent_shape(
        params, batch, is_padding_example=is_padding_example
    )
  return _SOUND(params, batch, is_padding_example=is_padding_example)


def _one_row_each(params, batch, *, is_padding_example):
  """Returns what each example adds, and not the sum."""
  del is_padding_example
  return jax.vmap(_clip_tree)(_grads(params, batch))


def _bfloat16_sum(params, batch, *, is_padding_example):
  total = _SOUND(params, batch, is_padding_example=is_padding_example)
  return jax.tree.map(lambda g: g.astype(jnp.bfloat16), total)


def _padding_counts(params, batch, *, is_padding_example):
  nobody = jnp.zeros_like(is_padding_example)
  return _SOUND(params, batch, is_padding_example=nobody)


def _noise_of_the_host(params, batch, *, is_padding_example):
  """Randomness that no argument determines."""
  total = _SOUND(params, batch, is_padding_example=is_padding_example)
  rng = np.random.default_rng()

  def noisy(g):
    shape = jax.ShapeDtypeStruct(g.shape, g.dtype)
    return g + jax.pure_callback(
        lambda: rng.normal(size=g.shape).astype(np.float32), shape
    )

  return jax.tree.map(noisy, total)


_BUGS = {
    "clip norm ignored": (
        _clipped(lambda grad: jnp.ones(())),
        "add_or_remove_one: example",
    ),
    "clip of the batch's mean": (_claims(_of_the_mean), "not the sum of"),
    "clip of a microbatch's mean": (
        _claims(_mean_of_microbatches),
        "not the sum of",
    ),
    "realised batch size": (
        _claims(_by_realised_size, _CLIP / 5),
        "not the sum of",
    ),
    "an array left out of the norm": (
        _clipped(_without("inner")),
        "add_or_remove_one: example",
    ),
    "arrays clipped each, claimed as one": (
        _claims(_each_leaf),
        "add_or_remove_one: example",
    ),
    "NaN slips past": (_claims(_nan_slips), "moves the sum by nan"),
    "batch norm": (_claims(_batch_norm), "depends on rows that are padding"),
    "overlapping microbatches": (
        _claims(_overlapping_microbatches),
        "moves the sum by",
    ),
    "last microbatch lost": (_claims(_last_microbatch_lost), "padding"),
    "cond on data": (_claims(_data_dependent_cond), "Control flow depends"),
    "while on data": (_claims(_data_dependent_while), "in while"),
    "shape from data": (_claims(_data_dependent_shape), "reads values"),
    "shape from data, not traced": (
        _claims(_only_when_not_traced),
        "depends on private values: it differs between the batch and",
    ),
    "no sum": (_claims(_one_row_each), "shapes depend on the batch size"),
    "bfloat16 sum": (_claims(_bfloat16_sum), "must be float32 or float64"),
    "padding counts": (_claims(_padding_counts), "not the sum|padding"),
    "randomness of its own": (_claims(_noise_of_the_host), "Two runs"),
    "sensitivity understated by 1%": (
        _claims(_SOUND.fun, 0.99 * _CLIP),
        "more than the claimed sensitivity 0.495",
    ),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", _BUGS)
def test_planted_bug_is_caught(name):
  grad_fn, message = _BUGS[name]
  with pytest.raises(testing.SensitivityError, match=message):
    testing.check_sensitivity(grad_fn, toy.params(), toy.batch(5))


def test_a_claim_too_low_for_replacements_alone_is_caught():
  class OneForAll:
    """Claims C for a replaced example too, which moves the sum by 2 C."""

    def __call__(self, *args, **kwargs):
      return _SOUND(*args, **kwargs)

    def sensitivity(self, relation):
      del relation
      return _CLIP

  with pytest.raises(testing.SensitivityError, match="^replace_one: example"):
    testing.check_sensitivity(OneForAll(), toy.params(), toy.batch(5))


def test_arguments_are_checked():
  with pytest.raises(ValueError, match="max_examples must be an integer"):
    testing.check_sensitivity(
        _SOUND, toy.params(), toy.batch(4), max_examples=1
    )
  with pytest.raises(ValueError, match="batch must be arrays with one leading"):
    testing.check_sensitivity(_SOUND, toy.params(), toy.batch(1))
  with pytest.raises(ValueError, match=r"sensitivity\('add_or_remove_one'\)"):
    endless = _claims(_SOUND.fun, math.inf)
    testing.check_sensitivity(endless, toy.params(), toy.batch(4))
