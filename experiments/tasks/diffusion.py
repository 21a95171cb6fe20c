"""The task of diffusion: images of a class, drawn from noise.

Invariant: the loss of one example is the mean over its own draws of noise, and
is clipped after that mean. Of an example, evaluation keeps one number a noise
level.

>>> LEVELS
(0.05, 0.2, 0.8, 3.0)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.metrics import estimate as estimate_lib
from experiments.tasks import modules, sections
from experiments.tasks import task as task_lib
from experiments.tasks.denoising import draws, noise_laws, parameterisation
from experiments.tasks.images import augment, features, inputs, sources
from jax_privacy import _validate, data, models
from jax_privacy.auditing import input_canaries

LEVELS = (0.05, 0.2, 0.8, 3.0)
"""Noise levels of an evaluation, for pixels in about [-1, 1]."""

_NOISE_SEED = 0
_OPTIONS = ("label_dropout", "noise_law", "noise_law_options")
_OPTIONS += ("parameterisation", "sigma_data")
# What the parameterisations were published with.
_LAWS = {"edm": "log_normal", "epsilon": "uniform", "v": "uniform"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiserModel(task_lib.Model):
  """A denoiser of images.

  Attributes:
    network_fn: `network_fn(params, inputs)`; see `models/denoiser.py`.
  """

  network_fn: Callable[..., jax.Array]


class Diffusion(task_lib.Task):
  """Images of one class each, denoised: losses at fixed noise levels.

  Options: `parameterisation` ("edm", "v" or "epsilon"), `sigma_data`,
  `noise_law` with `noise_law_options`, and `label_dropout`. The number of draws
  of an example is `augment.num_views`.

  Args:
    task_config: Section of the task; see `task.Task`.
    **section_configs: Other sections by name; see `task.Task`.

  Raises:
    ValueError: If a field breaks its rule; the text names it.
  """

  metrics = {"loss": "denoising loss"}
  standard_errors = "those of means, over images; of differences, paired"
  unused = {"data": ("features",), "loss": None, "eval": ("labels",)}

  def __init__(self, task_config, **section_configs):
    super().__init__(task_config, **section_configs)
    sections.check_choice("data.source", self.data_config.source, data.names())
    sections.check_choice(
        "model.name", self.model_config.name, models.denoiser_names()
    )
    _validate.integer(
        "augment.num_views", self.augment_config.num_views, at_least=1
    )
    given = task_config.options.to_dict()
    for option in given:
      if option not in _OPTIONS:
        raise ValueError(
            f"task.options must be among {', '.join(_OPTIONS)}, got {option!r}."
        )
    with sections.named("task.options"):
      self.way = parameterisation.build(
          given.get("parameterisation", "edm"),
          sigma_data=given.get("sigma_data", parameterisation.SIGMA_DATA),
      )
      law = given.get("noise_law", _LAWS[self.way.name])
      law_options = given.get("noise_law_options", {})
      self._draw_sigma_fn = noise_laws.build(law, **law_options)
      self._label_dropout = _validate.as_float(given.get("label_dropout", 0.1))
      if not 0.0 <= self._label_dropout < 1.0:
        _validate.fail("label_dropout", "in [0, 1)", given["label_dropout"])

  def load(self, split, *, num_examples=None, for_evaluation=False):
    """See `task.Task`."""
    source = sources.build_source(
        self.data_config,
        split,
        augment_config=self.augment_config,
        num_examples=num_examples,
        for_evaluation=for_evaluation,
    )
    if source.is_multi_label:
      raise ValueError(
          "data.source must be of one class an image for task 'diffusion', got"
          " several labels."
      )
    return source

  def check_splits(self, train_source, test_source):
    """Checks that both splits have the same classes and shape of images.

    Args:
      train_source: The training split.
      test_source: The test split, loaded for evaluation.

    Raises:
      ValueError: If they have not.
    """
    sources.check_pair(self.data_config, train_source, test_source)
    ours, theirs = train_source.image_shape, test_source.image_shape
    if theirs != ours:
      raise ValueError(
          "data.test_options must leave images of the training split's shape,"
          f" {ours}, got {theirs}."
      )

  def describe(self, source) -> dict[str, Any]:
    """See `task.Task`."""
    return {
        "label_names": list(source.label_names),
        "image_shape": list(source.image_shape),
    }

  def build_model(self, source, key) -> DenoiserModel:
    """See `task.Task`."""
    shape = source.image_shape
    if (views := augment.output_shape(self.augment_config, shape)) != shape:
      raise ValueError(
          "augment.names must leave the images' shape for task 'diffusion',"
          f" {shape}, got {views}."
      )
    network_fn, params = models.functional(self._module(source, key))
    standardise_fn = self._standardise_fn(source)
    image_loss_fn = draws.build_loss(
        network_fn,
        self.way,
        self._draw_sigma_fn,
        num_draws=self.augment_config.num_views,
        num_classes=source.num_classes,
        label_dropout=self._label_dropout,
        augment_fn=augment.build(self.augment_config),
    )

    def loss_fn(params, example, key):
      image = standardise_fn(example["image"])
      return image_loss_fn(params, {**example, "image": image}, key)

    return DenoiserModel(params=params, loss_fn=loss_fn, network_fn=network_fn)

  def build_predictor(self, source, model=None) -> task_lib.Predictor:
    """See `task.Task`; outputs are losses a pixel, [n, len(LEVELS)].

    An image's noise follows from its pixels: the noise of different images is
    independent, as standard errors need it, and nothing is drawn.

    Args:
      source: Source of the images.
      model: Model of `build_model`, or None.
    """
    module = nnx.eval_shape(lambda: self._module(source, 0))
    network_fn, params = models.functional(module)
    standardise_fn = self._standardise_fn(source)

    def predict_fn(params, batch):
      clean = standardise_fn(batch["image"])
      keys = draws.keys_of(batch["image"], seed=_NOISE_SEED)
      losses = []
      for i, level in enumerate(LEVELS):
        noise = jax.vmap(
            lambda key, i=i: jax.random.normal(
                jax.random.fold_in(key, i), clean.shape[1:], clean.dtype
            )
        )(keys)
        errors = draws.squared_errors(
            network_fn,
            params,
            self.way,
            clean=clean,
            noise=noise,
            sigma=jnp.full(clean.shape[:1], level, clean.dtype),
            label=batch["label"],
        )
        losses.append(errors / clean[0].size)
      return jnp.stack(losses, axis=1)

    return task_lib.Predictor(params=params, predict_fn=predict_fn)

  def outcomes(self, source, batch, outputs) -> dict[str, np.ndarray]:
    """See `task.Task`."""
    losses = np.asarray(outputs, np.float64)
    return {"label": batch["label"], "losses": losses}

  def overall(self, source, outcomes) -> dict[str, estimate_lib.Estimate]:
    """Returns the mean loss a pixel, over images and all noise levels.

    Args:
      source: Source that was evaluated.
      outcomes: Outcomes of evaluation on the source.
    """
    losses = outcomes["losses"]
    return {"loss": estimate_lib.mean(losses.mean(axis=1))}

  def tables(self, source, outcomes) -> list[task_lib.Section]:
    """Returns one table: of noise levels.

    Args:
      source: Source that was evaluated.
      outcomes: Outcomes of evaluation on the source.
    """
    losses = outcomes["losses"]
    rows = {
        f"{level:g}": estimate_lib.mean(losses[:, i])
        for i, level in enumerate(LEVELS)
    }
    return [task_lib.Section("noise level", rows)]

  def targets(self, outcomes) -> np.ndarray:
    """Returns the labels: a twin's must be the same.

    Args:
      outcomes: Outcomes of evaluation on the source.
    """
    return outcomes["label"]

  def input_canaries(
      self, train_source, test_source, predictor, *, num_canaries, seed
  ) -> task_lib.InputCanaries:
    """Returns images of random pixels.

    Args:
      train_source: The training split.
      test_source: The test split, loaded for evaluation.
      predictor: Predictor for examples of the test split.
      num_canaries: Number of canaries.
      seed: Seed of the images.
    """
    rows = input_canaries.random_images(
        num_canaries,
        image_shape=train_source.image_shape,
        num_classes=train_source.num_classes,
        seed=seed,
    )

    def losses_fn(params, batch):
      return jnp.mean(predictor.predict_fn(params, batch), axis=1)

    return task_lib.InputCanaries(rows, losses_fn)

  def input_description(self, source):
    """See `task.Task`: names of labels, and the images' shape."""
    return inputs.describe(source)

  def from_description(self, description):
    """See `task.Task`."""
    return inputs.blank(description, is_multi_label=False)

  def class_names(self, source) -> tuple[str, ...]:
    """See `task.Task`."""
    return tuple(source.label_names)

  def image_generator(self, source) -> task_lib.ImageGenerator:
    """Returns what draws images.

    Args:
      source: Source of `from_description`, or the test split.
    """
    module = nnx.eval_shape(lambda: self._module(source, 0))
    network_fn, _ = models.functional(module)
    mean, std = (
        np.asarray(constant, np.float32)
        for constant in (self.data_config.mean, self.data_config.std)
    )

    def denoise_fn(params, noisy, sigma, labels):
      return self.way.denoise(
          lambda scaled, noise: network_fn(
              params, {"image": scaled, "noise": noise, "label": labels}
          ),
          noisy,
          sigma,
      )

    def pixels_fn(values):
      pixels = np.asarray(values, np.float32) * std + mean
      return np.rint(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)

    return task_lib.ImageGenerator(
        tuple(source.image_shape), tuple(source.label_names), denoise_fn,
        pixels_fn,
    )  # fmt: skip

  def _standardise_fn(self, source):
    return features.make_standardise_fn(self.data_config, source.image_shape)

  def _module(self, source, key) -> nnx.Module:
    return modules.build(
        self.model_config,
        key=key,
        what="a class of flax.nnx.Module that denoises images",
        takes=("rngs",),
        num_classes=source.num_classes,
        image_shape=source.image_shape,
    )
