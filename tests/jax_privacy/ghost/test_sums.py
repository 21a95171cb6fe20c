"""Pieces of the clipped sum: selection, products, and their order in time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy.ghost import sums

_KEEP = jnp.array([True, False, True])


@pytest.mark.parametrize("shape", [(), (4,), (1, 4, 1), (2, 4), (1, 1)])
def test_scaled(shape):
  x = np.arange(1.0, 1 + 3 * np.prod(shape, dtype=int), dtype=np.float32)
  x = x.reshape(3, *shape)
  wanted = x * np.array([2.0, 0.0, -1.0]).reshape(3, *(1 for _ in shape))
  x[1] = np.nan  # 0 x NaN is NaN, and so is NaN x 0.
  got = sums.scaled(jnp.asarray(x), jnp.array([2.0, np.nan, -1.0]), _KEEP)
  np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("inputs, outputs", [(3, 5), (5, 3), (4, 4)])
def test_outer(inputs, outputs):
  rng = np.random.default_rng(30)
  x, z = rng.normal(size=(6, 2, 4, inputs)), rng.normal(size=(6, 2, 4, outputs))
  with jax.enable_x64(True):
    got = sums.outer(jnp.asarray(x), jnp.asarray(z))
  # 24 products of order 1: 24 x 2^-53 = 3e-15 of each, and they may cancel.
  wanted = np.einsum("bstd,bstp->sdp", x, z)
  np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("number", [0.0, 1.0, -0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_after_changes_nothing_whatever_the_sum_holds(number, shape):
  # A sum that is NaN must not turn the others to 0: that would hide it.
  got = jax.jit(sums.after)(jnp.full(shape, number), _KEEP)
  np.testing.assert_array_equal(got, _KEEP)


def _mlp(params, x):
  for weight, bias in params:
    x = jax.nn.relu(x @ weight + bias.reshape(1, -1))
  return jnp.mean(x)


def _temporary_bytes(grad_fn):
  """Of four layers of 256 on 64 examples, as compiled."""
  params = [(jnp.ones((256, 256)), jnp.ones(256)) for _ in range(4)]
  traced_anew = jax.jit(lambda *args: grad_fn(*args))
  step = traced_anew.lower(params, jnp.ones((64, 256))).compile()
  return step.memory_analysis().temp_size_in_bytes


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="Of what XLA does on a CPU."
)
def test_layers_of_one_position_take_turns(monkeypatch):
  # With jaxlib 0.10.2, in activations of a layer: 5 without clipping, 5 with
  # it, and 7 where all layers' scaled copies exist at one time.
  ghost = jax_privacy.clipped_grad(_mlp, l2_clip_norm=1.0, method="ghost")
  plain = _temporary_bytes(jax.grad(_mlp))
  assert _temporary_bytes(ghost) < 1.2 * plain
  monkeypatch.setattr(sums, "after", lambda total, keep: keep)
  assert _temporary_bytes(ghost) > 1.2 * plain


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_nan_safe_nothing_is_hidden(dtype):
  # The NaN is in the last layer's sum, which the others wait for.
  def loss(params, x):
    (first, _), (last, _) = params
    return jnp.sum(jnp.sin(x[:, :3] @ first)) + jnp.sum(
        jnp.sin(x[:, 3:] @ last)
    )

  with jax.enable_x64(dtype == "float64"):
    rng = np.random.default_rng(31)
    normal = lambda *shape: rng.normal(size=shape).astype(dtype)
    params = [(normal(3, 2), 0.0), (normal(3, 2), 0.0)]
    x = normal(4, 6)
    x[1, 4] = np.nan
    got, wanted = (
        jax.jit(
            jax_privacy.clipped_grad(
                loss,
                l2_clip_norm=[(1.0, 1.0), (1.0, 1.0)],
                nan_safe=False,
                method=method,
            )
        )(params, x)
        for method in ("ghost", "vmap")
    )
  np.testing.assert_allclose(got[0][0], wanted[0][0], rtol=1e-5)
  assert np.isfinite(got[0][0]).all() and np.abs(got[0][0]).min() > 0
  assert np.isnan(got[1][0]).any() and np.isnan(wanted[1][0]).any()
