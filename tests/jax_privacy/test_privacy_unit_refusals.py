"""What a user of persons can forget is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_privacy import (
    dp_sgd,
    privacy_unit,
)
from tests.support import persons, toy


def test_rows_that_are_not_grouped_are_refused():
  private, data = persons.private(), toy.batch(8)
  batch = private.sampler.batch(0)
  padding = {"is_padding_example": batch.is_padding_example}
  with pytest.raises(
      ValueError, match="the batch must be .*got a dict of x, y"
  ):
    private.grad_fn(toy.params(), batch.take(data), **padding)
  with pytest.raises(ValueError, match="the batch must be .*got an array"):
    private.grad_fn(toy.params(), batch.take(data["x"]), **padding)
  # Nor does a loss of rows read persons, nor a mask of persons fit rows.
  examples = persons.group(num_units=4).take(batch, data)
  plain = dp_sgd.make_private(
      toy.loss, optax.sgd(0.1), persons.mechanism(4), l2_clip_norm=1.0, key=0
  )
  with pytest.raises(KeyError):
    plain.grad_fn(toy.params(), examples, **padding)
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), examples["rows"])
  with pytest.raises(ValueError, match="is_padding_example"):
    plain.grad_fn(toy.params(), flat, **padding)


def test_a_mechanism_of_rows_is_refused():
  of_rows = persons.private(num_units=8)
  batch = of_rows.sampler.batch(0)
  rule = "num_examples of the mechanism must be the number of units, 4 .private"
  with pytest.raises(ValueError, match=rule):
    persons.group().take(batch, toy.batch(8))


@pytest.mark.parametrize("size", [4, 7, 9])
def test_data_of_other_rows_are_refused(size):
  rule = r"examples\['x'\] must be an array of 8 rows, one an id"
  with pytest.raises(ValueError, match=rule):
    persons.group().take(persons.private().sampler.batch(0), toy.batch(size))


def test_arguments():
  with pytest.raises(
      ValueError,
      match="number of units in ids, 4 .private, not for release, .* got 8",
  ):
    persons.group(num_units=8)
  with pytest.raises(ValueError, match="num_units must be stated"):
    _ = persons.group().num_units
  assert persons.group(num_units=4).num_units == 4
  for limit in (0, 1.5, None, True):
    with pytest.raises(
        ValueError, match="max_rows_per_unit must be an integer"
    ):
      persons.group(limit=limit)
  with pytest.raises(ValueError, match="key must be"):
    persons.group(key=None)
  for indices in ([4], [-2], [0.0], [[0]]):
    with pytest.raises(ValueError, match="indices must be"):
      persons.group().rows(np.array(indices))
  with pytest.raises(ValueError, match="reduction must be one of"):
    privacy_unit.over_rows(toy.loss, reduction="max")
  with pytest.raises(ValueError, match="batch must be the sampler's"):
    persons.group().take(np.arange(4), toy.batch(8))
  jitted = jax.jit(lambda batch: persons.group().take(batch, toy.batch(8)))
  with pytest.raises(ValueError, match="call take outside jit"):
    jitted(persons.everyone(persons.group()))
  assert "al" not in repr(persons.group())


@pytest.mark.slow
def test_batch_norm_is_refused_as_for_rows():
  class Model(nn.Module):

    @nn.compact
    def __call__(self, x):
      return nn.BatchNorm(use_running_average=False)(nn.Dense(2)(x))

  model = Model()
  x = np.asarray(toy.batch(8)["x"])
  variables = model.init(jax.random.key(0), x)

  def loss_fn(params, x):
    held = {"params": params, "batch_stats": variables["batch_stats"]}
    out, _ = model.apply(held, x, mutable=["batch_stats"])
    return jnp.mean(out**2)

  private = dp_sgd.make_private(
      privacy_unit.over_rows(loss_fn),
      optax.sgd(0.1),
      persons.mechanism(4),
      l2_clip_norm=1.0,
      key=0,
  )
  batch = private.sampler.batch(0)
  with pytest.raises(ValueError, match="BatchNorm"):
    private.grad_fn(
        variables["params"],
        persons.group().take(batch, x),
        is_padding_example=batch.is_padding_example,
    )
