"""What every recipe shares: its fields, and arguments after the colon.

Invariant: a recipe is numbers and names only, so this folder never imports JAX.
Every field a run reads is in `base()`; the launcher locks the config, so that a
misspelt override is an error and not a silent default.

Example:
  >>> from configs import common
  >>> common.parse_arg("epsilon=1", epsilon=3.0, smoke=False)
  {'epsilon': 1.0, 'smoke': False}
  >>> common.parse_arg("epslon=1", epsilon=3.0)
  Traceback (most recent call last):
  ...
  ValueError: config argument must be one of epsilon, got 'epslon'.
"""

from collections.abc import Sequence
from typing import Any

import ml_collections
from ml_collections import config_dict

_MAX_SHOWN = 100
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
  """Reads `key=value,key=value`, each value of the type of its default.

  Args:
    arg: What follows the colon in `--config=file.py:...`; None or "" for
      nothing.
    **defaults: The keys there are, with their defaults: bool, int, float, str.

  Returns:
    The defaults, with what `arg` says put in.

  Raises:
    ValueError: For an unknown key, one given twice, or a value of another type.
  """
  values = dict(defaults)
  seen = set()
  for item in filter(None, (arg or "").split(",")):
    key, _, text = item.partition("=")
    if key not in defaults:
      valid = ", ".join(sorted(defaults))
      raise ValueError(
          f"config argument must be one of {valid}, got {_shown(key)}."
      )
    if key in seen:
      raise ValueError(
          f"config argument {key} must be given once, got {_shown(arg)}."
      )
    seen.add(key)
    values[key] = _convert(key, text, type(defaults[key]))
  return values


def _convert(key: str, text: str, kind: type) -> Any:
  try:
    return _BOOLS[text.lower()] if kind is bool else kind(text)
  except (KeyError, ValueError):
    rule = f"config argument {key} must be of type {kind.__name__}"
    raise ValueError(f"{rule}, got {_shown(text)}.") from None


def _shown(text: str) -> str:
  return repr(text) if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]!r}..."


def base() -> ml_collections.ConfigDict:
  """Returns a config with every field there is.

  Fields:
    seed: Of parameters, batches, noise and augmentations. None takes 128 bits
      from the operating system and writes them nowhere but the checkpoint; a
      fixed seed, in [0, 2^128), is for research: who knows it can subtract the
      noise.
    data: source (a name of `jax_privacy.data`), options for it, the two splits,
      test_options (options that differ for what is evaluated, as its
      image_size; and crop_size, the centre that is seen), num_examples (the
      STATED size; None for the source's published one), the normalisation's
      mean and std, in units of pixel / 255: public constants, never computed
      from private data; and features of images that stand in their place:
      "scattering" and its options, "" for none. How examples reach the devices
      changes no bit: on_device puts all of them there once (None: see
      docs/data.md); else num_workers processes decode them (0: this one),
      prefetch batches ahead.
    model: A name of `jax_privacy.models` and its options. restore begins with
      PUBLIC parameters, which the guarantee does not cover: path is a run's
      folder, of which params are read ("last", or an average), or an .npz file,
      by our names (format "npz") or Haiku's ("haiku"); "auto" looks. Paths that
      a regular expression in reset matches whole are not taken over.
    augment: Names of augmentations in order, their options, and views an
      example (augmentation multiplicity).
    loss: Of one example over its views, a name of `jax_privacy.losses`: softmax
      (one class an example) or sigmoid (several labels), the label smoothing of
      softmax, and the weight of what makes predictions for the views alike
      (Botev et al. 2022), which needs two views.
    dp: See `experiments.plan.mechanism`. With epsilon alone, noise is
      calibrated; with noise_multiplier alone, epsilon is whatever it is; with
      both, the run is cut to the steps that fit. auto_tune names the one
      quantity that is found from the budget instead: "noise_multiplier",
      "num_steps", "batch_size" or "stopping_step". secure_random draws
      noise and batches by a cipher, and grid_scale makes sums exact; see
      `jax_privacy.dp_sgd.make_private`.
    train: Exactly one of num_steps and num_epochs; steps are
      num_epochs x num_examples / expected_batch_size, rounded up.
      batch_size_schedule is pairs (fraction of the run, factor), such as
      ((0.0, 1.0), (0.5, 2.0)): from there on, batches are expected to be so
      many times as large, and the accountant sees it. For
      optimizer, weight_decay and agc_clipping see `experiments.plan.optimizer`;
      for schedules `experiments.plan.schedules`; train_only is a regular
      expression for the paths of the parameters to train, None for all (see
      `experiments.plan.trainable`). Averages of parameters are "ema", with the
      first of ema_decays, "ema_DECAY" with each other, and "polyak", from this
      fraction of the run on (None for none).
    eval: Images at a time; how many of the split, evenly spaced (None for all);
      which parameters the result is told of, chosen beforehand: "last" or
      an average; and, where an example has many labels, those that are reported
      (all if empty).
    physical_batch_size: A batch is computed in pieces of so many examples: less
      memory, the same numbers, noise once. None for whole batches.
    train_metrics: Writes into metrics.jsonl, marked private, what De et al.
      read while they train: see `experiments.run.train_metrics`. On one
      device.
    log_every, save_every: In steps; None for about 20 lines and 10 saves a run.
    mesh: Over how many devices batches are split: data x fsdp of them, along
      fsdp of which parameters are split too (docs/meshes.md). With
      data.on_device, data.num_workers and data.prefetch, the one field that may
      change when a run is resumed.
  """
  config = ml_collections.ConfigDict(
      {
          "name": "",
          "seed": config_dict.placeholder(int),
          "data": {
              "source": "",
              "options": {},
              "train_split": "train",
              "test_split": "test",
              "test_options": {},
              "num_examples": config_dict.placeholder(int),
              "mean": (0.0,),
              "std": (1.0,),
              "features": {"name": "", "options": {}},
              "on_device": config_dict.placeholder(bool),
              "num_workers": 0,
              "prefetch": 0,
          },
          "model": {
              "name": "",
              "options": {},
              "restore": {
                  "path": config_dict.placeholder(str),
                  "params": "ema",
                  "reset": (),
                  "format": "auto",
              },
          },
          "augment": {"names": (), "options": {}, "num_views": 1},
          "loss": {
              "name": "softmax",
              "label_smoothing": 0.0,
              "invariance_weight": 0.0,
          },
          "dp": {
              "epsilon": config_dict.placeholder(float),
              "delta": config_dict.placeholder(float),
              "accountant": "pld",
              "neighboring_relation": "add_or_remove_one",
              "noise_multiplier": config_dict.placeholder(float),
              "auto_tune": config_dict.placeholder(str),
              "sampling": "poisson",
              "max_batch_size": config_dict.placeholder(int),
              "l2_clip_norm": 1.0,
              "rescale_to_unit_norm": True,
              "secure_random": False,
              "grid_scale": config_dict.placeholder(int),
          },
          "train": {
              "expected_batch_size": 0.0,
              "batch_size_schedule": (),
              "num_steps": config_dict.placeholder(int),
              "num_epochs": config_dict.placeholder(float),
              "optimizer": "sgd",
              "optimizer_options": {},
              "learning_rate": 0.0,
              "schedule": "constant",
              "schedule_options": {},
              "weight_decay": 0.0,
              "weight_decay_on": "all",
              "agc_clipping": config_dict.placeholder(float),
              "train_only": config_dict.placeholder(str),
              "ema_decays": (0.999,),
              "polyak_start": config_dict.placeholder(float),
          },
          "eval": {
              "batch_size": 500,
              "num_examples": config_dict.placeholder(int),
              "params": "ema",
              "labels": (),
          },
          "physical_batch_size": config_dict.placeholder(int),
          "train_metrics": False,
          "log_every": config_dict.placeholder(int),
          "save_every": config_dict.placeholder(int),
          "mesh": {"data": 1, "fsdp": 1},
      }
  )
  return config.lock()  # A recipe's own misspelt field is an error too.


def make_smoke(
    config: ml_collections.ConfigDict,
    *,
    image_shape: tuple[int, int, int] | None = None,
) -> None:
  """Cuts a recipe down to seconds: few steps on the bundled digits.

  Args:
    config: Changed in place.
    image_shape: Enlarge the digits to this, to stand in for other images.
  """
  config.data.source = "digits"
  config.data.options = (
      {} if image_shape is None else {"image_shape": image_shape}
  )
  config.data.test_options = {}
  config.data.train_split, config.data.test_split = "train", "test"
  config.data.num_examples = None
  config.model.restore.path = None
  config.dp.delta = 1e-4
  config.train.expected_batch_size = 16
  config.train.num_epochs = None
  config.train.num_steps = 3
  config.physical_batch_size = None
  config.eval.num_examples = 40
  config.eval.batch_size = 20


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
  """Refuses a value of a config argument that the recipe has no row for.

  Raises:
    ValueError: If the value is none of the choices.
  """
  if value not in choices:
    raise ValueError(
        f"config argument {name} must be one of {list(choices)}, got {value!r}."
    )


def set_options(options: ml_collections.ConfigDict, **values: Any) -> None:
  """Adds options to those of a source, say, which a config locks."""
  with options.unlocked():
    options.update(values)
