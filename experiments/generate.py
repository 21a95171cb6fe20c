"""Writes text with a run's language model.

  python -m experiments.generate --workdir=runs/shakespeare
    [--prompt="ROMEO: "] [--num_tokens=200] [--num_samples=1]
    [--temperature=1.0] [--top_k=40] [--top_p=0.9] [--seed=0]
    [--params=ema] [--unfinished]

Each text follows the prompt, and ends after --num_tokens tokens, or where the
model ends its document. The same seed writes the same text.

Texts are post-processing of the released parameters, which they cost no
privacy: the guarantee for the training data is the run's.
"""

from absl import flags

from experiments.release import model as model_lib
from experiments.release import sampling
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
  """Runs the command line."""
  with (
      cli.exit_on(ValueError, OSError, ImportError, checkpoint.CheckpointError),
      cli.warnings_as_lines(),
  ):
    model = model_lib.load(
        _WORKDIR.value, params=_PARAMS.value, unfinished=_UNFINISHED.value
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


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  cli.run(main)
