"""Ghost clipping under every option of `clipped_grad`, and under JAX's own."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from tests.support import zoo

_ARRAYS = zoo.Arrays(13)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch
_PARAMS = {"w": _normal(4, 3), "b": _normal(3), "out": {"w": _normal(3, 2)}}


def _loss(params, x, y):
  h = jnp.tanh(zoo.add_bias(x @ params["w"], params["b"]))
  return jnp.sum(jnp.sin(h @ params["out"]["w"]) * y)


def _loss_and_aux(params, x, y):
  return _loss(params, x, y), {"mean": jnp.mean(x), "h": x @ params["w"]}


def _case(
    name,
    *,
    loss=_loss,
    run=zoo.F64,
    runs=zoo.RUNS,
    size=4,
    clip_norm=None,
    **fields,
):
  batch = (_batch(5, 4, size=size), _batch(5, 2, size=size))
  params = fields.pop("params", _PARAMS)
  batch = fields.pop("batch", batch)
  padding = fields.pop("padding", None)
  return zoo.Case(
      name=name,
      loss=loss,
      params=params,
      batch=batch,
      options=fields,
      clip_norm=clip_norm,
      padding=padding,
      run=run,
      runs=runs,
  )


def _dropout_loss(params, x, y, key):
  # Bits, not floats: these are the same in either dtype.
  kept = jax.random.bits(key, x.shape, jnp.uint8) < 128
  return _loss(params, jnp.where(kept, 2 * x, 0), y)


def _views_loss(params, x, y, key):
  """Four noisy views of an example; its loss is their mean."""

  def view(key):
    noise = jax.random.bits(key, x.shape, jnp.uint8).astype(x.dtype) / 256
    return _loss(params, x + noise, y)

  return jnp.mean(jax.vmap(view)(jax.random.split(key, 4)))


_KEYED = {
    "batch": (_batch(5, 4), _batch(5, 2), jax.random.key(3)),
    "batch_argnums": (1, 2),
    "prng_argnum": 3,
}
_PER_LAYER = {"w": 0.5, "b": 1.0, "out": 3.0}


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        _case(
            "aux",
            loss=_loss_and_aux,
            has_aux=True,
            runs=zoo.NOT_JITTED,
            run=zoo.EAGER,
        ),
        _case(
            "aux_dropped",
            loss=_loss_and_aux,
            has_aux=True,
            keep_batch_dim=False,
            run=zoo.F32,
        ),
        _case(
            "per_layer", clip_norm=_PER_LAYER, runs=zoo.NOT_JITTED, run=zoo.F32
        ),
        _case(
            "per_layer_of_a_shared_loss",
            clip_norm=_PER_LAYER,
            # Layers that share nodes of one group must still be apart.
            loss=lambda p, x, y: _loss(p, x, y)
            + _loss(p | {"w": jnp.sin(p["w"]) * p["b"][None]}, x, y),
            rescale_to_unit_norm=True,
        ),
        _case("rescaled", rescale_to_unit_norm=True, normalize_by=7.0),
        _case(
            "dropout",
            loss=_dropout_loss,
            **_KEYED,
            runs=zoo.NOT_JITTED,
            run=zoo.EAGER,
        ),
        _case(
            "dropout_dropped",
            loss=_dropout_loss,
            keep_batch_dim=False,
            **_KEYED,
            run=zoo.F32,
        ),
        _case("views", loss=_views_loss, **_KEYED, run=zoo.F32),
        _case(
            "views_in_microbatches",
            loss=_views_loss,
            microbatch_size=2,
            keep_batch_dim=False,
            **_KEYED,
            run=zoo.F32,
        ),
        _case(
            "several_argnums",
            loss=lambda w, x, b, y: _loss(
                {"w": w, "b": b, "out": {"w": w[:3, :2]}}, x, y
            ),
            params=_PARAMS["w"],
            batch=(_batch(5, 4), _PARAMS["b"], _batch(5, 2)),
            argnums=(2, 0),
            batch_argnums=(3, 1),
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        _case("microbatches", size=6, microbatch_size=2, runs=zoo.NOT_JITTED),
        _case("uneven_microbatches", size=7, microbatch_size=3, run=zoo.F32),
        _case("microbatch_above_the_batch", size=3, microbatch_size=64),
        _case("one_example", size=1, clip_norm=0.1, run=zoo.F32),
        _case(
            "padding", padding=np.array([False, True, False, True]), run=zoo.F32
        ),
        _case(
            "all_padding",
            padding=np.ones(4, bool),
            runs=zoo.NOT_JITTED,
            run=zoo.EAGER,
        ),
        _case(
            "padding_in_microbatches",
            # Not the last ones: microbatches of padding at the end are skipped.
            padding=np.arange(4) < 2,
            microbatch_size=2,
            run=zoo.F32,
        ),
        _case("spmd_axis_name", spmd_axis_name="data"),
    ],
    ids=str,
)
def test_option(case):
  zoo.check(case)


def _with(value, position):
  """A batch one of whose examples holds a value that is not finite."""
  x, y = _batch(5, 4), _batch(5, 2)
  x[position, 3, 1] = value
  return x, y


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        _case("nan", batch=_with(np.nan, 1), runs=zoo.NOT_JITTED, run=zoo.F32),
        _case(
            "nan_in_the_last",
            batch=_with(np.nan, 3),
            keep_batch_dim=False,
            run=zoo.F32,
        ),
        _case(
            "nan_per_layer",
            batch=_with(np.nan, 0),
            clip_norm=_PER_LAYER,
            run=zoo.F32,
        ),
        _case(
            "nan_in_the_padding",
            batch=_with(np.nan, 1),
            padding=np.arange(4) == 1,
        ),
        _case(
            "nan_in_a_microbatch",
            batch=_with(np.nan, 2),
            microbatch_size=2,
            run=zoo.F32,
        ),
        _case(
            "inf",
            # tanh would make it finite again.
            loss=lambda p, x, y: _loss(p, x, y) + jnp.sum((x @ p["w"]) ** 2),
            batch=_with(np.inf, 1),
            run=zoo.F32,
        ),
    ],
    ids=str,
)
def test_not_finite(case):
  # The sum is compared with that of the other examples: 0 x NaN would show.
  zoo.check(case)


def test_not_finite_without_nan_safe():
  case = _case("unsafe", batch=_with(np.nan, 1), nan_safe=False, clip_norm=1.0)
  got, _ = zoo.clipped(case, 1.0, dtype="float32", jitted=True)
  assert all(np.isnan(leaf).any() for leaf in jax.tree.leaves(got))


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("keep_batch_dim", [True, False])
def test_empty_batch(jitted, keep_batch_dim):
  case = _case(
      "empty",
      batch=(np.zeros((0, 5, 4)), np.zeros((0, 5, 2))),
      keep_batch_dim=keep_batch_dim,
  )
  got, aux = zoo.clipped(case, 1.0, dtype="float32", jitted=jitted)
  assert jax.tree.structure(got) == jax.tree.structure(_PARAMS)
  for leaf, param in zip(*map(jax.tree.leaves, (got, _PARAMS)), strict=True):
    assert leaf.shape == param.shape
    np.testing.assert_array_equal(leaf, 0)
  assert aux.grad_norms.shape == aux.values.shape == (0,)


def _float32():
  """A function of `_loss`, and float32 arguments."""
  grad_fn = jax_privacy.clipped_grad(
      _loss, l2_clip_norm=1.0, batch_argnums=(1, 2), method=zoo.METHOD
  )
  args = zoo.cast((_PARAMS, _KEYED["batch"][0], _KEYED["batch"][1]), "float32")
  return grad_fn, args


def test_eval_shape():
  grad_fn, args = _float32()
  shapes = jax.eval_shape(grad_fn, *args)
  got = jax.tree.map(lambda x: (x.shape, x.dtype), shapes)
  assert got == jax.tree.map(lambda x: (x.shape, x.dtype), grad_fn(*args))


# No output has the shape of the batch, whose buffers were donated too.
@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_donated_arguments():
  grad_fn, args = _float32()
  want = grad_fn(*args)
  got = jax.jit(grad_fn, donate_argnums=(0, 1, 2))(*args)
  assert args[0]["w"].is_deleted()  # A donation that was not taken says little.
  zoo.close_whole(got, want, 1e-5, "donated")


@pytest.mark.slow
def test_inside_a_larger_jit():
  grad_fn, (params, *batch) = _float32()

  @jax.jit
  def steps(params):
    step = lambda p, _: (
        jax.tree.map(lambda a, g: a - 0.1 * g, p, grad_fn(p, *batch)),
        None,
    )
    return jax.lax.scan(step, params, length=3)[0]

  want = params
  for _ in range(3):
    grads = grad_fn(want, *batch)
    want = jax.tree.map(lambda a, g: a - 0.1 * g, want, grads)
  zoo.close_whole(steps(params), want, 1e-5, "three steps")


_SHARDED = """
import jax, jax.numpy as jnp, numpy as np, jax_privacy
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
rng = np.random.default_rng(0)
w = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
k = jnp.asarray(rng.normal(size=(3, 3, 1, 2)), jnp.float32)
x = jnp.asarray(rng.normal(size=(8, 5, 4)), jnp.float32)
def loss(p, x):
  y = jax.lax.conv_general_dilated(
      x[..., None], p["k"], (1, 1), "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"))
  return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(x @ p["w"]))
params = {"w": w, "k": k}
placed = jax.device_put(x, NamedSharding(mesh, P("data")))
assert len(placed.sharding.device_set) == 4
for spmd_axis_name in (None, "data"):
  grad_fn = jax_privacy.clipped_grad(
      loss, l2_clip_norm=4.0, return_grad_norms=True, method=METHOD,
      spmd_axis_name=spmd_axis_name)
  want, aux = jax.jit(grad_fn)(params, x)
  assert (aux.grad_norms > 4).any() and (aux.grad_norms < 40).any()
  with jax.set_mesh(mesh):
    got, got_aux = jax.jit(grad_fn)(params, placed)
  np.testing.assert_allclose(got_aux.grad_norms, aux.grad_norms, rtol=1e-5)
  for name in params:
    np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5)
"""


@pytest.mark.slow
def test_batch_sharded_over_devices():
  environment = {
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": "4",
  }
  done = subprocess.run(
      [sys.executable, "-c", f"METHOD = {zoo.METHOD!r}\n{_SHARDED}"],
      env=environment,
      capture_output=True,
      text=True,
  )
  assert done.returncode == 0, done.stderr
