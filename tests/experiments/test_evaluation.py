import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _evaluation, _model
from jax_privacy import data


def _source(num_examples=23):
  labels = np.arange(num_examples) % 3
  images = np.zeros((num_examples, 2, 2, 1), np.uint8)
  images[:, 0, 0, 0] = labels
  return data.ArraySource(images, labels, num_classes=4)


def _toy_model(predict):
  def apply_fn(params, images):
    label = predict(images[:, 0, 0, 0])
    is_label = label[:, None] == jnp.arange(4.0)[None]
    return params * is_label.astype(jnp.float32)

  return _model.Model(
      apply_fn=apply_fn,
      standardise_fn=lambda x: x.astype(jnp.float32),
      params=jnp.float32(1),
  )


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_counts_every_example_once(batch_size):
  # Class 2 is taken for 0; classes 0 and 1 are right; class 3 has no example.
  model = _toy_model(lambda x: jnp.where(x == 2, 0, x))
  got = _evaluation.evaluate(
      model, model.params, _source(), batch_size=batch_size
  )
  assert got.num_examples == 23
  assert got.overall == pytest.approx(16 / 23)
  assert list(got.per_class) == ["0", "1", "2", "3"]
  assert [got.per_class[k] for k in "012"] == [1.0, 1.0, 0.0]
  assert np.isnan(got.per_class["3"])


def test_a_part_evenly_spaced():
  model = _toy_model(lambda x: jnp.zeros_like(x))
  got = _evaluation.evaluate(
      model, model.params, _source(), batch_size=4, num_examples=7
  )
  # Rows 0, 3, 6, 9, 13, 16, 19: four of them are of class 0.
  assert got.num_examples == 7 and got.overall == pytest.approx(4 / 7)
