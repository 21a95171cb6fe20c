"""The sum moves by at most `.sensitivity()` when one example changes.

Every neighbour is tried with adversarial examples: gradients that are huge,
tiny, opposite to all others, parallel to them, NaN or infinite. Beside the real
thing stand planted bugs, each of which the same check must catch: a check that
passes everything would pass these too.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from tests.support import float16, oracle

# Float32 sums of a dozen terms of norm C: rounding is some 1e-7 C.
_ROUNDING = 1 + 1e-5

_ADVERSARIES = {
    "huge": 1e20,
    "large": 1e3,
    "opposite": -1e3,
    "tiny": 1e-20,
    "zero": 0.0,
    "nan": np.nan,
    "infinite": np.inf,
}


def _loss(params, batch):
  """Its gradient is (x, x[:2]): whatever the adversary wants."""
  x = batch["x"]
  return jnp.sum(x * params["w"][None]) + jnp.sum(x[:, :2] * params["b"][None])


def _setup(dtype):
  params = {"w": np.ones(6, dtype), "b": np.ones(2, dtype)}
  x = np.random.default_rng(0).normal(size=(12, 6)).astype(dtype)
  return params, {"x": x}


def _worst_moves(grad_fn, params, batch):
  """Largest distance moved, by relation, over examples and adversaries."""
  row, dtype = 4, batch["x"].dtype
  with np.errstate(over="ignore"):  # Infinite in float16 is what is meant.
    rows = [{"x": np.full((1, 6), v, dtype)} for v in _ADVERSARIES.values()]
  # Two programs: 12 rows with a mask, and 11 without one.
  nobody = np.zeros(12, bool)
  dropped = oracle.flat64(grad_fn(params, oracle.drop(batch, row)))
  totals, zeroed = [], []
  for adversary in rows:
    with_it = oracle.replace(batch, row, adversary)
    for sums, mask in ((totals, nobody), (zeroed, np.arange(12) == row)):
      total = grad_fn(params, with_it, is_padding_example=mask)
      sums.append(oracle.flat64(total))

  def furthest(pairs):
    return max(oracle.distance(a, b) for a, b in pairs)

  return {
      "add_or_remove_one": furthest((total, dropped) for total in totals),
      "replace_special": furthest(zip(totals, zeroed, strict=True)),
      "replace_one": furthest(itertools.product(totals, totals)),
  }


def _within(worst, sensitivity):
  return {r: worst[r] <= sensitivity(r) * _ROUNDING for r in worst}


_OPTIONS = [
    {},
    {"rescale_to_unit_norm": True, "normalize_by": 3.0},
    {"microbatch_size": 5},
    {"dtype": jnp.float32},
    {"l2_clip_norm": {"w": 0.6, "b": 0.8}},
    {"l2_clip_norm": 1e-6},
]
# These change no dtype, nor what is summed in which.
_OTHER_OPTIONS = [
    {"rescale_to_unit_norm": True},
    {"normalize_by": 12.0},
    {"keep_batch_dim": True, "microbatch_size": 1},
    {"l2_clip_norm": {"w": 3.0, "b": 4.0}, "rescale_to_unit_norm": True},
    {"pre_clipping_transform": lambda g: {"w": 10.0 * g["w"]}},
    {"return_values": True, "return_grad_norms": True},
]
_SHORT = (jnp.bfloat16, jnp.float16)


@pytest.mark.few(6)
@pytest.mark.parametrize(
    "options, dtype",
    [
        pytest.param(
            options,
            dtype,
            id=f"{'+'.join(options) or 'default'}-{dtype.__name__}",
            marks=[pytest.mark.slow]
            * (options in _OTHER_OPTIONS and dtype in _SHORT),
        )
        for options in (*_OPTIONS, *_OTHER_OPTIONS)
        for dtype in (jnp.float32, *_SHORT)
    ],
)
def test_sensitivity_is_never_exceeded(options, dtype):
  float16.skip_if_missing(dtype)
  params, batch = _setup(dtype)
  bounded = jax_privacy.clipped_grad(_loss, **({"l2_clip_norm": 0.5} | options))
  jitted = jax.jit(bounded)

  def grad_fn(*args, **kwargs):
    out = jitted(*args, **kwargs)
    return out[0] if bounded.has_aux else out

  worst = _worst_moves(grad_fn, params, batch)
  assert all(_within(worst, bounded.sensitivity).values()), worst
  # And it is no looser than it says: a large example moves it all the way.
  assert worst["add_or_remove_one"] > 0.99 * bounded.sensitivity()
  assert worst["replace_one"] > 0.99 * bounded.sensitivity("replace_one")


def _sum_of_clipped(params, batch, clip):
  rows = {"x": batch["x"][:, None]}
  grads = jax.vmap(jax.grad(_loss), (None, 0))(params, rows)
  clipped = jax.vmap(clip)(grads)
  return jax.tree.map(lambda g: jnp.sum(g, axis=0), clipped)


def _scaled(grads, factor):
  return jax.tree.map(lambda g: g * factor.astype(g.dtype), grads)


def _norm(grads, dtype=jnp.float32):
  squares = [jnp.sum(g.astype(dtype) ** 2) for g in jax.tree.leaves(grads)]
  return jnp.sqrt(sum(squares))


def _no_clipping(params, batch):
  return jax.grad(_loss)(params, batch)


def _clip_the_batch(params, batch):
  grads = jax.grad(_loss)(params, batch)
  return _scaled(grads, 12 * 0.5 / jnp.maximum(_norm(grads), 0.5))


def _nan_slips_past(params, batch):
  # maximum(nan, c) is NaN, and so is all that it scales.
  clip = lambda g: _scaled(g, 0.5 / jnp.maximum(_norm(g), 0.5))
  return _sum_of_clipped(params, batch, clip)


def _each_parameter_to_the_whole_norm(params, batch):
  def clip(grads):
    return jax.tree.map(
        lambda g: jnp.where(
            jnp.isfinite(_norm(g)),
            jnp.nan_to_num(g * jnp.minimum(1.0, 0.5 / _norm(g))),
            0.0,
        ),
        grads,
    )

  return _sum_of_clipped(params, batch, clip)


def _divided_by_the_realised_batch_size(params, batch):
  total = jax_privacy.clipped_grad(_loss, l2_clip_norm=6.0)(params, batch)
  return jax.tree.map(lambda g: g / len(batch["x"]), total)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "bug",
    [
        _no_clipping,
        _clip_the_batch,
        _nan_slips_past,
        _each_parameter_to_the_whole_norm,
        _divided_by_the_realised_batch_size,
    ],
    ids=lambda bug: bug.__name__,
)
def test_planted_bugs_are_caught(bug):
  params, batch = _setup(jnp.float32)
  batch = {"x": batch["x"] * 100}  # Every example is clipped.
  jitted = jax.jit(bug)
  grad_fn = lambda params, batch, is_padding_example=None: jitted(
      params, _without(batch, is_padding_example)
  )
  worst = _worst_moves(grad_fn, params, batch)
  claimed = jax_privacy.clipped_grad(_loss, l2_clip_norm=0.5).sensitivity
  assert not all(_within(worst, claimed).values()), worst


def _without(batch, is_padding):
  if is_padding is None or not is_padding.any():
    return batch
  return oracle.drop(batch, int(np.argmax(is_padding)))


def test_float16_norms_are_caught():
  float16.skip_if_missing(jnp.float16)
  # Gradients of 1e-4 an entry: squares vanish in float16, not in float32.
  params = {"w": jnp.ones(6), "b": jnp.ones(2)}
  batch = {"x": jnp.full((1, 6), 1e-4)}
  clip_norm = 1e-5

  def clip(grads, dtype):
    norm = _norm(grads, dtype).astype(jnp.float32)
    return _scaled(grads, jnp.where(norm > clip_norm, clip_norm / norm, 1.0))

  grads = jax.grad(_loss)(params, batch)
  assert oracle.norm(clip(grads, jnp.float32)) < clip_norm * _ROUNDING
  assert oracle.norm(clip(grads, jnp.float16)) > 10 * clip_norm
  ours = jax.jit(jax_privacy.clipped_grad(_loss, l2_clip_norm=clip_norm))
  ours = ours(params, batch)
  assert oracle.norm(ours) <= clip_norm
