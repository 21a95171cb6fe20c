"""Writes text with a run's language model, or images with its denoiser.

  python -m experiments.generate --workdir=runs/shakespeare
    [--prompt="ROMEO: "] [--num_tokens=200] [--num_samples=1]
    [--temperature=1.0] [--top_k=40] [--top_p=0.9] [--seed=0]
    [--params=ema] [--unfinished]

  python -m experiments.generate --workdir=runs/diffusion --out=digits
    [--num_images=1000 | --counts=0=100,1=50] [--sampler=ddim]
    [--num_steps=50] [--guidance=0] [--churn=0] [--batch_size=256] [--seed=0]
    [--params=ema] [--unfinished]

Each text follows the prompt, and ends after --num_tokens tokens, or where the
model ends its document. The same seed writes the same text.

Images are equally many of each class, since the private data's own frequencies
are private; --counts sets other numbers, which must come from public knowledge.
--out is a folder for a PNG of each image, images.npz, grid.png and
manifest.json, which has the run's statement. If the command is killed, type it
again: it goes on, and the files end with the same bytes.

Texts and images are post-processing of the released parameters, which they cost
no privacy: the guarantee for the training data is the run's. To choose a run,
a sampler or a seed by what private data say of the images is no
post-processing: that choice costs privacy too.
"""

import pathlib

import jax
import numpy as np
import rich.console
from absl import flags

from experiments.release import image_files, image_sampling, sampling
from experiments.release import model as model_lib
from experiments.run import bar as bar_lib
from experiments.run import cli
from jax_privacy import checkpoint

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_PROMPT = flags.DEFINE_string("prompt", "", "Text to go on from.")
_NUM_TOKENS = flags.DEFINE_integer("num_tokens", 200, "Tokens, at most.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 1, "Number of texts.")
_TEMPERATURE = flags.DEFINE_float(
    "temperature", 1.0, "Divisor of the logits; 0 takes the likeliest token."
)
_TOP_K = flags.DEFINE_integer(
    "top_k", None, "Number of likeliest tokens to choose among."
)
_TOP_P = flags.DEFINE_float(
    "top_p", 1.0, "Probability of the likeliest tokens to choose among."
)
_OUT = flags.DEFINE_string("out", None, "Folder of images, of a denoiser.")
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", None, "Number of images, 1000 by default."
)
_COUNTS = flags.DEFINE_list(
    "counts", None, "Number of images of each class: name=count,..."
)
_SAMPLER = flags.DEFINE_enum(
    "sampler", "ddim", image_sampling.SAMPLERS, "How images are drawn."
)
_NUM_STEPS = flags.DEFINE_integer("num_steps", 50, "Noise levels of an image.")
_GUIDANCE = flags.DEFINE_float(
    "guidance", 0.0, "Weight of what a class adds to an image of none."
)
_CHURN = flags.DEFINE_float(
    "churn", 0.0, "Noise that the sampler heun adds on its way (S_churn)."
)
_CHURN_RANGE = flags.DEFINE_list(
    "churn_range", ["0.05", "50"], "Least and largest noise level with churn."
)
_CHURN_NOISE = flags.DEFINE_float(
    "churn_noise", 1.0, "Factor of the noise that churn adds."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Images at a time.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of what is drawn.")
_PARAMS = flags.DEFINE_string(
    "params",
    None,
    "Which parameters: last, or an average that the run kept. By default the"
    " config's eval.params.",
)
_UNFINISHED = flags.DEFINE_bool(
    "unfinished", False, "Whether a run that is not over will do."
)


def main() -> None:
  """Runs the command line.

  Raises:
    ValueError: If --out is not given for images, or is given for text.
  """
  with (
      cli.exit_on(ValueError, OSError, ImportError, checkpoint.CheckpointError),
      cli.warnings_as_lines(),
  ):
    model = model_lib.load(
        _WORKDIR.value, params=_PARAMS.value, unfinished=_UNFINISHED.value
    )
    images = model.task.image_generator(model.source)
    if images is not None:
      _write_images(model, images)
      return
    if _OUT.value is not None:
      raise ValueError(
          f"out must be none for task {model.task.name!r}, which draws no"
          f" images, got {_OUT.value}."
      )
    texts = sampling.generate(
        model.task.generator(model.source),
        model.params,
        _PROMPT.value,
        num_tokens=_NUM_TOKENS.value,
        num_samples=_NUM_SAMPLES.value,
        temperature=_TEMPERATURE.value,
        top_k=_TOP_K.value,
        top_p=_TOP_P.value,
        seed=_SEED.value,
    )
  for i, text in enumerate(texts):
    if len(texts) > 1:
      print(f"--- {i + 1}")
    print(f"{_PROMPT.value}{text}")
  print(f"--- The model is {model.statement}")


def _labels(names) -> np.ndarray:
  """Returns the class of each image, by the flags."""
  if _COUNTS.value is None:
    num_images = 1000 if _NUM_IMAGES.value is None else _NUM_IMAGES.value
    counts = image_sampling.class_counts(num_images, num_classes=len(names))
  elif _NUM_IMAGES.value is not None:
    raise ValueError(
        f"num_images must be none with counts, got {_NUM_IMAGES.value}."
    )
  else:
    counts = image_sampling.given_counts(_COUNTS.value, names=names)
  return np.repeat(np.arange(len(counts)), counts)


def _sampler() -> image_sampling.Sampler:
  """Returns the sampler of the flags."""
  try:
    least, largest = map(float, _CHURN_RANGE.value)
  except ValueError:
    raise ValueError(
        "churn_range must be two numbers, least and largest, got"
        f" {','.join(_CHURN_RANGE.value)}."
    ) from None
  sampler = image_sampling.Sampler(
      _SAMPLER.value,
      _NUM_STEPS.value,
      guidance=_GUIDANCE.value,
      churn=_CHURN.value,
      churn_least=least,
      churn_largest=largest,
      churn_noise=_CHURN_NOISE.value,
  )
  sampler.check()
  return sampler


def _write_images(model, generator) -> None:
  """Draws images, and writes them with what made them."""
  if _OUT.value is None:
    raise ValueError("out must be a folder for images, got none.")
  labels, sampler = _labels(generator.names), _sampler()
  options = {"seed": _SEED.value, "batch_size": _BATCH_SIZE.value}
  plan = {
      "sampler": sampler._asdict(),
      **options,
      "name": model.config.name,
      "params": model.params_name,
      "step": model.step,
      "params_sha256": checkpoint.tree_sha256(model.params),
      "privacy": dict(model.guarantee),
      # Others may round otherwise.
      "versions": {"jax": jax.__version__, "on": jax.default_backend()},
  }
  folder = image_files.ImageFolder(
      pathlib.Path(_OUT.value), plan=plan, labels=labels, names=generator.names
  )
  if not folder.is_finished:
    _draw(folder, model, generator, sampler=sampler, **options)
  folder.finish()
  print(
      f"{len(labels)} images in {folder.path}. The model is {model.statement}"
  )


def _draw(folder, model, generator, *, sampler, seed, batch_size) -> None:
  """Draws the batches that are missing, and shows how far it is."""
  there = folder.parts()
  batches = image_sampling.generate(
      generator,
      model.params,
      folder.labels,
      sampler=sampler,
      seed=seed,
      batch_size=batch_size,
      skip=there,
  )
  total = -(-len(folder.labels) // batch_size)
  with bar_lib.StepBar(rich.console.Console(stderr=True)) as bar:
    task = bar.add_task("images", total=total, completed=len(there))
    for start, images in batches:
      folder.add(start, images)
      bar.advance(task)


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  cli.run(main)
