"""Says what a config's run would be, before it is one: `--show`.

Invariant: nothing is trained or written, and no training example is read.
Memory is counted from shapes: what a run holds from step to step, and the
largest batch. What a step needs besides (activations, and XLA's own space) is
known once it is compiled: `--show=memory` compiles it, and asks XLA.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from accounting import claims
from configs import fields as field_table
from experiments.plan import experiment as experiment_lib
from experiments.plan import not_private, units
from experiments.run import loop
from experiments.run import summary as summary_lib
from jax_privacy import models

_MIB = 2**20


def show_fields(config: ml_collections.ConfigDict) -> None:
  """Prints every field of a config: value, default, meaning and rule.

  Args:
    config: Config with the fields of `configs.common.base`.
  """
  defaults = {row.name: row.value for row in field_table.table()}
  section = None
  for row in field_table.table(_values(config, defaults)):
    head, dot, _ = row.name.partition(".")
    if dot and head != section:
      section = head
      print(f"\n{section}")
    default = defaults[row.name]
    is_default = (
        "the default" if row.value == default else f"by default {default}"
    )
    print(f"  {row.name} = {row.value}  ({row.kind}; {is_default})")
    print(f"      {row.meaning} Rule: {row.rule}")


def show_run(
    experiment: experiment_lib.Experiment, *, with_memory: bool = False
) -> None:
  """Prints what a run releases, its batches, its size and its memory.

  Args:
    experiment: The run.
    with_memory: Whether to compile a step, and print what it needs.
  """
  print("\nThe run")
  for name, value in _facts(experiment):
    print(f"  {name}: {value}")
  if with_memory:
    print(f"  memory of a compiled step: {_of_step(experiment)}")


def _values(
    config: ml_collections.ConfigDict, names: Mapping[str, str]
) -> dict[str, Any]:
  found = {}
  for name in names:
    value = config
    for key in name.split("."):
      value = value[key]
    is_section = isinstance(value, ml_collections.ConfigDict)
    found[name] = value.to_dict() if is_section else value
  return found


def _facts(experiment) -> Iterator[tuple[str, Any]]:
  dp, mechanism = experiment.config.dp, experiment.mechanism
  released = summary_lib.privacy(experiment.config, mechanism)
  if dp.enabled:
    yield "guarantee", (
        f"({claims.at_most(released['epsilon'])},"
        f" {claims.at_most_short(dp.delta)})-differential privacy for"
        f" {mechanism.neighboring_relation.replace('_', ' ')}"
        f" {units.of(released)}, by"
        f" {dp.accountant.upper()}"
    )
  else:
    yield "guarantee", not_private.SENTENCE
  if together := summary_lib.composed(experiment):
    yield "guarantee with the runs it continues", (
        f"({claims.at_most(together['epsilon_composed'])},"
        f" {claims.at_most_short(dp.delta)})-differential privacy, by PLD"
    )
  for name, value in released.items():
    if value is not None and name not in ("private", "epsilon", "num_examples"):
      yield name.replace("_", " "), value
  yield "examples, as stated", mechanism.num_examples
  yield "steps", mechanism.num_steps
  yield "expected epochs", f"{mechanism.expected_epochs:.4g}"
  yield "batches are padded to", list(_sizes(experiment))
  params = experiment.model.params
  trained, _ = experiment.partition.split(params)
  yield "parameters", f"{models.num_parameters(params):,}"
  yield "of them trained", f"{models.num_parameters(trained):,}"
  yield "devices", 1 if experiment.mesh is None else experiment.mesh.size
  yield from _memory(experiment, params, trained)


def _sizes(experiment) -> tuple[int, ...]:
  size = experiment.config.physical_batch_size
  return experiment.dp_training.sampler.sizes if size is None else (size,)


def _memory(experiment, params, trained) -> Iterator[tuple[str, str]]:
  """Yields what is held, by shapes; of a mesh, by all devices together."""
  state = jax.eval_shape(experiment.dp_training.optimizer.init, trained)
  averages = [
      jax.eval_shape(average.init, trained)
      for average in experiment.averagings.values()
  ]
  example = experiment.train_source[np.array([-1])]  # Padding: nobody's.
  parts = {
      "parameters": _num_bytes(params),
      "optimiser": _num_bytes(state),
      "averages": _num_bytes(averages),
      "sum of gradients": _num_bytes(trained),
      "largest batch": _num_bytes(example) * max(_sizes(experiment)),
  }
  each = ", ".join(f"{name} {_mib(size)}" for name, size in parts.items())
  total = _mib(sum(parts.values()))
  rest = "; --show=memory compiles a step and measures the rest"
  yield "memory, without activations", f"{total} ({each}){rest}"


def _of_step(experiment) -> str:
  """Says what XLA sets aside for the largest batch, beyond what is held."""
  if experiment.mesh is not None:
    return "not measured on a mesh"
  parts = loop.compile_step(experiment, size=max(_sizes(experiment)))
  found = {name: part.memory_analysis() for name, part in parts.items()}
  if None in found.values():
    return "not known on this platform"
  # What is donated is an argument and an output: it is counted once.
  peak = max(
      of.argument_size_in_bytes
      + of.output_size_in_bytes
      - of.alias_size_in_bytes
      + of.temp_size_in_bytes
      for of in found.values()
  )
  each = ", ".join(
      f"{name} {_mib(of.temp_size_in_bytes)}" for name, of in found.items()
  )
  return (
      f"{_mib(peak)} at most at once, of which activations and XLA's own space:"
      f" {each}"
  )


def _num_bytes(tree: Any) -> int:
  return sum(
      math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
      for leaf in jax.tree.leaves(tree)
      if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  )


def _mib(size: int) -> str:
  return f"{size / _MIB:.3g} MiB"
