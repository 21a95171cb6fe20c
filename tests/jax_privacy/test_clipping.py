"""`clipped_grad` against the slow oracle, and its sensitivity."""

import dp_accounting
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy import clipping
from tests.support import oracle
from tests.support.toy import batch as _batch
from tests.support.toy import loss as _loss
from tests.support.toy import loss_aux as _loss_aux
from tests.support.toy import params as _params

# Of float32 sums of ten terms of norm 0.7 at most, in directions of their own:
# each is cut by 4 units (4.8e-7) more than it need be, their sum by the root of
# ten times that, 1.1e-6, and the rest is rounding.
_RTOL = 2e-6


def _jitted(**options):
  return jax.jit(jax_privacy.clipped_grad(_loss, **options))


_MICROBATCHES = (
    (None, True), (None, False), (1, True), (3, True), (5, True), (64, True)
)  # fmt: skip


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "keep_batch_dim, microbatch_size, jitted",
    [
        *((True, *case) for case in _MICROBATCHES),
        # How a batch is cut is decided before an example is looked at.
        *((False, *case) for case in _MICROBATCHES[:2]),
        *(
            pytest.param(False, *case, marks=pytest.mark.slow)
            for case in _MICROBATCHES[2:]
        ),
    ],
)
def test_equals_oracle(keep_batch_dim, microbatch_size, jitted):
  params, batch = _params(), _batch()
  want, want_norms = oracle.clipped_sum(
      _loss, params, batch, 0.7, keep_batch_dim=keep_batch_dim
  )
  # Some examples must be clipped and some not, or the test says little.
  assert (want_norms > 0.7).any() and (want_norms < 0.7).any()
  grad_fn = jax_privacy.clipped_grad(
      _loss,
      l2_clip_norm=0.7,
      keep_batch_dim=keep_batch_dim,
      microbatch_size=microbatch_size,
      return_grad_norms=True,
  )
  got, aux = (jax.jit(grad_fn) if jitted else grad_fn)(params, batch)
  np.testing.assert_allclose(oracle.flat64(got), want, rtol=0, atol=_RTOL)
  np.testing.assert_allclose(aux.grad_norms, want_norms, rtol=_RTOL)
  assert aux.values is None and aux.aux is None


def test_clip_norm_is_honoured():
  # A public API that ignores the clip norm it is given gives equal sums.
  params, batch = _params(), _batch(scale=5.0)
  for clip_norm in (0.01, 0.1):
    got = _jitted(l2_clip_norm=clip_norm)(params, batch)
    want, norms = oracle.clipped_sum(_loss, params, batch, clip_norm)
    # Examples cancel in the sum, so its error is of each one's norm, which is
    # at most the clip norm: some 32 roundings deep, for each example.
    atol = len(norms) * 32 * np.finfo(np.float32).eps * clip_norm
    np.testing.assert_allclose(oracle.flat64(got), want, rtol=0, atol=atol)


def test_aux_values_and_norms():
  params, batch = _params(), _batch()
  grad_fn = jax_privacy.clipped_grad(
      _loss_aux,
      has_aux=True,
      l2_clip_norm=1.0,
      return_values=True,
      return_grad_norms=True,
      microbatch_size=4,
  )
  _, aux = jax.jit(grad_fn)(params, batch)
  loss = jax.jit(_loss)
  losses = [
      loss(params, oracle.example_rows(batch, i, keep_batch_dim=True))
      for i in range(10)
  ]
  np.testing.assert_allclose(aux.values, losses, rtol=1e-5)
  np.testing.assert_allclose(aux.aux["double"], 2 * aux.values, rtol=1e-6)
  # The axis of 1 that keep_batch_dim puts in does not come back.
  np.testing.assert_array_equal(aux.aux["x"], batch["x"])
  assert grad_fn.has_aux


def test_several_argnums_and_batch_argnums():
  params, batch = _params(), _batch()
  loss = lambda w, x, inner, y: _loss(
      {"w": w, "inner": inner}, {"x": x, "y": y}
  )
  grad_fn = jax_privacy.clipped_grad(
      loss, argnums=(0, 2), batch_argnums=(1, 3), l2_clip_norm=0.5
  )
  args = params["w"], batch["x"], params["inner"], batch["y"]
  got = jax.jit(grad_fn)(*args)
  want = _jitted(l2_clip_norm=0.5)(params, batch)
  assert isinstance(got, tuple)
  got = {"w": got[0], "inner": got[1]}
  # Two programs, each within the rounding of the oracle's sum.
  np.testing.assert_allclose(
      oracle.flat64(got), oracle.flat64(want), rtol=0, atol=2 * _RTOL
  )


def test_rescale_and_normalize():
  params, batch = _params(), _batch()
  plain = jax_privacy.clipped_grad(_loss, l2_clip_norm=0.25)
  both = jax_privacy.clipped_grad(
      _loss, l2_clip_norm=0.25, rescale_to_unit_norm=True, normalize_by=8.0
  )
  want = oracle.flat64(jax.jit(plain)(params, batch)) / 0.25 / 8.0
  got = oracle.flat64(jax.jit(both)(params, batch))
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)
  assert plain.sensitivity() == 0.25
  assert both.sensitivity() == 1 / 8


def test_normalize_does_not_use_the_realised_batch_size():
  # Division by the realised size would give sums independent of duplication.
  params, batch = _params(), _batch(5)
  grad_fn = _jitted(l2_clip_norm=1.0, normalize_by=5.0)
  twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), batch)
  np.testing.assert_allclose(
      oracle.flat64(grad_fn(params, twice)),
      2 * oracle.flat64(grad_fn(params, batch)),
      rtol=1e-5,
      atol=1e-7,
  )


def test_per_layer_clip_norms():
  params, batch = _params(), _batch()
  clip_norms = {"w": 0.3, "inner": 0.4}
  grad_fn = jax_privacy.clipped_grad(
      _loss, l2_clip_norm=clip_norms, return_grad_norms=True
  )
  got, aux = jax.jit(grad_fn)(params, batch)
  want = {name: 0.0 for name in clip_norms}
  for i in range(10):
    row = oracle.example_rows(batch, i, keep_batch_dim=True)
    grads = oracle.gradient(_loss)(params, row)
    for name, clip_norm in clip_norms.items():
      part = oracle.flat64(grads[name])
      part_norm = np.linalg.norm(part)
      np.testing.assert_allclose(aux.grad_norms[name][i], part_norm, rtol=1e-4)
      want[name] += part * min(1.0, clip_norm / part_norm)
  for name in clip_norms:
    np.testing.assert_allclose(
        oracle.flat64(got[name]), want[name], rtol=0, atol=_RTOL
    )
  assert grad_fn.sensitivity() == pytest.approx(0.5)
  unit = jax_privacy.clipped_grad(
      _loss, l2_clip_norm=clip_norms, rescale_to_unit_norm=True
  )
  assert unit.sensitivity() == 1.0
  np.testing.assert_allclose(
      oracle.flat64(jax.jit(unit)(params, batch)),
      oracle.flat64(got) / 0.5,
      rtol=1e-5,
  )


def test_clip_norms_must_fit_the_gradient():
  grad_fn = jax_privacy.clipped_grad(_loss, l2_clip_norm={"nope": 1.0})
  with pytest.raises(ValueError, match="pytree prefix of the gradient.*nope"):
    grad_fn(_params(), _batch())


def test_pre_clipping_transform():
  params, batch = _params(), _batch(scale=0.3)
  scale = lambda grads: [10.0 * grads["w"]]
  grad_fn = jax_privacy.clipped_grad(
      _loss,
      l2_clip_norm=0.5,
      pre_clipping_transform=scale,
      return_grad_norms=True,
  )
  (got,), aux = jax.jit(grad_fn)(params, batch)
  want = np.zeros(12)
  for i in range(10):
    row = oracle.example_rows(batch, i, keep_batch_dim=True)
    grads = oracle.gradient(_loss)(params, row)
    scaled = oracle.flat64(scale(grads))
    want += scaled * min(1.0, 0.5 / np.linalg.norm(scaled))
    # The norm told is the gradient's own, as in jax-privacy 2.x.
    np.testing.assert_allclose(aux.grad_norms[i], oracle.norm(grads), rtol=1e-5)
  np.testing.assert_allclose(oracle.flat64(got), want, rtol=0, atol=_RTOL)


@pytest.fixture(scope="module", params=[0.7, {"w": 0.7, "inner": 0.7}])
def grad_fn_of_an_added_term(request):
  # Bad values go through the whole loss, or one part of the gradient alone.
  def loss(params, batch):
    return _loss(params, batch) + jnp.sum(params["w"]) * jnp.mean(batch["z"])

  return jax.jit(jax_privacy.clipped_grad(loss, l2_clip_norm=request.param))


@pytest.mark.few(4)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_non_finite_example_counts_zero(bad, grad_fn_of_an_added_term):
  params, batch = _params(), _batch()
  batch["z"] = np.where(np.arange(10) == 3, bad, 0.0).astype(np.float32)
  got = grad_fn_of_an_added_term(params, batch)
  want = grad_fn_of_an_added_term(params, oracle.drop(batch, 3))
  np.testing.assert_allclose(
      oracle.flat64(got), oracle.flat64(want), rtol=0, atol=_RTOL
  )


def test_nan_is_kept_without_nan_safe():
  params, batch = _params(), _batch()
  batch["x"] = batch["x"].at[2, 1].set(jnp.nan)
  grad_fn = _jitted(l2_clip_norm=1.0, nan_safe=False)
  assert np.isnan(oracle.flat64(grad_fn(params, batch))).any()


@pytest.fixture(scope="module", params=[None, 4])
def microbatched_grad_fn(request):
  return _jitted(l2_clip_norm=0.7, microbatch_size=request.param)


@pytest.mark.parametrize("filler", [0.0, 1e30, np.nan])
def test_padding_counts_zero_wherever_it_stands(filler, microbatched_grad_fn):
  params, batch = _params(), jax.tree.map(np.array, _batch())
  is_padding = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 1], dtype=bool)
  real = jax.tree.map(lambda x: x[~is_padding], batch)
  for x in batch.values():
    x[is_padding] = filler
  got = microbatched_grad_fn(params, batch, is_padding_example=is_padding)
  want, _ = oracle.clipped_sum(_loss, params, real, 0.7)
  np.testing.assert_allclose(oracle.flat64(got), want, rtol=0, atol=_RTOL)


@pytest.mark.few(2)
@pytest.mark.parametrize("microbatch_size", [None, 4])
@pytest.mark.parametrize("keep_batch_dim", [True, False])
def test_empty_and_all_padding_batches(microbatch_size, keep_batch_dim):
  params, batch = _params(), _batch()
  grad_fn = jax_privacy.clipped_grad(
      _loss_aux,
      has_aux=True,
      l2_clip_norm=1.0,
      microbatch_size=microbatch_size,
      keep_batch_dim=keep_batch_dim,
      return_grad_norms=True,
  )
  grad_fn = jax.jit(grad_fn)
  empty = jax.tree.map(lambda x: x[:0], batch)
  got, aux = grad_fn(params, empty)
  assert oracle.norm(got) == 0
  assert aux.grad_norms.shape == (0,) and aux.aux["x"].shape == (0, 4)
  got, _ = grad_fn(params, batch, is_padding_example=jnp.ones(10, bool))
  assert oracle.norm(got) == 0
  jax.tree.map(
      lambda g, p: np.testing.assert_equal(g.shape, p.shape), got, params
  )


def _loss_and_all_kinds_of_aux(param, x, key):
  aux = {
      "float": x + 1,
      "short": x.astype(jnp.bfloat16) + jnp.bfloat16(1),
      "integer": jnp.full(2, 7, jnp.int8),
      "bool": jnp.isfinite(x) | True,
      "complex": jax.lax.complex(x, x),
      "key": key,
      "empty": jnp.ones((0, 3)),
      "scalar": jnp.float32(3),
  }
  return param * jnp.sum(x + 1), aux


@pytest.mark.few(4)
@pytest.mark.parametrize("microbatch_size", [None, 1, 3, 4, 64])
@pytest.mark.parametrize("method", ["vmap", "ghost"])
def test_rows_of_padding_are_zero_in_all_outputs(method, microbatch_size):
  # At a microbatch's end, in its middle, and where it is skipped: NaN there.
  is_padding = jnp.array([0, 1, 0, 0, 1, 0, 0, 1, 1, 1, 1], dtype=bool)
  x = jnp.where(is_padding, jnp.nan, 2.0)[:, None]
  grad_fn = jax_privacy.clipped_grad(
      _loss_and_all_kinds_of_aux,
      has_aux=True,
      l2_clip_norm=1.0,
      return_values=True,
      return_grad_norms=True,
      prng_argnum=2,
      microbatch_size=microbatch_size,
      keep_batch_dim=False,
      method=method,
  )
  args = jnp.float32(1), x, jax.random.key(1)
  _, aux = jax.jit(grad_fn)(*args, is_padding_example=is_padding)
  aux.aux["key"] = jax.random.key_data(aux.aux["key"])
  for leaf in map(np.asarray, jax.tree.leaves(aux)):
    assert len(leaf) == 11
    assert not leaf[is_padding].any()  # NaN is true.
    assert leaf.size == 0 or leaf[~is_padding].any()
  assert aux.aux["integer"].dtype == jnp.int8
  assert aux.aux["bool"].dtype == bool


def test_trailing_padding_microbatches_are_not_run():
  # Every row that runs is counted; 12 rows in threes, real ones in the first
  # two microbatches and none in the last two.
  rows = []

  def loss(params, x):
    jax.debug.callback(lambda v: rows.append(float(v)), jnp.sum(x))
    return jnp.sum(params * x)

  grad_fn = jax_privacy.clipped_grad(loss, l2_clip_norm=1e6, microbatch_size=3)
  is_padding = jnp.arange(12) >= 5
  got = grad_fn(jnp.float32(1), jnp.arange(12.0), is_padding_example=is_padding)
  jax.effects_barrier()
  assert sorted(rows) == [0, 1, 2, 3, 4, 5]
  np.testing.assert_allclose(got, 0 + 1 + 2 + 3 + 4, rtol=1e-6)


def test_examples_get_keys_of_their_own_and_padding_changes_none():
  def loss(params, x, key):
    draw = jax.random.normal(key)
    return params * draw * jnp.sum(x), draw

  grad_fn = jax_privacy.clipped_grad(
      loss, has_aux=True, l2_clip_norm=1.0, prng_argnum=2, microbatch_size=3
  )
  grad_fn = jax.jit(grad_fn)
  key = jax.random.key(5)
  _, aux = grad_fn(jnp.float32(1), jnp.ones((6, 2)), key)
  assert len(set(aux.aux.tolist())) == 6
  _, longer = grad_fn(jnp.float32(1), jnp.ones((9, 2)), key)
  np.testing.assert_array_equal(aux.aux, longer.aux[:6])
  _, other = grad_fn(jnp.float32(1), jnp.ones((6, 2)), jax.random.key(6))
  assert not set(aux.aux.tolist()) & set(other.aux.tolist())


def test_sensitivity_by_relation():
  grad_fn = jax_privacy.clipped_grad(_loss, l2_clip_norm=3.0, normalize_by=2.0)
  relations = dp_accounting.NeighboringRelation
  for relation, want in [
      ("add_or_remove_one", 1.5),
      ("replace_special", 1.5),
      ("replace_one", 3.0),
      ("add_or_remove", 1.5),
      ("replace", 3.0),
      (relations.ADD_OR_REMOVE_ONE, 1.5),
      (relations.REPLACE_SPECIAL, 1.5),
      (relations.REPLACE_ONE, 3.0),
  ]:
    assert grad_fn.sensitivity(relation) == want
  assert grad_fn.sensitivity() == 1.5
  with pytest.raises(ValueError, match="neighboring_relation must be one of"):
    grad_fn.sensitivity("neighbours")


def test_auto_is_ghost_and_shapes_can_be_asked_for():
  params, batch = _params(), _batch()
  sums = [
      _jitted(l2_clip_norm=1.0, method=m)(params, batch)
      for m in ("auto", "ghost", "vmap")
  ]
  assert oracle.distance(*sums[:2]) == 0
  assert oracle.distance(*sums[1:]) < 1e-5 * oracle.norm(sums[2])
  shapes = jax.eval_shape(
      jax_privacy.clipped_grad(_loss, l2_clip_norm=1.0), params, batch
  )
  assert shapes["w"].shape == (4, 3)


def test_aux_is_the_public_tuple():
  assert clipping.Aux._fields == ("values", "grad_norms", "aux")
