"""Control flow that depends on examples, or on padding, is found."""

import jax
import jax.numpy as jnp
import pytest

from jax_privacy import microbatching
from jax_privacy.testing import control_flow


def _loop(count_of):
  def fn(params, batch, is_padding):
    return jax.lax.fori_loop(
        0, count_of(batch, is_padding), lambda i, c: c + batch[0], params
    )

  return fn


def _inside_scan(params, batch, is_padding):
  # The predicate is public in the first round only: it is in the carry.
  del is_padding

  def body(carry, x):
    carry = jax.lax.cond(carry > 0, lambda: x, lambda: 2 * x)
    return carry, x

  return jax.lax.scan(body, params, batch)[0]


@pytest.mark.parametrize(
    "fn, data, padding",
    [
        (_loop(lambda b, m: 3), (), ()),
        (_loop(lambda b, m: jnp.sum(m)), (), ("while",)),
        (_loop(lambda b, m: jnp.sum(b > 0)), ("while",), ()),
        (_inside_scan, ("scan > cond",), ()),
        (jax.jit(_inside_scan), ("jit > scan > cond",), ()),
        (lambda p, b, m: jnp.where(b > 0, p, b), (), ()),
    ],
    ids=["public", "padding", "data", "carry", "jitted", "select"],
)
def test_branches_are_found_where_there_are_any(fn, data, padding):
  found = control_flow.find_branches(
      fn, jnp.ones(()), jnp.ones(3), jnp.zeros(3, bool)
  )
  assert found == (data, padding)


def test_microbatching_branches_on_padding_alone():
  def fn(params, batch, is_padding):
    def sum_fn(args, mask):
      return (jnp.sum(jnp.where(mask, 0.0, args[0] * params)),)

    return microbatching.sum_over_microbatches(
        sum_fn, (batch,), (0,), is_padding, 2
    )

  found = control_flow.find_branches(
      fn, jnp.ones(()), jnp.ones(5), jnp.zeros(5, bool)
  )
  assert found.data == () and found.padding == ("while",)
