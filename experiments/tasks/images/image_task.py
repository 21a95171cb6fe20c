"""What classification and multi_label share: all but labels and metrics.

Invariant: an example is {"image", "label"}, as `jax_privacy.data` gives it, and
nothing outside this folder and these two tasks knows of either name.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np

from experiments.tasks import imported, sections
from experiments.tasks import task as task_lib
from experiments.tasks.images import features, inputs, sources
from experiments.tasks.images import loss as loss_lib
from experiments.tasks.images import model as model_lib
from jax_privacy import data, losses, models
from jax_privacy.data import archive


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageModel(task_lib.Model):
  """A model of images.

  Attributes:
    network: Network that it is made of; its parameters are the initial ones.
  """

  network: model_lib.Network


class ImageTask(task_lib.Task):
  """A task whose examples are images with one label, or several.

  Args:
    task_config: Section of the task; see `task.Task`.
    **section_configs: Other sections by name; see `task.Task`.

  Attributes:
    is_multi_label: Whether examples have several labels.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """

  unused = {"task": ("options",)}
  is_multi_label: ClassVar[bool]
  standard_errors = (
      "binomial for accuracies, DeLong's for areas under the curve; of"
      " differences, paired"
  )

  def __init__(self, task_config, **section_configs):
    super().__init__(task_config, **section_configs)
    sections.check_choice("data.source", self.data_config.source, data.names())
    if name := self.data_config.features.name:
      sections.check_choice("data.features.name", name, data.feature_names())
    sections.check_choice("model.name", self.model_config.name, models.names())
    sections.check_choice("loss.name", self.loss_config.name, losses.names())
    fitting = [
        name
        for name in losses.names()
        if losses.get(name).has_several_labels == self.is_multi_label
    ]
    loss_name = self.loss_config.name
    if loss_name not in fitting and not imported.is_own(loss_name):
      rule = f"{' or '.join(map(repr, fitting))} for task {self.name!r}"
      raise ValueError(
          f"loss.name must be {rule}, got {loss_name!r}; task.name"
          " is 'classification' for one class an example, 'multi_label' for"
          " several labels."
      )

  def load(self, split, *, num_examples=None, for_evaluation=False):
    """See `task.Task`."""
    source = sources.build_source(
        self.data_config,
        split,
        augment_config=self.augment_config,
        num_examples=num_examples,
        for_evaluation=for_evaluation,
    )
    if source.is_multi_label != self.is_multi_label:
      kinds = (
          "'classification' for a source of one class",
          "'multi_label' for" " a source of several labels",
      )
      raise ValueError(
          f"task.name must be {kinds[source.is_multi_label]} an example, got"
          f" {self.name!r}."
      )
    if for_evaluation:
      with sections.named("eval.labels"):
        sources.reported(source, self.eval_config.labels)
    return source

  def check_splits(self, train_source, test_source):
    """See `task.Task`."""
    sources.check_pair(self.data_config, train_source, test_source)

  def check_twin(self, source, twin_source):
    """See `task.Task`."""
    theirs, mine = twin_source.label_names, source.label_names
    if theirs != mine:
      raise ValueError(f"twin must have the label_names {mine}, got {theirs}.")

  def describe(self, source) -> dict[str, Any]:
    """See `task.Task`."""
    return {
        "label_names": list(source.label_names),
        "image_shape": list(source.image_shape),
    }

  def prepare(self, source):
    """Computes features, where the images have some.

    Args:
      source: The training split.
    """
    features.compute(source)

  def build_model(self, source, key) -> ImageModel:
    """See `task.Task`."""
    network = model_lib.build_network(
        self.model_config,
        source,
        key,
        data_config=self.data_config,
        augment_config=self.augment_config,
    )
    return ImageModel(
        params=network.params,
        loss_fn=loss_lib.build_loss(
            self.loss_config, network, augment_config=self.augment_config
        ),
        network=network,
    )

  def build_predictor(self, source, model=None) -> task_lib.Predictor:
    """See `task.Task`; outputs are logits, [n, num_classes]."""
    network = model_lib.build_for_evaluation(
        self.model_config,
        source,
        None if model is None else model.network,
        data_config=self.data_config,
        augment_config=self.augment_config,
    )

    def predict_fn(params, batch):
      images = network.standardise_fn(batch["image"])
      return network.apply_fn(params, images)

    return task_lib.Predictor(params=network.params, predict_fn=predict_fn)

  def targets(self, outcomes) -> np.ndarray:
    """See `task.Task`."""
    return outcomes.labels

  def read_twin(self, path, source, rows):
    """Reads `logits` and `labels` of all the source's examples, from .npz.

    Args:
      path: Path of the .npz file.
      source: Source of the test images.
      rows: Indices of the examples to keep, [n].

    Returns:
      Outcomes of these examples.
    """
    if not path.endswith(".npz"):
      return super().read_twin(path, source, rows)
    logits, labels = _read_archive(path, source)
    batch = {"label": labels[rows].astype(np.int32)}
    return self.outcomes(source, batch, logits[rows])

  def input_description(self, source):
    """See `task.Task`: names of labels, and the images' shape."""
    return inputs.describe(source)

  def from_description(self, description):
    """See `task.Task`."""
    blank = inputs.blank(description, is_multi_label=self.is_multi_label)
    return features.extract(
        self.data_config, blank, augment_config=self.augment_config
    )

  def read_inputs(self, path, like):
    """Reads images: a file, a folder of files, or an .npz archive.

    Args:
      path: Path of a file or folder.
      like: Source whose shapes and names the images are to have.

    Returns:
      A source of the images.
    """
    return inputs.read(
        path,
        like,
        data_config=self.data_config,
        augment_config=self.augment_config,
    )

  def class_names(self, source) -> tuple[str, ...]:
    """See `task.Task`."""
    return tuple(source.label_names)

  def columns(self, source, outputs) -> dict[str, np.ndarray]:
    """Returns a probability for each label.

    Args:
      source: Source of the examples.
      outputs: Outputs of the predictor, one row an example.
    """
    probs = np.asarray(self.probabilities(outputs))
    return {name: probs[:, i] for i, name in enumerate(source.label_names)}

  def probabilities(self, logits) -> jax.Array:
    """Returns each label's probability, [n, num_classes].

    Args:
      logits: Logits [n, num_classes].

    Raises:
      NotImplementedError: From this class; each task has its own.
    """
    raise NotImplementedError


def _read_archive(path: str, source) -> tuple[np.ndarray, np.ndarray]:
  """Returns a twin's logits and labels, checked against the source."""
  shape = (len(source), source.num_classes)
  with archive.Archive(path) as file:
    if missing := {"logits", "labels"} - file.keys():
      raise ValueError(f"{path} must hold {min(missing)}, got none.")
    logits = file.read("logits", kinds="f", ndims=(2,))
    labels = file.read("labels", kinds="iu", ndims=(1, 2))
  labels_shape = shape if source.is_multi_label else shape[:1]
  for name, array, wanted in (
      ("logits", logits, shape),
      ("labels", labels, labels_shape),
  ):
    if array.shape != wanted:
      raise ValueError(
          f"{name} of {path} must be of shape {wanted}, got {array.shape}."
      )
  # Checked before they are used: a wrong one is no row of the logits.
  low, high = (-1, 1) if source.is_multi_label else (0, source.num_classes - 1)
  if labels.min() < low or labels.max() > high:
    raise ValueError(
        f"labels of {path} must be in [{low}, {high}], got"
        f" {labels.min()} to {labels.max()}."
    )
  return logits.astype(np.float32), labels
