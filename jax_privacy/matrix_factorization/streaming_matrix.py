"""Lower-triangular matrices as functions of one row of input at a time.

The invariant: row i of A x depends on x[0], ..., x[i] alone, through a state
whose shape does not change. So noise is correlated while training runs, with no
matrix in memory.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.matrix_factorization import streaming_matrix
  >>> A = streaming_matrix.prefix_sum()
  >>> state = A.init_multiply(jnp.zeros(()))
  >>> first, state = A.multiply_next(jnp.array(2.0), state)
  >>> second, state = A.multiply_next(jnp.array(3.0), state)
  >>> print(first, second, A @ jnp.array([2.0, 3.0]))
  2.0 5.0 [2. 5.]
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from jax_privacy import precision

State = TypeVar("State")


@dataclasses.dataclass(frozen=True)
class StreamingMatrix(Generic[State]):
  """A lower-triangular matrix, of any number of rows.

  `A @ x` multiplies an array [n, ...] or another such matrix; `A * 2.0` scales.

  Attributes:
    init_multiply: Function of a row's shape and dtype, a pytree of arrays or
      `jax.ShapeDtypeStruct`s; it returns the first state.
    multiply_next: Function of (row of the input, state), which returns (row of
      the output, next state).
  """

  init_multiply: Callable[[Any], State]
  multiply_next: Callable[[Any, State], tuple[Any, State]]

  @classmethod
  def from_array_implementation(
      cls,
      init_multiply_fn: Callable[[Any], Any],
      multiply_next_fn: Callable[[jax.Array, Any], tuple[jax.Array, Any]],
  ) -> "StreamingMatrix":
    """Returns the matrix that treats each leaf of a pytree by itself.

    Args:
      init_multiply_fn: `init_multiply` of one array.
      multiply_next_fn: `multiply_next` of one array.
    """

    def init_multiply(value):
      return jax.tree.map(init_multiply_fn, value)

    def multiply_next(value, state):
      leaves, treedef = jax.tree.flatten(value)
      states = treedef.flatten_up_to(state)
      pairs = [multiply_next_fn(*p) for p in zip(leaves, states, strict=True)]
      return (
          treedef.unflatten([out for out, _ in pairs]),
          treedef.unflatten([new for _, new in pairs]),
      )

    return cls(init_multiply, multiply_next)

  def materialize(self, n: int) -> jax.Array:
    """Returns the first n rows and columns, [n, n].

    Args:
      n: Number of rows.
    """
    return multiply_array(self, jnp.eye(n))

  def row_norms_squared(
      self, n: int, scan_fn: Callable[..., Any] = jax.lax.scan
  ) -> jax.Array:
    """Returns the squared L2 norm of each row, [n], one row at a time.

    For B = A C^-1 these are the expected squared errors of each query.

    Args:
      n: Number of rows and columns.
      scan_fn: Function called as `jax.lax.scan`, such as one that keeps fewer
        states for a backward pass.
    """
    zeros = jnp.zeros(n)

    def step(state, i):
      row, state = self.multiply_next(zeros.at[i].set(1), state)
      return state, jnp.sum(row * row)

    return scan_fn(step, self.init_multiply(zeros), jnp.arange(n))[1]

  def scale_rows_and_columns(
      self,
      row_scale: jax.Array | None = None,
      col_scale: jax.Array | None = None,
  ) -> "StreamingMatrix":
    """Returns diag(row_scale) A diag(col_scale).

    Args:
      row_scale: Factors of the rows, [n]; the last one goes on. None for 1.
      col_scale: Factors of the columns, in the same way.
    """
    return scale_rows_and_columns(self, row_scale, col_scale)

  def __matmul__(self, other: Any) -> Any:
    if isinstance(other, StreamingMatrix):
      return multiply_streaming_matrices(self, other)
    return multiply_array(self, jnp.asarray(other))

  def __mul__(self, factor: float) -> "StreamingMatrix":
    return multiply_streaming_matrices(self, diagonal(jnp.array([factor])))


def multiply_array(A: StreamingMatrix, x: jax.Array) -> jax.Array:  # noqa: N803
  """Returns A x, of the shape of x.

  Args:
    A: Matrix.
    x: Rows of input, [n, ...].
  """

  def step(state, row):
    out, state = A.multiply_next(row, state)
    return state, out

  return jax.lax.scan(step, A.init_multiply(x[0]), x)[1]


def multiply_streaming_matrices(
    A: StreamingMatrix,  # noqa: N803
    B: StreamingMatrix,  # noqa: N803
) -> StreamingMatrix:
  """Returns the product A B.

  Args:
    A: Matrix on the left.
    B: Matrix on the right, which sees the input.
  """

  def init_multiply(value):
    inner = B.init_multiply(value)
    shape, _ = jax.eval_shape(B.multiply_next, value, inner)
    return A.init_multiply(shape), inner

  def multiply_next(value, state):
    outer, inner = state
    value, inner = B.multiply_next(value, inner)
    value, outer = A.multiply_next(value, outer)
    return value, (outer, inner)

  return StreamingMatrix(init_multiply, multiply_next)


def scale_rows_and_columns(
    matrix: StreamingMatrix,
    row_scale: jax.Array | None = None,
    col_scale: jax.Array | None = None,
) -> StreamingMatrix:
  """Returns diag(row_scale) A diag(col_scale).

  Args:
    matrix: Matrix A.
    row_scale: Factors of the rows, [n]; the last one goes on. None for 1.
    col_scale: Factors of the columns, in the same way.
  """
  if row_scale is not None:
    matrix = multiply_streaming_matrices(diagonal(row_scale), matrix)
  if col_scale is not None:
    matrix = multiply_streaming_matrices(matrix, diagonal(col_scale))
  return matrix


def identity() -> StreamingMatrix:
  """Returns the identity, which keeps no state."""
  return StreamingMatrix(lambda _: (), lambda value, _: (value, ()))


def prefix_sum() -> StreamingMatrix:
  """Returns the lower-triangular matrix of ones."""

  def multiply_next(value, total):
    total = total + value
    return total, total

  return StreamingMatrix.from_array_implementation(
      jnp.zeros_like, multiply_next
  )


def diagonal(diag: jax.Array) -> StreamingMatrix:
  """Returns a diagonal matrix.

  Args:
    diag: Entries [n]; the last one goes on for all further rows.
  """
  diag = jnp.asarray(diag)

  def multiply_next(value, i):
    dtype = float_dtype(value.dtype, diag.dtype)
    entry = diag.at[i].get(mode="clip").astype(dtype)
    return value.astype(dtype) * entry, i + 1

  return StreamingMatrix.from_array_implementation(
      lambda _: jnp.array(0), multiply_next
  )


def momentum_sgd_matrix(
    momentum: float = 0, learning_rates: jax.Array | None = None
) -> StreamingMatrix:
  """Returns the workload of SGD: the iterates as a function of the gradients.

  Row i is the sum over steps j <= i of learning_rates[j] times the momentum's
  buffer of step j. A learning-rate cool-down is a vector that falls.

  Args:
    momentum: Factor of the buffer at each step.
    learning_rates: Rates [n], all positive; the last one goes on. None for 1.

  Raises:
    ValueError: If a learning rate is not positive.
  """
  rates = jnp.ones(1) if learning_rates is None else jnp.asarray(learning_rates)
  if not jnp.all(rates > 0):
    raise ValueError(
        f"learning_rates must be positive, got a least one of {rates.min()}."
    )

  def init_multiply(value):
    dtype = float_dtype(value.dtype, rates.dtype)
    zero = jnp.zeros_like(value, dtype=dtype)
    return jnp.array(0), zero, zero

  def multiply_next(value, state):
    i, buffer, total = state
    buffer = momentum * buffer + value.astype(buffer.dtype)
    rate = rates.at[i].get(mode="clip").astype(buffer.dtype)
    total = total + rate * buffer
    return total, (i + 1, buffer, total)

  return StreamingMatrix.from_array_implementation(init_multiply, multiply_next)


def float_dtype(*dtypes: jax.typing.DTypeLike) -> jnp.dtype:
  """Returns the longest of the dtypes that are floating, float32 at least.

  Args:
    *dtypes: Types of arrays of numbers; whole numbers are multiplied as floats.
  """
  floating = [d for d in dtypes if jnp.issubdtype(d, jnp.floating)]
  return precision.at_least_float32(*floating)
