"""Finds control flow that depends on private data, in a traced function.

XLA runs straight-line code of fixed shapes, whose time, memory and number of
operations do not depend on the data. Two things can: a `cond` or a `while`
whose predicate comes from the data, or Python that read values while tracing.
The first are found by following the data through the jaxpr (taint analysis),
the second by tracing with abstract and with different concrete batches.

The invariant: taint is only ever overestimated. All outputs of an unknown
equation are taken to depend on all its inputs.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.testing import control_flow
  >>> def fn(params, batch, is_padding):
  ...   return jax.lax.cond(batch[0] > 0, jnp.sin, jnp.cos, params)
  >>> control_flow.find_branches(fn, 1.0, jnp.ones(2), jnp.zeros(2, bool)).data
  ('cond',)
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex_core

from jax_privacy import jaxprs
from jax_privacy.testing.errors import SensitivityError

# Bits of a taint.
_DATA, _PADDING = 1, 2
_READS_VALUES = (
    jax.errors.ConcretizationTypeError,  # And the Boolean's, its child.
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
_ADDRESS = re.compile(r"0x[0-9a-f]+")


class Branches(NamedTuple):
  """Control flow whose path depends on private values.

  Attributes:
    data: Primitives that branch on examples' values, with those around them.
    padding: The same for those that branch on `is_padding_example` alone.
  """

  data: tuple[str, ...]
  padding: tuple[str, ...]


def find_branches(
    fn: Callable[..., Any], params: Any, batch: Any, is_padding: Any
) -> Branches:
  """Returns the branches of `fn(params, batch, is_padding)` on its data.

  Args:
    fn: Function to trace.
    params: Parameters, public.
    batch: Pytree of arrays, private.
    is_padding: Mask of padding rows, private; branches on it are listed apart.

  Raises:
    SensitivityError: If `fn` cannot be traced without values.
  """
  try:
    closed = jax.make_jaxpr(fn)(params, batch, is_padding)
  except _READS_VALUES as error:
    raise _reads_values(error) from error
  taints = [
      taint
      for arg, taint in ((params, 0), (batch, _DATA), (is_padding, _PADDING))
      for _ in jax.tree.leaves(arg)
  ]
  scan = _Scan()
  scan.run(closed.jaxpr, taints, ())
  paths = sorted(scan.found)
  data = tuple(path for path in paths if scan.found[path] & _DATA)
  return Branches(data, tuple(path for path in paths if path not in data))


def check_same_program(
    fn: Callable[..., Any],
    params: Any,
    neighbours: Sequence[tuple[str, Any, Any]],
) -> None:
  """Traces `fn` with each batch as a constant, and compares the programs.

  Here Python sees the values, as it does when `fn` is called without `jit`: a
  shape or a branch that Python takes from them shows as another program.

  Args:
    fn: `fn(params, batch, is_padding)`.
    params: Parameters, public.
    neighbours: Triples (description, batch, is_padding), all of the same
      shapes.

  Raises:
    SensitivityError: If two programs differ, or one asks for a traced value.
  """
  programs = {}
  for name, batch, is_padding in neighbours:
    try:
      closed = jax.make_jaxpr(lambda p, b=batch, m=is_padding: fn(p, b, m))(
          params
      )
    except _READS_VALUES as error:
      raise _reads_values(error) from error
    programs[name] = _ADDRESS.sub("", str(closed))
  (first, program), *others = programs.items()
  for name, other in others:
    if other != program:
      raise SensitivityError(
          "The program that is traced, its shapes or its control flow, depends"
          f" on private values: it differs between {first} and {name}."
      )


def _reads_values(error):
  return SensitivityError(
      "The function reads values of the batch while it is traced, so that its"
      " shapes or its control flow can depend on a private example. Use"
      f" jnp.where in place of Python control flow. JAX says: {error}"
  )


class _Scan:
  """Follows taints through a jaxpr; keeps the tainted branches it meets."""

  def __init__(self):
    self.found = {}

  def run(self, jaxpr, taints, path):
    """Returns the taints of the outputs, given those of the inputs."""
    env = dict(zip(jaxpr.invars, taints, strict=True))

    def read(atom):
      if isinstance(atom, jex_core.Literal):
        return 0
      return env.get(atom, 0)  # A constant is no input, so it is not private.

    for eqn in jaxpr.eqns:
      outs = self._equation(eqn, [read(atom) for atom in eqn.invars], path)
      env.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def _equation(self, eqn, taints, path):
    name = eqn.primitive.name
    inner = (*path, name)
    if name == "cond":
      self._branch(taints[0], inner)
      outs = [
          self.run(branch, taints[1:], inner) for branch in jaxprs.branches(eqn)
      ]
      return [taints[0] | _union(column) for column in zip(*outs, strict=True)]
    if name == "while":
      return self._while(jaxprs.while_loop(eqn), taints, inner)
    if name == "scan":
      return self._scan(jaxprs.scan(eqn), taints, inner)
    held = jaxprs.held(eqn)
    if len(held) == 1 and len(held[0].invars) == len(taints):
      outs = self.run(held[0], taints, inner)
      if len(outs) == len(eqn.outvars):
        return outs
    for jaxpr in held:  # Of what is not known, all is taken to be mixed.
      self.run(jaxpr, [_union(taints)] * len(jaxpr.invars), inner)
    return [_union(taints)] * len(eqn.outvars)

  def _while(self, loop, taints, path):
    num_cond = loop.num_cond_consts
    end = num_cond + loop.num_body_consts
    cond_consts, body_consts = taints[:num_cond], taints[num_cond:end]
    carry = taints[end:]
    while True:
      (predicate,) = self.run(loop.cond, cond_consts + carry, path)
      outs = self.run(loop.body, body_consts + carry, path)
      # How often the body ran is in all that it wrote.
      grown = [c | o | predicate for c, o in zip(carry, outs, strict=True)]
      if grown == carry:
        self._branch(predicate, path)
        return carry
      carry = grown

  def _scan(self, loop, taints, path):
    first, end = loop.num_consts, loop.num_consts + loop.num_carry
    consts, carry, rows = taints[:first], taints[first:end], taints[end:]
    while True:
      outs = self.run(loop.body, consts + carry + rows, path)
      grown = [c | o for c, o in zip(carry, outs[: len(carry)], strict=True)]
      if grown == carry:
        return outs
      carry = grown

  def _branch(self, taint, path):
    if taint:
      path = " > ".join(path)
      self.found[path] = self.found.get(path, 0) | taint


def _union(taints):
  union = 0
  for taint in taints:
    union |= taint
  return union
