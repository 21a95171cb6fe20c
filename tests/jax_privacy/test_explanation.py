"""`explain`: a true row for each parameter, from shapes alone."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_privacy
from accounting import Mechanism
from jax_privacy import dp_sgd, sensitivity, weight_standardisation
from jax_privacy.ghost import plans
from jax_privacy.padded_batch import PaddedBatch

_SHAPES = {"w": (6, 4), "summed": (4, 4), "bias": (1, 4), "unused": (2, 2)}


def _loss(params, x):
  y = jnp.tanh(x @ params["w"] + params["bias"])
  return jnp.sum((y @ jnp.cumsum(params["summed"], axis=0)) ** 2)


def _structs(shapes):
  is_shape = lambda x: isinstance(x, tuple) and isinstance(x[0], int)
  make = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.tree.map(make, shapes, is_leaf=is_shape)


_PARAMS, _X = _structs(_SHAPES), _structs((8, 6))


def _rows(*args, loss=_loss, **options):
  grad_fn = jax_privacy.clipped_grad(loss, l2_clip_norm=1.0, **options)
  return {row.parameter: row for row in grad_fn.explain(*args).rows}


def test_each_parameter_has_a_row_with_a_reason():
  rows = _rows(_PARAMS, _X)
  assert {name: row.shape for name, row in rows.items()} == _SHAPES
  assert "is summed before use" in rows["summed"].reason
  assert "`add`" in rows["bias"].reason
  assert (rows["unused"].plan, rows["unused"].flops) == ("none", 0.0)
  assert rows["w"].rule == rows["summed"].rule == "dense"


def test_a_large_layer_is_the_fastest_and_has_no_reason():
  wide = {"w": (256, 256), "summed": (256, 256), "bias": (1, 256)}
  loss = lambda p, x: jnp.sum((x @ p["w"] + p["bias"]) ** 2)
  row = _rows(_structs(wide), _structs((8, 256)), loss=loss)["w"]
  assert (row.plan, row.reason) == ("ghost", "")
  # One position: |x|^2 and |z|^2, and the weight gradient.
  assert row.flops == 2 * (256 + 256) + 2 * 256 * 256


def test_the_plans_are_those_that_run(monkeypatch):
  # Were `explain` to choose by itself, it could differ from what runs.
  x = jnp.ones((8, 6))
  params = jax.tree.map(lambda s: jnp.ones(s.shape), _PARAMS)
  made = []
  table = {
      name: lambda recorded, name=name, plan=plan: made.append(
          (recorded.component.piece_indices, name)
      )
      or plan(recorded)
      for name, plan in plans.PLANS.items()
  }
  monkeypatch.setattr(plans, "PLANS", table)
  grad_fn = jax_privacy.clipped_grad(_loss, l2_clip_norm=1.0)
  jax.eval_shape(grad_fn, params, x)
  rows = grad_fn.explain(params, x).rows
  for leaves, name in made:
    assert {rows[leaf].plan for leaf in leaves} == {name}
  assert len(made) == 3


@pytest.mark.parametrize("options", [{}, {"method": "vmap"}])
def test_nothing_is_run(options):
  # A callback would tell.
  ran = []

  def loss(w, x):
    jax.debug.callback(lambda: ran.append(1))
    return jnp.sum(x @ w)

  grad_fn = jax_privacy.clipped_grad(loss, l2_clip_norm=1.0, **options)
  grad_fn.explain(jnp.ones((6, 4)), jnp.ones((8, 6)))
  jax.effects_barrier()
  assert not ran


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"method": "vmap"}, 'method="vmap"'),
        ({"pre_clipping_transform": lambda g: g}, "pre_clipping_transform"),
        ({"grid_scale": 2**16}, "grid_scale"),
    ],
)
def test_vmap_says_so(options, reason):
  rows = _rows(_PARAMS, _X, **options)
  for name, row in rows.items():
    assert (row.plan, row.flops) == ("vmap", None)
    assert row.num_bytes == 4 * np.prod(_SHAPES[name])
    assert reason in row.reason


def test_aux_closures_several_argnums_and_keys():
  table = jnp.arange(4.0)

  def loss(w, b, x, key):
    y = x @ w + b + table[None] * jax.random.normal(key, (1, 4))
    return jnp.sum(y**2), {"y": y, "num": 3}

  options = {"argnums": (0, 1), "batch_argnums": 2, "prng_argnum": 3}
  options |= {"has_aux": True, "return_grad_norms": True}
  shapes = *_structs(((6, 4), (1, 4), (8, 6))), jax.random.key(0)
  for keep_batch_dim in (True, False):
    if not keep_batch_dim:
      shapes = (*shapes[:2], _structs((8, 1, 6)), shapes[3])
    rows = _rows(*shapes, loss=loss, keep_batch_dim=keep_batch_dim, **options)
    assert {name: row.rule for name, row in rows.items()} == {
        "args[0]": "dense",
        "args[1]": "vjp of add",
    }


def test_what_is_neither_parameter_nor_batch_may_be_a_shape_or_no_array():
  def loss(w, x, frozen, name):
    assert name == "tanh"
    return jnp.sum(jnp.tanh(x @ frozen["w"]) @ w)

  args = *_structs(((4, 2), (8, 6))), {"w": _structs((6, 4))}, "tanh"
  assert _rows(*args, loss=loss)["params"].shape == (4, 2)


def test_how_many_examples_are_clipped_at_a_time():
  def num(batch_size, **options):
    grad_fn = jax_privacy.clipped_grad(_loss, l2_clip_norm=1.0, **options)
    return grad_fn.explain(_PARAMS, _structs((batch_size, 6))).num_examples

  assert num(8) == 8
  assert num(8, microbatch_size=3) == 3
  assert num(2, microbatch_size=3) == 2
  assert num(0) == 1  # As for the shapes of an empty batch.
  assert num(8, mesh=jax_privacy.sharding.make_mesh()) == 8


def test_through_make_private_with_a_padded_batch():
  private = dp_sgd.make_private(
      _loss,
      optax.sgd(0.1),
      Mechanism(
          noise_multiplier=1.0,
          num_steps=3,
          sampling="poisson",
          sampling_prob=0.5,
          num_examples=16,
      ),
      l2_clip_norm=1.0,
      key=0,
  )
  batch = private.sampler.batch(0)
  assert isinstance(batch, PaddedBatch)
  examples = batch.take(np.ones((16, 6), np.float32))
  of_batch = private.grad_fn.explain(
      _PARAMS, examples, is_padding_example=batch.is_padding_example
  )
  shape = jax.ShapeDtypeStruct(examples.shape, examples.dtype)
  assert private.grad_fn.explain(_PARAMS, shape) == of_batch


def test_the_table():
  text = str(
      jax_privacy.clipped_grad(_loss, l2_clip_norm=1.0).explain(_PARAMS, _X)
  )
  first, head, *lines = text.splitlines()
  assert first == "method ghost, 8 examples at a time"
  assert re.split(r"  +", head)[:4] == ["parameter", "shape", "rule", "plan"]
  assert [line.split()[0] for line in lines] == sorted(_SHAPES)


def test_dotted_paths():
  params = {"layer": [{"kernel": (6, 4)}, {"kernel": (4, 3)}]}
  loss = lambda p, x: jnp.sum(
      x @ p["layer"][0]["kernel"] @ p["layer"][1]["kernel"]
  )
  rows = _rows(_structs(params), _X, loss=loss)
  assert list(rows) == ["layer.0.kernel", "layer.1.kernel"]


def test_standardised_kernel_and_gain_are_counted_once():
  standardise = weight_standardisation.standardise_weight
  loss = lambda p, x: jnp.sum((x @ standardise(p["w"], p["gain"])) ** 2)
  rows = _rows(_structs({"w": (6, 4), "gain": (4,)}), _X, loss=loss)
  assert rows["w"].flops == 0.0 < rows["gain"].flops
  assert rows["w"].reason.endswith("together with gain's")


def test_errors_are_those_of_a_call():
  grad_fn = jax_privacy.clipped_grad(_loss, l2_clip_norm=1.0)
  with pytest.raises(TypeError, match="params must be real and floating"):
    grad_fn.explain(jnp.arange(3), _X)
  with pytest.raises(ValueError, match="must be arrays of one leading"):
    grad_fn.explain(_PARAMS, 3.0)
  other = sensitivity.BoundedSensitivityCallable(abs, 1.0, False)
  with pytest.raises(ValueError, match="explain must be"):
    other.explain(1.0)
