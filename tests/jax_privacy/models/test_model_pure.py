"""Splitting a model: same function, plain parameters, no hidden state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models


class _Chain(nnx.Module):
  """Twelve affine maps of one number, which do not commute."""

  def __init__(self):
    self.steps = nnx.List(
        [nnx.Linear(1, 1, rngs=nnx.Rngs(i)) for i in range(12)]
    )
    for i, step in enumerate(self.steps):
      step.bias[...] = jnp.array([float(i)])

  def __call__(self, x):
    for step in self.steps:
      x = step(x)
    return x


def test_apply_equals_the_model_where_text_and_numbers_sort_differently():
  """Keys "10" and "11" sort before "2": by order, weights would be swapped."""
  model = _Chain()
  apply_fn, params = models.functional(model)
  assert list(params["steps"]) != sorted(params["steps"]), "must provoke"
  x = jnp.ones((2, 1))
  np.testing.assert_array_equal(apply_fn(params, x), model(x))
  # A trip through a pytree, as every optimiser makes, sorts the keys.
  sorted_params = jax.tree.map(lambda p: p, params)
  np.testing.assert_array_equal(apply_fn(sorted_params, x), model(x))


def test_apply_depends_on_the_given_parameters_alone():
  model = _Chain()
  apply_fn, params = models.functional(model)
  x = jnp.ones((2, 1))
  before = apply_fn(params, x)
  model.steps[0].bias[...] = jnp.array([100.0])
  np.testing.assert_array_equal(apply_fn(params, x), before)
  zeros = jax.tree.map(jnp.zeros_like, params)
  np.testing.assert_array_equal(apply_fn(zeros, x), 0.0)
  np.testing.assert_array_equal(apply_fn(params, x), before)


def test_apply_can_be_traced():
  apply_fn, params = models.functional(_Chain())
  x = jnp.ones((3, 1, 1))

  def loss(params, x):
    return jnp.sum(apply_fn(params, x))

  plain = [jax.grad(loss)(params, row) for row in x]
  traced = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, x)
  for i, grad in enumerate(plain):
    row = jax.tree.map(lambda leaf, i=i: leaf[i], traced)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), row, grad
    )


def test_a_shared_parameter_comes_out_once():
  class Tied(nnx.Module):

    def __init__(self):
      self.first = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
      self.second = self.first

    def __call__(self, x):
      return self.second(self.first(x))

  model = Tied()
  apply_fn, params = models.functional(model)
  assert models.num_parameters(params) == 6
  x = jnp.ones((1, 2))
  np.testing.assert_array_equal(apply_fn(params, x), model(x))


def test_parameters_of_another_structure_are_refused():
  apply_fn, params = models.functional(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
  x = jnp.ones((1, 1))
  with pytest.raises(ValueError, match="model, got none at bias"):
    apply_fn({"kernel": params["kernel"]}, x)
  with pytest.raises(ValueError, match="model, got another at extra.s"):
    apply_fn({**params, "extra": {"scale": jnp.ones(1)}}, x)


class _Deep(nnx.Module):
  """A layer two levels down, in a list."""

  def __init__(self, layer):
    self.blocks = nnx.List([nnx.Linear(1, 1, rngs=nnx.Rngs(0)), layer])


@pytest.mark.parametrize("check", [models.refuse_batch_norm, models.functional])
def test_batch_norm_is_refused_by_path_and_with_its_replacement(check):
  model = nnx.Sequential(
      nnx.Linear(1, 1, rngs=nnx.Rngs(0)),
      _Deep(nnx.BatchNorm(1, rngs=nnx.Rngs(0))),
  )
  with pytest.raises(
      ValueError, match=r"BatchNorm .* at layers\.1\.blocks\.1: .*GroupNorm"
  ):
    check(model)


def test_batch_statistics_under_another_name_are_refused():
  class Disguised(nnx.Module):

    def __init__(self):
      self.running_mean = nnx.BatchStat(jnp.zeros(1))

  with pytest.raises(ValueError, match=r"batch statistics, .* at blocks\.1:"):
    models.functional(_Deep(Disguised()))


def test_batch_norm_on_its_own_is_refused():
  with pytest.raises(ValueError, match="at the model itself:"):
    models.refuse_batch_norm(nnx.BatchNorm(1, rngs=nnx.Rngs(0)))


def test_a_model_without_it_is_let_through():
  models.refuse_batch_norm(_Deep(models.GroupNorm(4, num_groups=2)))


def test_hidden_random_state_is_refused():
  """A key that changes at each call makes the loss no function of params."""
  model = _Deep(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
  with pytest.raises(
      ValueError, match=r"model must hold parameters only, got Rng.*blocks\.1"
  ):
    models.functional(model)


def test_num_parameters_counts_scalars():
  tree = {"a": jnp.ones((2, 3)), "b": [jnp.ones(()), jnp.ones((0, 4))]}
  assert models.num_parameters(tree) == 7
  abstract = jax.eval_shape(lambda: tree)
  assert models.num_parameters(abstract) == 7
