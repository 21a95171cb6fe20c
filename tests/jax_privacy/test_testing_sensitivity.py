"""`check_sensitivity`: planted bugs it must catch, sound ones it must pass.

Each bug is a gradient function with the claim of a sound one (C = 0.5), wrong
in one way that another library was, or could be. The control is `_clipped`, of
the same code without a bug.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

import jax_privacy
from jax_privacy import microbatching, sensitivity, testing
from jax_privacy.testing import control_flow, neighbours

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


@pytest.mark.parametrize("name", _BUGS)
def test_planted_bug_is_caught(name):
  grad_fn, message = _BUGS[name]
  with pytest.raises(testing.SensitivityError, match=message):
    testing.check_sensitivity(grad_fn, toy.params(), toy.batch(5))


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


@pytest.mark.parametrize("method", ["ghost", "vmap"])
@pytest.mark.parametrize(
    "case, options",
    [
        (lambda: (toy.loss, toy.params(), (toy.batch(5),)), {}),
        (
            lambda: (toy.loss, toy.params(), (toy.batch(5),)),
            {"microbatch_size": 2, "normalize_by": 16.0},
        ),
        (
            lambda: (toy.loss_aux, toy.params(), (toy.batch(4),)),
            {"has_aux": True, "rescale_to_unit_norm": True},
        ),
        (
            lambda: (toy.loss, toy.params(), (toy.batch(4),)),
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


def _loop(count_of):
  def fn(params, batch, is_padding):
    return jax.lax.fori_loop(
        0, count_of(batch, is_padding), lambda i, c: c + batch[0], params
    )

  return fn


def _inside_scan(params, batch, is_padding):
  # The predicate is public in the first round only: it is in the carry.
  del is_padding

  def body(carry, x):
    carry = jax.lax.cond(carry > 0, lambda: x, lambda: 2 * x)
    return carry, x

  return jax.lax.scan(body, params, batch)[0]


@pytest.mark.parametrize(
    "fn, data, padding",
    [
        (_loop(lambda b, m: 3), (), ()),
        (_loop(lambda b, m: jnp.sum(m)), (), ("while",)),
        (_loop(lambda b, m: jnp.sum(b > 0)), ("while",), ()),
        (_inside_scan, ("scan > cond",), ()),
        (jax.jit(_inside_scan), ("jit > scan > cond",), ()),
        (lambda p, b, m: jnp.where(b > 0, p, b), (), ()),
    ],
    ids=["public", "padding", "data", "carry", "jitted", "select"],
)
def test_branches_are_found_where_there_are_any(fn, data, padding):
  found = control_flow.find_branches(
      fn, jnp.ones(()), jnp.ones(3), jnp.zeros(3, bool)
  )
  assert found == (data, padding)


def test_microbatching_branches_on_padding_alone():
  def fn(params, batch, is_padding):
    def sum_fn(args, mask):
      return (jnp.sum(jnp.where(mask, 0.0, args[0] * params)),)

    return microbatching.sum_over_microbatches(
        sum_fn, (batch,), (0,), is_padding, 2
    )

  found = control_flow.find_branches(
      fn, jnp.ones(()), jnp.ones(5), jnp.zeros(5, bool)
  )
  assert found.data == () and found.padding == ("while",)
