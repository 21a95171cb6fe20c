"""DP-MERF: images of one private release, and what may be claimed of them.

Invariant: the noised sum is drawn once, and nothing but images that follow from
it is written; they are written after all of them are drawn.

>>> release = accounting.Gaussian(stddev=5.0, sensitivity=1.0)
>>> guarantee(release, 0.99, 1e-5, "pld", seed=None)["statement"][:44]
'(0.990, 1e-05)-differentially private for ad'
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np

import accounting
from accounting import claims
from experiments.plan import experiment as experiment_lib
from experiments.plan import fields, not_private
from experiments.release import guarantee as guarantee_lib
from experiments.synthetic import (
    embedding_generator,
    mean_embedding,
    reading,
)
from experiments.tasks import registry, sections


class Options(NamedTuple):
  """How images are drawn; all of it is public.

  Attributes:
    num_features: Number of random features, even.
    length_scale: Length scale of the kernel, over the root of the number of
      pixels, which are in [-1, 1].
    num_steps: Number of steps of the generator's training.
    seed: Seed of frequencies, of the generator and of what is drawn.
  """

  num_features: int = 2000
  length_scale: float = 0.5
  num_steps: int = 2000
  seed: int = 0


class Private(NamedTuple):
  """A private data set of images, and what may be spent on it.

  Attributes:
    config: Config with the sections `data` and `dp`, and `seed`.
    train: Private images.
    release: Mechanism, calibrated.
    embedding: Embedding that it releases.
    epsilon: Epsilon of the mechanism.
  """

  config: ml_collections.ConfigDict
  train: reading.ImageSet
  release: accounting.Gaussian
  embedding: mean_embedding.Embedding
  epsilon: float


def load(config: ml_collections.ConfigDict, options: Options) -> Private:
  """Reads the private images, and finds the noise for `dp.epsilon`.

  Args:
    config: Recipe of images with one class each.
    options: Options of the embedding.

  Returns:
    The data set.

  Raises:
    ValueError: If a field breaks its rule.
  """
  fields.check(config)
  _check(config)
  task = registry.build(**fields.task_sections(config))
  with sections.named("data.train_split"):
    source = task.load(
        config.data.train_split, num_examples=config.data.num_examples
    )
  train = reading.real(source, name=config.data.train_split)
  num_pixels = train.images[0].size
  embedding = mean_embedding.Embedding.draw(
      num_pixels,
      num_classes=len(train.names),
      num_features=options.num_features,
      length_scale=options.length_scale * num_pixels**0.5,
      seed=options.seed,
  )
  dp = config.dp
  release = mean_embedding.calibrate(
      embedding, epsilon=dp.epsilon, delta=dp.delta, accountant=dp.accountant
  )
  epsilon = accounting.epsilon(
      release, delta=dp.delta, accountant=dp.accountant
  )
  return Private(config, train, release, embedding, epsilon)


def _check(config: ml_collections.ConfigDict) -> None:
  dp = config.dp
  not_private.refuse(dp.enabled, "release a mean embedding")
  if dp.epsilon is None:
    raise ValueError("dp.epsilon must be given for a release, got None.")
  if dp.neighboring_relation != "add_or_remove_one":
    raise ValueError(
        "dp.neighboring_relation must be add_or_remove_one for a mean"
        f" embedding, got {dp.neighboring_relation}."
    )
  # Else its noise would be taken for what a run's is.
  for name, unused in (
      ("noise_multiplier", None),
      ("secure_random", False),
      ("grid_scale", None),
  ):
    if dp[name] != unused:
      raise ValueError(
          f"dp.{name} must be {unused} for a mean embedding, whose noise is"
          f" NumPy's and follows from dp.epsilon, got {dp[name]}."
      )
  if config.data.unit:
    raise ValueError(
        "data.unit must be none for a mean embedding, whose examples are"
        f" images, got {config.data.unit}."
    )


def draw(private: Private, labels: np.ndarray, options: Options) -> np.ndarray:
  """Spends the budget: returns images that follow from one noised sum, uint8.

  Args:
    private: Private data set; this is the one release of it.
    labels: Class of each image, [n].
    options: Options.

  Returns:
    Pixels [n, height, width, channels].
  """
  embedding, train = private.embedding, private.train
  pixels = train.images.reshape(len(train.labels), -1) / 127.5 - 1.0
  key = experiment_lib.make_run_key(private.config.seed)
  released = mean_embedding.released(
      embedding.sums(pixels, train.labels), private.release, key
  )
  drawn = embedding_generator.draw(
      embedding,
      embedding.means(released),
      labels,
      seed=options.seed,
      num_steps=options.num_steps,
  )
  drawn = np.rint(np.clip((drawn + 1.0) * 127.5, 0.0, 255.0)).astype(np.uint8)
  return drawn.reshape(len(labels), *train.images.shape[1:])


def guarantee(
    release: accounting.Gaussian,
    epsilon: float,
    delta: float,
    accountant: str,
    *,
    seed: int | None,
) -> Mapping[str, Any]:
  """Returns what may be claimed of the images; see `guarantee.of_run`.

  Args:
    release: Mechanism.
    epsilon: Epsilon of the mechanism.
    delta: Delta of the guarantee.
    accountant: Name of the accountant.
    seed: Seed of the noise; None for the system's bits.
  """
  statement = (
      f"({claims.at_most(epsilon)},"
      f" {claims.at_most_short(delta)})-differentially private for add or"
      f" remove one example, by {accountant.upper()}, of one release,"
      f" {release.words}.{guarantee_lib.POST_PROCESSING}"
  )
  if seed is not None:
    statement += guarantee_lib.FIXED_SEED
  return {
      "private": True,
      "epsilon": epsilon,
      "delta": delta,
      "accountant": accountant,
      "mechanism": {"kind": "gaussian"} | release.to_dict(),
      "statement": statement,
  }
