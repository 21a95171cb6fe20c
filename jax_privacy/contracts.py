"""The types of what goes into `make_private` and comes out.

Declarations for readers and type checkers. Invariant: nothing here computes.

>>> GradFn.__call__.__kwdefaults__ is None  # The mask has no default.
True
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict

import jax
import numpy as np
import optax

from jax_privacy import explanation, root_key


class MechanismLike(Protocol):
  """Fields of a mechanism that `make_private` reads.

  `accounting.Mechanism` has them.

  It may have a `batch_size_schedule` too, for "poisson": pairs (first step,
  factor); from that step on, counted from 0, `sampling_prob` x factor is the
  probability. A mechanism without the attribute samples alike at every step.

  It may have `sampling_options`: pairs of names and values, or a mapping.
  "random_allocation" reads num_selected from it, 1 if it is not there;
  "cyclic_poisson" reads cycle_length, its number of groups.

  It may have a `noise`, "independent" where it has none. For others, step t
  gets row t of C^-1 Z, and `noise_options` describes C, whose columns have norm
  1 at most; `noise_multiplier` says how large Z is. See `strategies.py`.

  It may have a `batch_strategy`, a `BatchStrategy` that draws its batches.
  Where that is missing or None, `sampling` names one of the table in
  `samplers.py`.
  """

  @property
  def noise_multiplier(self) -> float:
    """Standard deviation of the noise over the clip norm."""
    ...

  @property
  def num_steps(self) -> int:
    """Number of updates."""
    ...

  @property
  def sampling(self) -> str:
    """Such as "poisson": how batches are drawn; see `samplers.py`."""
    ...

  @property
  def sampling_prob(self) -> float:
    """Probability that an example is in a batch."""
    ...

  @property
  def num_examples(self) -> int | None:
    """Stated size of the data set; `make_private` refuses None."""
    ...

  @property
  def max_batch_size(self) -> int | None:
    """Where Poisson batches are truncated, or None."""
    ...


class BatchStrategy(Protocol):
  """What draws the batches of a mechanism that brings its own sampler.

  It needs NumPy alone. A batch is a pure function of the generators: no state
  is kept from one step to the next. For correlated noise it must have a method
  `steps_apart(num_steps)`, which returns how far apart two steps of one example
  are at least.
  """

  def usual_sizes(self, num_examples: int) -> Sequence[int]:
    """Returns sizes to pad batches to, computed from public numbers alone.

    The largest should hold nearly every batch: one that exceeds it is padded to
    a multiple of it, and compiled anew.

    Args:
      num_examples: Stated number of examples.
    """
    ...

  def draw_fn(
      self, num_examples: int, generator: np.random.Generator
  ) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Returns `draw(generator, step)`, which gives the indices of a batch.

    Args:
      num_examples: Indices are in [0, num_examples), each at most once.
      generator: Generator for what is drawn once in a run, such as groups;
        `draw` gets one of its own at each step. With `secure_random` they are
        `secure_sampling.CipherGenerator`s, which have fewer methods.
    """
    ...


class Noise(Protocol):
  """What `make_private` adds to each sum of clipped gradients."""

  @property
  def is_secure(self) -> bool:
    """Whether a cipher draws it; batches are then drawn by the cipher too."""
    ...

  def privatizer(
      self,
      mechanism: MechanismLike,
      *,
      stddev: float,
      root: root_key.RootKey,
      grid_step: float | None,
  ) -> optax.GradientTransformation:
    """Returns an optax transformation that adds noise to a sum.

    Args:
      mechanism: Mechanism of the run; it has `num_steps` draws.
      stddev: Standard deviation, the mechanism's noise multiplier times the
        most that one example may add to the sum, in the sum's units.
      root: Private randomness of the run. Each key is derived from it under a
        label of its own.
      grid_step: Size of the grid's steps, see
        `secure_noise.secure_gaussian_privatizer`; None for sums of floats.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    ...


class GradFn(Protocol):
  """The gradient function of `make_private`."""

  def __call__(
      self, *args: Any, is_padding_example: jax.typing.ArrayLike
  ) -> Any:
    """Returns the sum of clipped gradients over the expected batch size.

    Args:
      *args: Those of the loss: the parameters, and what `batch.take` returns.
      is_padding_example: Booleans [batch size]: which rows are padding, that
        is `batch.is_padding_example`; all False for examples of your own.

    Returns:
      A pytree like the parameters; or a pair of it and the values, norms and
      auxiliary outputs that were asked for.

    Raises:
      ValueError: If `is_padding_example` is None or missing: an unmarked row of
        padding would count as an example.
    """
    ...

  def explain(
      self, *args: Any, is_padding_example: Any = None
  ) -> explanation.Explanation:
    """Says how each parameter is clipped, from shapes alone.

    Args:
      *args: Arguments of a call; any array may be a `jax.ShapeDtypeStruct`.
      is_padding_example: Mask of a call; not needed.

    Returns:
      A table when it is printed.
    """
    ...

  def sensitivity(self, neighboring_relation: Any = "replace_special") -> float:
    """Returns the L2 sensitivity of the sum to one example.

    Args:
      neighboring_relation: Name of the relation; see
        `BoundedSensitivityCallable`.
    """
    ...


class ClippedGradOptions(TypedDict, total=False):
  """The options of `clipped_grad` that `make_private` passes on; see there.

  Attributes:
    argnums: Positions of the arguments to differentiate.
    has_aux: Whether the loss returns (loss, aux).
    rescale_to_unit_norm: Whether to divide the sum by the clip norm.
    batch_argnums: Positions of the arguments with a batch axis.
    keep_batch_dim: Whether examples keep a leading axis of size 1.
    return_values: Whether to return losses too.
    return_grad_norms: Whether to return norms before clipping too.
    pre_clipping_transform: Function of each example's gradient.
    dtype: Type of the sum.
    prng_argnum: Position of the argument for keys.
    spmd_axis_name: Name of the batch axis for `jax.vmap`.
    method: Name of the method of clipping.
    passes: Number of passes over the data, or None.
    grid_scale: Number of grid steps per clip norm.
    keys_by_example: Whether there is one key per row.
  """

  argnums: int | Sequence[int]
  has_aux: bool
  rescale_to_unit_norm: bool
  batch_argnums: int | Sequence[int]
  keep_batch_dim: bool
  return_values: bool
  return_grad_norms: bool
  pre_clipping_transform: Callable[[Any], Any] | None
  dtype: jax.typing.DTypeLike | None
  prng_argnum: int | None
  spmd_axis_name: str | None
  method: str
  passes: int | None
  grid_scale: int | None
  keys_by_example: bool
