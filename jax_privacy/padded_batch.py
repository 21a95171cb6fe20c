"""A batch that carries its mask: which examples a step has, and its padding.

Padding is index -1. `x[indices]` would read the last record for it, once per
row of padding. So a `PaddedBatch` is not an array.

The invariant: a `PaddedBatch` cannot index an array, and what `take` returns
has no record in a row of padding.

Example:
  >>> import numpy as np
  >>> from jax_privacy import padded_batch
  >>> batch = padded_batch.PaddedBatch(np.array([2, 0, -1]), num_examples=3)
  >>> print(batch.take(np.array([10.0, 20.0, 30.0])), batch.is_padding_example)
  [30. 10.  0.] [False False  True]
"""

import dataclasses
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import _validate


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PaddedBatch:
  """The examples of one step. PRIVATE: who takes part, and how many.

  A pytree, so that compiled functions may take it.

  Attributes:
    indices: Indices of the examples, signed integers [batch_size]; -1 for
      padding. For a data source that knows -1; for arrays, call `take`.
    num_examples: Number of examples that batches are drawn from; None if not
      known.
  """

  indices: Any
  num_examples: int | None = None

  @property
  def is_padding_example(self) -> Any:
    """Which rows are padding, bool [batch_size]; for the gradient function."""
    return self.indices < 0

  def take(self, examples: Any) -> Any:
    """Returns the batch's rows of arrays that hold all examples.

    Args:
      examples: A pytree of arrays [num_examples, ...].

    Returns:
      The same pytree of arrays [batch_size, ...]. Rows of padding are zeros (in
      an array of PRNG keys, the key of some example). NumPy arrays stay so.

    Raises:
      ValueError: If an array has fewer rows than there are examples.
    """
    return jax.tree_util.tree_map_with_path(self._rows, examples)

  def _rows(self, path, leaf):
    shape = np.shape(leaf)
    if not shape or shape[0] < self._at_least():
      rule = f"arrays of {self._at_least()} rows at least, one an example"
      name = f"examples{jax.tree_util.keystr(path)}"
      _validate.fail(name, rule, f"shape {shape}")
    traced = isinstance(self.indices, jax.Array)
    is_jax = traced or isinstance(leaf, jax.Array)
    numpy = jnp if is_jax else np
    is_padding = numpy.asarray(self.is_padding_example)
    indices = numpy.where(is_padding, self.indices.dtype.type(0), self.indices)
    rows = (jnp.asarray(leaf) if is_jax else leaf)[indices]
    if not is_jax:
      rows[is_padding] = np.zeros((), rows.dtype)
      return rows
    if jnp.issubdtype(rows.dtype, jax.dtypes.prng_key):
      return rows
    is_padding = is_padding.reshape(-1, *[1] * (rows.ndim - 1))
    return jnp.where(is_padding, jnp.zeros((), rows.dtype), rows)

  def _at_least(self) -> int:
    if self.num_examples is not None:
      return self.num_examples
    if isinstance(self.indices, jax.core.Tracer):
      return 1
    return max(1, int(np.max(self.indices, initial=0)) + 1)

  def __repr__(self) -> str:
    # Neither indices nor their number; JAX shows it where it is an index.
    return "PaddedBatch(private; see .take and .is_padding_example)"

  def _refuse(self, *_: Any, **__: Any) -> NoReturn:
    raise TypeError(
        "batch must be read by batch.take(examples), got a use as an array of"
        " indices, whose padding would read the last record. Give the gradient"
        " function is_padding_example=batch.is_padding_example; batch.indices"
        " holds -1 for padding."
    )

  __array__ = __index__ = _refuse
  __getitem__ = __iter__ = __len__ = _refuse
  __lt__ = __le__ = __gt__ = __ge__ = _refuse


jax.tree_util.register_dataclass(
    PaddedBatch, data_fields=["indices"], meta_fields=["num_examples"]
)
