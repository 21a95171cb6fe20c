"""What makes a weight: one equation, and what keeps norms after it.

The invariant: `Made.through` of what the equation gives is the weight.

Example:
  >>> from jax_privacy.ghost import making
  >>> [field for field in making.Made.__dataclass_fields__][:2]
  ['maker', 'chain']
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from jax_privacy import jaxprs
from jax_privacy.ghost import tracing, transforms

_IN_PLACE = ("convert_element_type", "copy", "copy_p")


@dataclasses.dataclass(frozen=True)
class Made:
  """A weight.

  Attributes:
    maker: Equation that makes it of parameters; it keeps no norm.
    chain: Isometries after that, in order.
    makers: Equations by what they give, of all that depends on no example.
    origins: Numbers of parameters by what a gradient reaches them through.
  """

  maker: Any
  chain: tuple[Any, ...]
  makers: Mapping[Any, Any]
  origins: Mapping[Any, set[int]]

  @classmethod
  def of(
      cls, atom: Any, makers: Mapping[Any, Any], origins: Mapping[Any, set[int]]
  ) -> "Made | None":
    """Returns how a weight is made; None if it is a parameter.

    Args:
      atom: The weight.
      makers: Equations by what they give.
      origins: Numbers of parameters by variable.
    """
    chain = []
    while tracing.is_var(atom) and atom in makers:
      eqn = makers[atom]
      if not transforms.is_isometry(eqn):
        return cls(eqn, tuple(chain), makers, origins)
      chain.insert(0, eqn)
      atom = eqn.invars[0]
    return None

  @property
  def name(self) -> str:
    """Name of the primitive that makes it."""
    return self.maker.primitive.name

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape of what the equation gives, before the chain."""
    return self.maker.outvars[0].aval.shape

  def is_weight(self, atom: Any) -> bool:
    """Returns whether an operand depends on parameters.

    Args:
      atom: Operand of the equation.
    """
    return tracing.is_var(atom) and bool(self.origins.get(atom))

  def shares(self, a: Any, b: Any) -> bool:
    """Returns whether two operands depend on one parameter.

    Args:
      a: Operand of the equation.
      b: Another one.
    """
    if not (tracing.is_var(a) and tracing.is_var(b)):
      return False
    return bool(self.origins.get(a, set()) & self.origins.get(b, set()))

  def through(self, value: jax.Array) -> jax.Array:
    """Returns a value after the chain.

    Args:
      value: Array of the shape of what the equation gives.
    """
    for eqn in self.chain:
      (value,) = jaxprs.bind(eqn, [value])
    return value

  def permutation(self) -> tuple[int, ...] | None:
    """Returns which axis, before the chain, is where; None if one is lost."""
    order = tuple(range(len(self.shape)))
    for eqn in self.chain:
      if eqn.primitive.name == "transpose":
        moved = jaxprs.param(eqn, "permutation")
        order = tuple(order[i] for i in moved)
      elif eqn.primitive.name not in _IN_PLACE:
        return None
    return order
