"""What a saved run offers other programs: to predict, to be exported.

Invariant: all of it is public. Names, shapes and a schema are read, and no
example of the run's.

>>> Released().interface(source=None), Released().class_names(source=None)
({}, ())
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.tasks.parts import (
    Exported,
    Generator,
    ImageGenerator,
    Predictor,
    Source,
)


class Released:
  """The part of a `task.Task` that a saved run needs; each has a default.

  Attributes:
    name: Name of the task.
  """

  name: str

  def input_description(self, source: Source) -> dict[str, Any] | None:
    """Returns what predicting needs to know of inputs, for JSON.

    A run keeps it in its folder, so that predictions and exports need nothing
    else. It is public: names, shapes and a schema, nothing of any example. By
    default it is None: the test split is loaded then.

    Args:
      source: The test split, loaded for evaluation.
    """
    del source
    return None

  def from_description(self, description: Mapping[str, Any]) -> Source:
    """Returns a source without examples, for `build_predictor` and others.

    Args:
      description: Values that `input_description` returned, out of JSON.

    Raises:
      ValueError: If it is not that.
    """
    raise ValueError(f"task {self.name!r} must have no description, got one.")

  def read_inputs(self, path: str, like: Source) -> Source:
    """Returns a user's own inputs, without targets; by default refuses.

    Args:
      path: A file or a folder.
      like: Source of `from_description`, or the test split.

    Raises:
      ValueError: If the task reads none, or they are malformed.
    """
    raise ValueError(
        f"input must be none for task {self.name!r}, which reads no inputs of"
        f" users, got {path}."
    )

  def class_names(self, source: Source) -> tuple[str, ...]:
    """Returns the names of the classes; by default there are none.

    Args:
      source: Source of the examples.
    """
    del source
    return ()

  def interface(self, source: Source) -> dict[str, Any]:
    """Returns what inputs and outputs of an exported model mean, for JSON.

    It is public, and enough to make an input by hand. By default it is {}.

    Args:
      source: Its description is read, and no example.
    """
    del source
    return {}

  def build_exported(
      self, source: Source, predictor: Predictor
  ) -> Exported | None:
    """Returns a predictor of rawer inputs than a batch, for exported programs.

    By default it is None: a program takes what the predictor reads of a batch.

    Args:
      source: Its description is read, and no example.
      predictor: Predictor for examples of it.
    """
    del source, predictor
    return None

  def generator(self, source: Source) -> Generator:
    """Returns what writes new text; by default refuses.

    Args:
      source: Its description is read, and no example.

    Raises:
      ValueError: If the task writes none.
    """
    del source
    raise ValueError(
        f"task must be one that writes text, such as 'language', got"
        f" {self.name!r}."
    )

  def image_generator(self, source: Source) -> ImageGenerator | None:
    """Returns what draws new images; by default None, for there are none.

    Args:
      source: Its description is read, and no example.
    """
    del source
    return None

  def columns(self, source: Source, outputs: Any) -> dict[str, np.ndarray]:
    """Returns predictions for people, by column's name; by default refuses.

    Args:
      source: Its description names what is predicted.
      outputs: `Predictor.predict_fn`'s; NumPy arrays [n, ...].

    Returns:
      Arrays [n] of strings or numbers.

    Raises:
      ValueError: If the task has none.
    """
    raise ValueError(f"task {self.name!r} must have columns, got none.")
