"""How far one example can move the output of a function of a batch.

The invariant: noise is scaled to one number, `sensitivity(relation)`. It is
computed here and nowhere else, from the most that one example contributes.

Example:
  >>> from jax_privacy import sensitivity
  >>> fn = sensitivity.BoundedSensitivityCallable(
  ...     fun=lambda x: x, l2_norm_bound=2.0, has_aux=False)
  >>> fn.sensitivity("add_or_remove_one"), fn.sensitivity("replace_one")
  (2.0, 4.0)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from jax_privacy import _validate, explanation

# By how many contributions one example can move the sum, per relation.
_NUM_CONTRIBUTIONS = {
    "add_or_remove_one": 1.0,  # An example is added or removed.
    "replace_special": 1.0,  # An example is replaced by one that counts zero.
    "replace_one": 2.0,  # An example is replaced by any other.
}
_RELATION_ALIASES = {
    "add_or_remove": "add_or_remove_one",
    "replace": "replace_one",
}


@dataclasses.dataclass(frozen=True)
class BoundedSensitivityCallable:
  """A function of a batch whose first output has bounded L2 sensitivity.

  Attributes:
    fun: The function itself.
    l2_norm_bound: The most one example can contribute to the output's L2 norm.
    has_aux: Whether `fun` returns `(sum, aux)`; aux carries no guarantee.
    grid_step: None for a sum of floats. Else the sum is int32, in steps of this
      size, and so are `l2_norm_bound` and the sensitivity; see `grid.py`.
    keys_by_position: Whether an example's randomness depends on its position in
      the batch, so that removing another one changes it; see `row_keys.py`.
    explain_fn: Function that `explain` calls; None where it cannot be asked.
  """

  fun: Callable[..., Any]
  l2_norm_bound: float
  has_aux: bool
  grid_step: float | None = None
  keys_by_position: bool = False
  explain_fn: Callable[..., explanation.Explanation] | None = None

  def __call__(self, *args, **kwargs):
    """Calls `fun`."""
    return self.fun(*args, **kwargs)

  def explain(
      self, *args: Any, is_padding_example: Any = None
  ) -> explanation.Explanation:
    """Says how each parameter's gradient is clipped, and why not faster.

    Shapes decide, so nothing is run, and no value of the data matters.

    Args:
      *args: Arguments of a call; any array may be a `jax.ShapeDtypeStruct`.
      is_padding_example: Mask of a call; not looked at.

    Returns:
      A table when it is printed, with a row for each parameter: its plan, what
      that costs for one example, and why no faster plan is taken.

    Raises:
      ValueError: If an argument breaks its rule, or this is no function of
        `clipped_grad` or `make_private`.
      TypeError: If a parameter is not real and floating point, or the loss
        cannot be traced.
    """
    if self.explain_fn is None:
      rule = "a function that clipped_grad or make_private returned"
      _validate.fail("explain", rule, self.fun)
    return self.explain_fn(*args, is_padding_example=is_padding_example)

  def sensitivity(self, neighboring_relation: Any = "replace_special") -> float:
    """Returns the L2 sensitivity of the output to one example.

    Args:
      neighboring_relation: Name: "add_or_remove_one", "replace_special"
        (zero-out) or "replace_one"; or a member of
        `dp_accounting.NeighboringRelation`.

    Returns:
      The L2 distance by which two neighbouring batches' outputs can differ.

    Raises:
      ValueError: If the relation is none of these, or is add or remove with
        keys by position: there is no bound then.
    """
    name = getattr(neighboring_relation, "name", neighboring_relation)
    name = name.lower() if isinstance(name, str) else name
    name = _RELATION_ALIASES.get(name, name)
    if name not in _NUM_CONTRIBUTIONS:
      rule = f"one of {sorted(_NUM_CONTRIBUTIONS)}"
      _validate.fail("neighboring_relation", rule, neighboring_relation)
    if self.keys_by_position and name == "add_or_remove_one":
      rule = (
          "replace_special or replace_one where keys go by position (removing"
          " an example gives later ones other keys; for a bound, set"
          " keys_by_example=True and pass jax_privacy.example_keys)"
      )
      _validate.fail("neighboring_relation", rule, neighboring_relation)
    return _NUM_CONTRIBUTIONS[name] * self.l2_norm_bound
