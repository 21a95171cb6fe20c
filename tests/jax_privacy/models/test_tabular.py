"""Models of tables: sizes in closed form, rows apart, norms as vmap's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import clipping, models
from tests.support import oracle

_SIZES = (4, 2)
_SMALL = {
    "table_linear": {},
    "table_mlp": {"hidden_sizes": (5, 4), "embedding_size": 3},
    "table_resnet": {
        "width": 6,
        "hidden_size": 5,
        "num_blocks": 1,
        "embedding_size": 3,
    },
}
_each_model = pytest.mark.parametrize("name", sorted(_SMALL))


def _build(name, *, num_numbers=3, category_sizes=_SIZES, num_outputs=2):
  model = models.build(
      name,
      rngs=nnx.Rngs(0),
      num_outputs=num_outputs,
      num_numbers=num_numbers,
      category_sizes=category_sizes,
      **_SMALL[name],
  )
  return models.functional(model)


@functools.cache
def _make(name):
  apply_fn, params = _build(name)
  # The linear model starts at 0, where no parameter would matter.
  generator = np.random.default_rng(1)
  params = jax.tree.map(
      lambda p: p + generator.normal(0.0, 0.3, p.shape).astype(np.float32),
      params,
  )
  return jax.jit(apply_fn), params


def _rows(num_rows=4, num_numbers=3, sizes=_SIZES):
  generator = np.random.default_rng(2)
  codes = [generator.integers(0, size, num_rows) for size in sizes]
  codes = np.array(codes, np.int32).T.reshape(num_rows, len(sizes))
  numbers = generator.uniform(-1, 1, (num_rows, num_numbers))
  return {"numbers": numbers.astype(np.float32), "categories": codes}


def test_every_model_of_tables_is_in_this_test():
  assert set(_SMALL) == set(models.table_names())


@pytest.mark.few(1)
@_each_model
def test_clipped_sums_and_norms_are_those_of_one_example_at_a_time(name):
  apply_fn, params = _make(name)

  def loss_fn(params, row):
    outputs = apply_fn(params, jax.tree.map(lambda x: x[None], row))
    return jnp.sum(jnp.sin(outputs + 1.0) ** 2)

  rows = _rows()
  wanted, norms = oracle.clipped_sum(
      loss_fn, params, rows, 0.5, keep_batch_dim=False
  )
  for method in ("ghost", "vmap"):
    grad_fn = clipping.clipped_grad(
        loss_fn,
        l2_clip_norm=0.5,
        keep_batch_dim=False,
        return_grad_norms=True,
        method=method,
    )
    none = np.zeros(4, bool)
    found, aux = jax.jit(grad_fn)(params, rows, is_padding_example=none)
    # Float32 sums of some 100 terms: 100 x 2^-24 of each, and no cancellation.
    np.testing.assert_allclose(aux.grad_norms, norms, rtol=1e-5)
    np.testing.assert_allclose(
        oracle.flat64(found), wanted, rtol=1e-4, atol=1e-5
    )


def _num_mlp(numbers, sizes, outputs, hidden=(5, 4), embedding=3):
  layers = (numbers + embedding * len(sizes), *hidden, outputs)
  dense = sum((a + 1) * b for a, b in zip(layers, layers[1:], strict=False))
  return embedding * sum(sizes) + dense


def _num_resnet(numbers, sizes, outputs, w=6, h=5, blocks=1, e=3):
  embeddings = e * (2 * numbers + sum(sizes))
  stem = (e * (numbers + len(sizes)) + 1) * w
  block = 2 * w + (w + 1) * h + (h + 1) * w
  return embeddings + stem + blocks * block + 2 * w + (w + 1) * outputs


_CLOSED_FORMS = {
    "table_linear": lambda k, sizes, out: (k + sum(sizes) + 1) * out,
    "table_mlp": _num_mlp,
    "table_resnet": _num_resnet,
}


@pytest.mark.few(4)
@_each_model
@pytest.mark.parametrize("numbers, sizes", [(3, _SIZES), (2, ()), (0, (3, 5))])
def test_numbers_of_parameters_are_their_closed_forms(name, numbers, sizes):
  apply_fn, params = _build(name, num_numbers=numbers, category_sizes=sizes)
  assert models.num_parameters(params) == _CLOSED_FORMS[name](numbers, sizes, 2)
  rows = _rows(4, numbers, sizes)
  assert jax.eval_shape(apply_fn, params, rows).shape == (4, 2)


@pytest.mark.few(2)
@_each_model
def test_rows_do_not_reach_one_another_and_every_parameter_matters(name):
  apply_fn, params = _make(name)
  rows = _rows()
  outputs = np.asarray(apply_fn(params, rows))
  changed = {k: v.copy() for k, v in rows.items()}
  changed["numbers"][1] = 0.9
  changed["categories"][1] = [3, 1]
  again = np.asarray(apply_fn(params, changed))
  np.testing.assert_array_equal(again[[0, 2, 3]], outputs[[0, 2, 3]])
  assert (again[1] != outputs[1]).all()
  grads = jax.grad(lambda p: jnp.sum(jnp.sin(apply_fn(p, rows))))(params)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    assert np.any(np.asarray(grad) != 0), jax.tree_util.keystr(path)


def test_each_categorys_value_has_a_weight_of_its_own():
  """Two columns share one table: an offset that is off would mix them."""
  apply_fn, params = _build("table_linear", num_numbers=0, num_outputs=1)
  weights = np.arange(6, dtype=np.float32)[:, None]
  params["categories"]["embedding"] = weights
  codes = [[a, b] for a in range(4) for b in range(2)]
  rows = {
      "numbers": np.zeros((8, 0), np.float32),
      "categories": np.array(codes),
  }
  outputs = apply_fn(params, rows)[:, 0]
  np.testing.assert_array_equal(outputs, [a + 4 + b for a, b in codes])


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["table_mlp", "table_resnet"])
def test_dropout_is_keyed_by_row(name):
  options = _SMALL[name] | {"dropout_rate": 0.5}
  model = models.build(
      name, rngs=nnx.Rngs(0), num_outputs=2, num_numbers=3, **options
  )
  rows = _rows(6, 3, ())
  keys = jax.random.split(jax.random.key(0), 6)
  dropped = np.asarray(model(rows, keys=keys))
  # Rows at another place may go through other instructions: in float32, some 50
  # terms of order 1. A mask of another row's key moves it by order 1.
  np.testing.assert_allclose(
      np.asarray(model(jax.tree.map(lambda x: x[::-1], rows), keys=keys[::-1])),
      dropped[::-1],
      rtol=1e-4,
      atol=1e-5,
  )
  assert np.any(dropped != np.asarray(model(rows)))


@pytest.mark.parametrize(
    "options, text",
    [
        ({"num_outputs": 0}, "num_outputs must be an integer of at least 1"),
        ({"num_numbers": -1}, "num_numbers must be an integer of at least 1"),
        ({"num_numbers": 0}, "num_numbers and category_sizes must be 1 to"),
        ({"category_sizes": (3, 0)}, r"category_sizes\[1\] must be an integer"),
        ({"category_sizes": (2**24,)}, "must be 1 to 16777216 together"),
        ({"width": 3}, "option of 'table_mlp' must be one of .*got 'width'"),
        ({"dropout_rate": 1.0}, "dropout_rate must be a number in"),
        ({"hidden_sizes": (3, -1)}, r"hidden_sizes\[1\] must be an integer"),
    ],
)
def test_wrong_options_are_refused(options, text):
  options = {"num_outputs": 2, "num_numbers": 3} | options
  with pytest.raises(ValueError, match=text):
    models.build("table_mlp", rngs=nnx.Rngs(0), **options)


@_each_model
def test_rows_of_other_columns_are_refused(name):
  apply_fn, params = _make(name)
  rows = _rows()
  with pytest.raises(ValueError, match=r"numbers must be of shape \[n, 3\]"):
    apply_fn(params, rows | {"numbers": rows["numbers"][:, :2]})
  with pytest.raises(ValueError, match=r"categories must be of shape \[n, 2\]"):
    apply_fn(params, rows | {"categories": rows["categories"][0]})
