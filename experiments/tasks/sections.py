"""How a task reads its sections of a config: choices, options, unused fields.

Invariant: a field of a section either has an effect or is as in
`configs.common.base`; an error names the field as the command line does.

>>> from configs import common
>>> config = common.base()
>>> check_choice("eval.params", "best", ("last", "ema"))
Traceback (most recent call last):
ValueError: eval.params must be one of last, ema, got 'best'.
>>> config.augment.num_views = 4
>>> check_unused("augment", config.augment, task="table")
Traceback (most recent call last):
ValueError: augment.num_views must be 1 for task 'table', which does not use \
it, got 4.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from configs import common
from experiments.tasks import imported
from jax_privacy import _validate


def options(
    name: str, given: ml_collections.ConfigDict, *, taken: Sequence[str]
) -> dict[str, Any]:
  """Returns options as keyword arguments.

  Args:
    name: The field's.
    given: Its value.
    taken: Arguments that are set from elsewhere.

  Raises:
    ValueError: If one of these is among the options.
  """
  if wrong := sorted(set(taken) & set(given)):
    raise ValueError(
        f"{name} must be options that no other field decides, got {wrong[0]}."
    )
  return given.to_dict()


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
  """Puts the field's name before a ValueError that another package raises.

  Args:
    name: Dotted name of the field.

  Yields:
    Nothing.

  Raises:
    ValueError: If the body raises one; its text begins with the name.
  """
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{name}: {error}") from error


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
  """Refuses a value that is none of the choices, and no name of own code.

  Args:
    name: Dotted name of the field.
    value: Value of the field.
    choices: Names that are allowed.

  Raises:
    ValueError: If it is not; the text lists them. Own code is not looked for.
  """
  if name in imported.FIELDS and imported.is_own(value):
    imported.check(name, value)
  elif value not in choices:
    rule = f"one of {', '.join(choices)}"
    if name in imported.FIELDS:
      rule += f", or {imported.FORM} of own code"
    _validate.fail(name, rule, value)


def check_unused(
    name: str,
    section: ml_collections.ConfigDict,
    *,
    task: str,
    fields: Sequence[str] | None = None,
) -> None:
  """Refuses fields that a task does not use, unless they are as in `base`.

  Args:
    name: The section's.
    section: Section as given.
    task: The task's name.
    fields: Names of fields of the section; None for all.

  Raises:
    ValueError: If one is not as in `configs.common.base`.
  """
  base = common.base()[name]
  for field in base if fields is None else fields:
    value, default = _plain(section[field]), _plain(base[field])
    if value != default:
      raise ValueError(
          f"{name}.{field} must be {default!r} for task {task!r}, which does"
          f" not use it, got {_validate.shown(value)}."
      )


def _plain(value: Any) -> Any:
  if isinstance(value, ml_collections.ConfigDict):
    return value.to_dict()
  return tuple(value) if isinstance(value, list | tuple) else value
