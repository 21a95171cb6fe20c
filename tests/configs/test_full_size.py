"""Every recipe builds at full size: shapes alone, no data and no arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.plan import experiment as experiment_lib
from jax_privacy import data, models
from jax_privacy.data import radiograph_columns as radiographs
from jax_privacy.data import source as source_lib
from tests.support import launch

# Papers' deltas are not below 1 / num_examples.
pytestmark = pytest.mark.filterwarnings("ignore:delta .* is 1 / num_examples")

# Published facts of what recipes read: examples that they train on, classes (or
# labels), channels, and sides where no option says them.
_SETS = {
    "chexpert": (223_414, 14, 3, None),
    "digits": (1437, 10, 1, 8),
    "idx": (60_000, 10, 1, 28),
    "data/cifar10.npz": (50_000, 10, 3, 32),
    "data/mnist.npz": (60_000, 10, 1, 28),
    "tfds:cifar10": (50_000, 10, 3, 32),
    "tfds:cifar100": (50_000, 100, 3, 32),
    "tfds:imagenet2012": (1_271_167, 1000, 3, None),
    "tfds:places365_small": (1_793_460, 365, 3, None),
    "tfds:svhn_cropped": (73_257, 10, 3, 32),
}

# docs/models.md: the first two to the digit; NFNets with 1000 classes have 71.5
# and 254.9 million, of which 3072 x 1000 + 1000 are the classifier's.
_F0, _F3, _WIDTH = 71.5e6, 254.9e6, 3072
_NUM_PARAMETERS = {
    "cifar10_wrn": (2_753_818, 0),
    "cifar_wrn_finetune": (36_558_068, 0),
    "imagenet_nfnet": (_F3, 5e4),
    "places365_nfnet": (_F3 - (1000 - 365) * (_WIDTH + 1), 5e4),
    "chexpert_nfnet": (_F0 - (1000 - 14) * (_WIDTH + 1), 5e4),
}


class _Unread(source_lib.Described):
  """A set of which only the description is there."""

  image_dtype = np.dtype(np.uint8)

  def __init__(self, name, *, split, image_size=None, path=None, **unused):
    total, num_labels, channels, side = _SETS[path if name == "npz" else name]
    super().__init__(
        total,
        label_names=radiographs.CHEXPERT_14 if name == "chexpert" else None,
        num_classes=num_labels,
        num_examples=total,
    )
    self.image_shape = (*(image_size or (side, side)), channels)
    self.is_multi_label = name == "chexpert"

  def __getitem__(self, indices):
    raise AssertionError("an example was read")


def _build_shapes(name, monkeypatch):
  """Returns the experiment, and its parameters' shapes."""
  config = launch.config(name, "")
  with config.unlocked():
    config.model.restore.path = None  # What it would hold has these shapes.

  monkeypatch.setattr(data, "load", _Unread)
  kept = []

  def build():
    kept.append(experiment_lib.build(config))
    return kept[0].model.params

  return jax.eval_shape(build), kept[0]


def _batch(experiment, size):
  shape = (size, *experiment.train_source.image_shape)
  labels = (size,)
  if experiment.train_source.is_multi_label:
    labels = (size, experiment.train_source.num_classes)
  dtype = experiment.train_source.image_dtype
  return (
      {
          "image": jax.ShapeDtypeStruct(shape, dtype),
          "label": jax.ShapeDtypeStruct(labels, jnp.int32),
      },
      jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size)),
  )


# To describe 255 million parameters takes 10 s.
@pytest.mark.few(1)
@pytest.mark.parametrize(
    "name",
    launch.configs(
        slow=("imagenet_nfnet", "places365_nfnet"),
        but=launch.TABLES + launch.TEXTS + launch.DIFFUSIONS,
    ),
)
def test_builds_at_full_size(name, monkeypatch):
  params, experiment = _build_shapes(name, monkeypatch)
  if name in _NUM_PARAMETERS:
    want, tolerance = _NUM_PARAMETERS[name]
    assert abs(models.num_parameters(params) - want) <= tolerance
  batch, keys = _batch(experiment, 2)
  network = experiment.model.network
  logits = jax.eval_shape(
      lambda p, x, k: network.apply_fn(p, network.standardise_fn(x), k),
      params,
      jax.ShapeDtypeStruct((2, *_seen(experiment)), batch["image"].dtype),
      keys,
  )
  assert logits.shape == (2, experiment.train_source.num_classes)
  assert experiment.mechanism.expected_batch_size >= 256


def _seen(experiment):
  """The shape of a view: an image's, or that of its random crop."""
  crop = experiment.config.augment.options.get("crop_size")
  shape = experiment.train_source.image_shape
  return shape if crop is None else (*crop, shape[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", launch.configs(but=launch.TABLES + launch.TEXTS)
)
def test_a_full_step_traces(name, monkeypatch):
  params, experiment = _build_shapes(name, monkeypatch)
  size = min(experiment.config.physical_batch_size or 16, 16)
  grads, aux = jax.eval_shape(
      lambda p, *batch: experiment.dp_training.grad_fn(
          p, *batch, is_padding_example=jnp.zeros(size, bool)
      ),
      params,
      *_batch(experiment, size),
  )
  assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)
  assert aux.values.shape == (size,)
