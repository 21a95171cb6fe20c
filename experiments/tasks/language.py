"""The task of language: the next token of a sequence.

Invariant: the loss of one example is the sum over its own tokens, none of which
is padding or context; and an example is what the source says, which the
statement repeats. Of an example, evaluation keeps five numbers.

>>> import numpy as np
>>> one = Outcomes(*(np.array([x]) for x in (8.0, 3, 4, 4, 0)))
>>> found = numbers(one)
>>> print(found["accuracy"].value, f"{found['perplexity'].value:.3f}")
0.75 7.389
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.metrics import estimate as estimate_lib
from experiments.metrics import ratios
from experiments.tasks import canary_text, imported, modules, sections
from experiments.tasks import task as task_lib
from jax_privacy import models
from jax_privacy.data import text as text_lib

_LOSS = "softmax"


class Outcomes(NamedTuple):
  """What a model made of sequences.

  Attributes:
    nll: Sum of -log p(token) over what is predicted, in nats, float64 [n].
    num_right: Number of tokens that were the likeliest, int32 [n].
    num_tokens: Number of tokens that are predicted, int32 [n].
    num_bytes: Number of bytes of UTF-8 that these are, int32 [n].
    document: Number of the document that it is a piece of, int32 [n].
  """

  nll: np.ndarray
  num_right: np.ndarray
  num_tokens: np.ndarray
  num_bytes: np.ndarray
  document: np.ndarray


class Language(task_lib.Task):
  """Next tokens: bits a byte, perplexity, accuracy.

  Args:
    task_config: Section of the task; see `task.Task`.
    **section_configs: Other sections by name; see `task.Task`.
  """

  metrics = {
      "bits_per_byte": "bits a byte",
      "perplexity": "perplexity of a token",
      "accuracy": "next-token accuracy",
  }
  standard_errors = (
      "those of ratios by the delta method, over documents; of differences,"
      " paired"
  )
  unused = {
      "task": ("options",),
      "data": ("mean", "std", "features"),
      "augment": None,
      "loss": None,
      "eval": ("labels",),
  }

  def __init__(self, task_config, **section_configs):
    super().__init__(task_config, **section_configs)
    sections.check_choice(
        "data.source", self.data_config.source, text_lib.names()
    )
    sections.check_choice(
        "model.name", self.model_config.name, models.sequence_names()
    )

  def load(self, split, *, num_examples=None, for_evaluation=False):
    """See `task.Task`; evaluation sees all of a document, and never packs."""
    taken = ("name", "split", "num_examples")
    options = sections.options(
        "data.options", self.data_config.options, taken=taken
    )
    if for_evaluation:
      options |= sections.options(
          "data.test_options", self.data_config.test_options, taken=taken
      )
      if options.get("packing") == "pack":
        options["packing"] = "split"
    name = imported.resolve(
        "data.source",
        self.data_config.source,
        takes=("split", "num_examples"),
        what="a function that loads a source of text",
    )
    return text_lib.load(
        name, split=split, num_examples=num_examples, **options
    )

  def check_splits(self, train_source, test_source):
    """Checks that both splits have the same tokens.

    Args:
      train_source: The training split.
      test_source: The test split, loaded for evaluation.

    Raises:
      ValueError: If they are not.
    """
    ours, theirs = (
        source.tokeniser.describe() for source in (train_source, test_source)
    )
    if theirs != ours:
      raise ValueError(
          "data.test_options must leave the training split's tokeniser,"
          f" {ours}, got {theirs}."
      )

  def describe(self, source) -> dict[str, Any]:
    """See `task.Task`."""
    return source.describe()

  def example_is(self) -> str:
    """See `task.Task`; of what is made, or read by own code, it is ""."""
    if self.data_config.source != "text":
      return ""
    options = self.data_config.options
    return text_lib.example_is(
        packing=options.get("packing", text_lib.PACKING),
        length=options.get("length", text_lib.LENGTH),
    )

  def public_files(self) -> dict[str, str]:
    """Returns the digest of a tokeniser's file; see `task.Task`."""
    found = {}
    for section in ("options", "test_options"):
      path = self.data_config[section].get("tokeniser", "bytes")
      if self.data_config.source == "text" and path != "bytes":
        described = text_lib.build_tokeniser(path).describe()
        found[f"data.{section}.tokeniser"] = described["tokeniser_sha256"]
    return found

  def build_model(self, source, key) -> task_lib.Model:
    """See `task.Task`."""
    apply_fn, params = models.functional(self._module(source, key))

    def loss_fn(params, example, key):
      del key  # Nothing is drawn.
      row = jax.tree.map(lambda x: jnp.expand_dims(x, 0), example)
      return jnp.sum(_scores(apply_fn, params, row)["nll"])

    return task_lib.Model(params=params, loss_fn=loss_fn)

  def build_predictor(self, source, model=None) -> task_lib.Predictor:
    """See `task.Task`; what is predicted of a sequence is how likely it is."""
    module = nnx.eval_shape(lambda: self._module(source, 0))
    apply_fn, params = models.functional(module)

    def predict_fn(params, batch):
      scores = _scores(apply_fn, params, batch)
      return jax.tree.map(lambda x: jnp.sum(x, axis=1), scores)

    return task_lib.Predictor(params=params, predict_fn=predict_fn)

  def outcomes(self, source, batch, outputs) -> Outcomes:
    """See `task.Task`."""
    return Outcomes(
        np.asarray(outputs["nll"], np.float64),
        np.asarray(outputs["is_right"], np.int32),
        batch["num_tokens"] - batch["num_context"],
        batch["num_bytes"],
        batch["document"],
    )

  def overall(self, source, outcomes) -> dict[str, estimate_lib.Estimate]:
    """See `task.Task`."""
    return numbers(outcomes)

  def targets(self, outcomes) -> np.ndarray:
    """Returns the sizes of what is predicted: a twin's must be the same.

    Args:
      outcomes: Outcomes of evaluation on the source.
    """
    return np.stack([outcomes.num_tokens, outcomes.num_bytes], axis=1)

  def summary_numbers(self, values) -> dict[str, Any]:
    """Keeps the names that summaries have for accuracies.

    Args:
      values: Values by metric, then by name of the parameters.

    Returns:
      The numbers by key of the summary.
    """
    accuracy = values["accuracy"]
    others = {k: v for k, v in values.items() if k != "accuracy"}
    return {
        "test_accuracy": accuracy["last"],
        "test_accuracy_ema": accuracy["ema"],
        "test_accuracies": dict(accuracy),
        **super().summary_numbers(others),
    }

  def input_canaries(
      self, train_source, test_source, predictor, *, num_canaries, seed
  ) -> task_lib.InputCanaries:
    """Returns sequences of random tokens, which no text has.

    Args:
      train_source: The training split.
      test_source: The test split, loaded for evaluation.
      predictor: Predictor for examples of the test split.
      num_canaries: Number of canaries.
      seed: Seed of the choice of sequences.

    Raises:
      ValueError: If test sequences have another length than training's.
    """
    canary_text.check_lengths(train_source, test_source)
    rows = canary_text.draw(
        train_source,
        num_rows=num_canaries,
        num_tokens=train_source.length,
        seed=seed,
    )
    return task_lib.InputCanaries(rows, canary_text.losses_fn(predictor))

  def text_canaries(
      self,
      train_source,
      test_source,
      predictor,
      *,
      num_canaries,
      num_references,
      seed,
  ) -> task_lib.InputCanaries:
    """Returns short random strings, each alone in its sequence.

    Args:
      train_source: The training split.
      test_source: The test split, loaded for evaluation.
      predictor: Predictor for examples of the test split.
      num_canaries: Number of canaries.
      num_references: Number of strings to rank them among.
      seed: Seed of the strings.

    Raises:
      ValueError: If test sequences have another length than training's.
    """
    canary_text.check_lengths(train_source, test_source)
    rows = canary_text.draw(
        train_source,
        num_rows=num_canaries + num_references,
        num_tokens=min(canary_text.NUM_TOKENS, train_source.length),
        seed=seed,
    )
    ours, others = (
        {name: values[part] for name, values in rows.items()}
        for part in (slice(num_canaries), slice(num_canaries, None))
    )
    losses_fn = canary_text.losses_fn(predictor)
    return task_lib.InputCanaries(ours, losses_fn, others)

  def input_description(self, source):
    """Returns the tokeniser, and the length of sequences; see `task.Task`.

    Args:
      source: The test split, loaded for evaluation.
    """
    of_own_code = self.data_config.source not in text_lib.names()
    return None if of_own_code else source.describe()

  def from_description(self, description):
    """See `task.Task`; of a tokeniser's file the path is the config's."""
    options = self.data_config.options
    kept = {k: options[k] for k in ("tokeniser", "boundary") if k in options}
    return text_lib.from_description(description, **kept)

  def read_inputs(self, path, like):
    """Returns the documents of a file or a folder, to be scored.

    Args:
      path: Path of the file.
      like: Source of `from_description`, or the test split.
    """
    options = self.data_config.options
    kept = ("text_column", "whole_files")
    kept = {name: options[name] for name in kept if name in options}
    return text_lib.read_inputs(path, like=like, **kept)

  def columns(self, source, outputs) -> dict[str, np.ndarray]:
    """Returns how likely each sequence is.

    Args:
      source: Source of the inputs.
      outputs: Outputs of the predictor, one row an example.
    """
    nll = np.asarray(outputs["nll"], np.float64)
    return {
        "bits": nll / np.log(2.0),
        "tokens right": np.asarray(outputs["is_right"]),
    }

  def interface(self, source) -> dict[str, Any]:
    """See `task.Task`."""
    meaning = {
        "tokens": "the boundary, tokens, and boundaries as padding",
        "num_tokens": "how many tokens follow the first boundary",
        "num_context": "how many of these are not scored",
        "boundary": source.tokeniser.boundary,
    }
    outputs = {
        "nll": "the sum of -log p over what is scored, in nats",
        "is_right": "how many of these tokens were the likeliest",
    }
    return {**source.describe(), "inputs": meaning, "outputs": outputs}

  def generator(self, source) -> task_lib.Generator:
    """See `task.Task`."""
    module = nnx.eval_shape(lambda: self._module(source, 0))
    return task_lib.Generator(
        tokeniser=source.tokeniser,
        cache_fn=models.method(module, "init_cache"),
        decode_fn=models.method(module, "decode"),
    )

  def _module(self, source, key) -> nnx.Module:
    module = modules.build(
        self.model_config,
        key=key,
        what="a model of sequences",
        vocabulary_size=source.tokeniser.vocabulary_size,
    )
    most = getattr(module, "num_positions", None)
    if isinstance(most, int) and most < source.length:
      raise ValueError(
          "model.options.num_positions must be at least the length of a"
          f" sequence, {source.length}, got {most}."
      )
    return module


def numbers(outcomes: Outcomes) -> dict[str, estimate_lib.Estimate]:
  """Returns bits a byte, perplexity and accuracy.

  Args:
    outcomes: Outcomes of at least one sequence.
  """
  nll, num_right, num_tokens, num_bytes, document = outcomes
  per_token = ratios.ratio(nll, num_tokens, clusters=document)
  return {
      "bits_per_byte": ratios.ratio(
          nll / np.log(2.0), num_bytes, clusters=document
      ),
      "perplexity": ratios.exponential(per_token),
      "accuracy": ratios.ratio(
          num_right, num_tokens, clusters=document, is_share=True
      ),
  }


def _scores(apply_fn, params, batch) -> dict[str, jax.Array]:
  """Returns [n, length] for each token: its loss, and whether it was first.

  Both are 0 for padding and for context.
  """
  tokens = batch["tokens"]
  logits, targets = apply_fn(params, tokens[:, :-1]), tokens[:, 1:]
  at = jnp.expand_dims(targets, 2)
  of_target = jnp.take_along_axis(logits, at, axis=2)[..., 0]
  nll = jax.nn.logsumexp(logits, axis=2) - of_target
  places = jnp.arange(targets.shape[1], dtype=targets.dtype)[None]
  is_counted = places >= jnp.expand_dims(batch["num_context"], 1)
  is_counted &= places < jnp.expand_dims(batch["num_tokens"], 1)
  is_right = jnp.argmax(logits, axis=2).astype(targets.dtype) == targets
  return {
      "nll": jnp.where(is_counted, nll, jnp.zeros_like(nll)),
      "is_right": (is_right & is_counted).astype(jnp.int32),
  }
