"""Gives each row of a batch a PRNG key, by its example or by its position.

Keys by example (`example_keys`, from the run's key, the step and the example's
index) follow the example wherever it is in the batch: removing another row
changes none of them. Keys by position do not: if a row is removed, the later
rows move up and get other keys, and each may move the sum by two clip norms.

Example:
  >>> import jax, jax.numpy as jnp
  >>> import jax_privacy
  >>> key = jax.random.key(0)
  >>> keys_fn = jax_privacy.example_keys
  >>> with_7 = keys_fn(key, step=3, indices=jnp.array([4, 7, 9]))
  >>> without = keys_fn(key, step=3, indices=jnp.array([4, 9]))
  >>> print(bool((with_7[jnp.array([0, 2])] == without).all()))
  True
"""

from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import _validate


def of_rows(keys: Any, batch_size: int, *, by_example: bool) -> Any:
  """Returns one key per row.

  Args:
    keys: PRNG key, typed or raw, to split by position; `by_example`, one key
      per row. Or a pytree of these.
    batch_size: Number of rows.
    by_example: Whether there is one key per row.

  Raises:
    ValueError: If `by_example` and there is not one key per row.
  """
  if not by_example:
    # Key i of a split does not depend on how many are split off, so padding
    # changes no example's randomness.
    return jax.tree.map(lambda key: jax.random.split(key, batch_size), keys)
  for leaf in jax.tree.leaves(keys):
    is_typed = hasattr(leaf, "dtype") and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )
    is_raw = getattr(leaf, "dtype", None) == jnp.uint32
    fits = jnp.shape(leaf)[:1] == (batch_size,) if is_typed or is_raw else False
    if not fits or jnp.ndim(leaf) != (1 if is_typed else 2):
      rule = (
          f"{batch_size} keys, one for each row (jax_privacy.example_keys(key,"
          " step=step, indices=batch.indices); a key that is split by position"
          " breaks the guarantee for adding and removing examples)"
      )
      shape = f"{getattr(leaf, 'dtype', type(leaf).__name__)}"
      shape += f" {jnp.shape(leaf) if is_typed or is_raw else ''}"
      _validate.fail("the argument at prng_argnum", rule, shape.strip())
  return keys


def check(prng_argnum: int | None, keys_by_example: bool) -> None:
  """Refuses keys by example where there is no argument for keys.

  Args:
    prng_argnum: Position of the argument for keys; None for none.
    keys_by_example: Whether that argument has one key per row.

  Raises:
    ValueError: If so.
  """
  if keys_by_example and prng_argnum is None:
    rule = "False without a prng_argnum"
    _validate.fail("keys_by_example", rule, keys_by_example)
