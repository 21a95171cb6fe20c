"""Correlated Gaussian noise as an optax transformation of the clipped sum.

Step t gets row t of C^-1 Z, with Z independent noise: later noise takes some of
earlier noise back. What is released is as private as C G + Z, so Z must be in
proportion to the sensitivity of C for the steps that one example can take part
in: see `matrix_factorization.sensitivity`.

The invariant: Z of step t and leaf i is the draw that `gaussian_privatizer`
adds, a pure function of (key, t, i). So a resumed run goes on with the same
noise, no bit depends on the layout over devices, and the strategy 1 is
`gaussian_privatizer` to the bit.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy import noise_addition
  >>> from jax_privacy.matrix_factorization import noising
  >>> noise = noise_addition.matrix_factorization_privatizer(
  ...     noising.BandedNoising((1.0, -0.9)), stddev=2.0,
  ...     prng_key=jax.random.key(0))
  >>> zeros = jnp.zeros(10_000)
  >>> state = noise.init(zeros)
  >>> first, state = noise.update(zeros, state)
  >>> second, state = noise.update(zeros, state)
  >>> print(jnp.std(first).round(1), jnp.std(first + second).round(1))
  2.0 2.0
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_privacy import _validate, noise_draws, precision
from jax_privacy.matrix_factorization import noising, streaming_matrix


class CorrelatedNoiseState(NamedTuple):
  """Position in the noise: all must be saved to resume a run.

  Attributes:
    prng_key: Key of the run's noise; whoever knows it can subtract the noise.
    step: Number of updates noised so far, an int32 scalar.
    buffers: Noise of earlier steps, as secret as the key: one entry a leaf.
  """

  prng_key: jax.Array
  step: jax.Array
  buffers: tuple[Any, ...]


def matrix_factorization_privatizer(
    noising_matrix: Any,
    *,
    stddev: float,
    prng_key: jax.Array | int,
    dtype: jax.typing.DTypeLike | None = None,
    num_steps: int | None = None,
) -> optax.GradientTransformation:
  """Adds row t of C^-1 Z to update t, with Z independent N(0, stddev^2).

  Args:
    noising_matrix: Matrix C^-1, an array [n, k] or a `StreamingMatrix`; or one
      of the objects of `matrix_factorization.noising`, which need less memory.
    stddev: Standard deviation of Z, in the units of the incoming sum: noise
      multiplier x L2 sensitivity of the sum x sensitivity of C.
    prng_key: Threefry key (typed, or raw uint32 [2]) that is used nowhere
      else, or an int to make one of. There is no default: a forgotten key would
      repeat another run's noise.
    dtype: Type of the draw: float32, float64, or None for the update's own,
      float32 at least.
    num_steps: Number of updates that are accounted for; None for as many as the
      array has rows, or 2^31 - 1.

  Returns:
    An optax transformation. `init(params)` gives a `CorrelatedNoiseState`;
    `update` takes the sum of clipped gradients, any pytree of real floating
    arrays, and returns it noised, each leaf in its incoming dtype.

  Raises:
    ValueError: If an argument breaks its rule; and, now or from `update`, if
      JAX draws random numbers in a way in which devices might not agree. From
      `update`, after `num_steps` updates; where it is traced and cannot raise,
      its result is NaN.
    IndexError: From `update`, after the last row of an array.
    TypeError: From `update`, if a leaf is not real and floating point.

  Guarantee: All updates together are the Gaussian mechanism of C G with
    standard deviation `stddev`, and as private: for C that is lower-triangular,
    whoever chooses gradients by what was released. An update's own variance
    says nothing of it. Floats are not real numbers; see `gaussian_privatizer`.

  Source: Denisov et al. 2022 (2202.08312); Choquette-Choo et al. 2023
    (2306.08153); the monograph 2506.08201, section 4.4.
  """
  source, num_rows = _source(noising_matrix)
  stddev = _validate.stddev("stddev", stddev)
  prng_key = _validate.prng_key("prng_key", prng_key)
  if num_steps is not None:
    _validate.integer("num_steps", num_steps, at_least=1)
    if num_rows is not None and num_steps > num_rows:
      rule = f"at most the {num_rows} rows of noising_matrix"
      _validate.fail("num_steps", rule, num_steps)
  noise_draws.check_draw_dtype(dtype)
  noise_draws.check_generator(prng_key)

  def init(params):
    leaves = jax.tree.leaves(jax.eval_shape(lambda x: x, params))
    buffers = [source.init(x, _draw_dtype(x, dtype)) for x in leaves]
    return CorrelatedNoiseState(
        prng_key, jnp.zeros((), jnp.int32), tuple(buffers)
    )

  # Its arguments' names are those of jax-privacy.
  def update(
      sum_of_clipped_grads: Any, noise_state: Any, params: Any = None
  ) -> tuple[Any, Any]:
    del params
    noise_draws.check_generator(noise_state.prng_key)
    _check_rows(noise_state.step, num_rows)
    end = num_rows if num_steps is None else num_steps
    is_over = noise_draws.past_the_end(noise_state.step, end)
    leaves, treedef = jax.tree.flatten(sum_of_clipped_grads)
    pairs = [
        _noised(source, jnp.asarray(leaf), i, noise_state, stddev, dtype)
        for i, leaf in enumerate(leaves)
    ]
    noised = noise_draws.void([leaf for leaf, _ in pairs], is_over)
    noise_state = noise_state._replace(
        step=optax.safe_increment(noise_state.step),
        buffers=tuple(buffers for _, buffers in pairs),
    )
    return treedef.unflatten(noised), noise_state

  return optax.GradientTransformation(init, cast(Any, update))


def _source(matrix: Any) -> tuple[noising.Noising, int | None]:
  """The object that makes the noise, and the number of its steps, if any."""
  if isinstance(matrix, streaming_matrix.StreamingMatrix):
    return noising.StreamedNoising(matrix), None
  if hasattr(matrix, "noised") and hasattr(matrix, "init"):
    return matrix, None
  rows = np.asarray(matrix)
  if rows.dtype.kind not in "fiu" or rows.ndim != 2 or not rows.size:
    got = f"{rows.dtype} of shape {rows.shape}"
    raise ValueError(
        "Expected 2D: noising_matrix must be an array [n, k], a StreamingMatrix"
        f" or an object of matrix_factorization.noising, got {got}."
    )
  rows = rows.astype(np.float64)
  if not np.isfinite(rows).all():
    _validate.fail("noising_matrix", "finite", matrix)
  return noising.DenseNoising.of(rows), len(rows)


def _check_rows(step: Any, num_rows: int | None) -> None:
  if num_rows is None or isinstance(step, jax.core.Tracer):
    return
  if int(step) >= num_rows:
    raise IndexError(
        f"The step must be a row of noising_matrix, which only has {num_rows}"
        f" rows, got {int(step)}."
    )


def _noised(source, leaf, index, state, stddev, dtype):
  own = _draw_dtype(leaf, dtype)
  draws = noising.Draws(state.prng_key, index, stddev, own)
  # A sum of many draws in a short type would round each.
  total = leaf.astype(precision.at_least_float32(leaf.dtype))
  noised, buffers = source.noised(
      total, draws, state.step, state.buffers[index]
  )
  return noised.astype(leaf.dtype), buffers


def _draw_dtype(leaf, dtype):
  return jnp.dtype(dtype or precision.at_least_float32(leaf.dtype))
