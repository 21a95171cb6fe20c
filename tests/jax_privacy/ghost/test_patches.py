"""A convolution's two Gram matrices, each of them forced.

The rules' own test has the definition of patches; here the way through pixels
must give what the way through patches gives, and what NumPy makes of it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.ghost import patches

_RNG = np.random.default_rng(23)
_SPECS = {
    3: ("NWC", "WIO", "NWC"),
    4: ("NHWC", "HWIO", "NHWC"),
    5: ("NDHWC", "DHWIO", "NDHWC"),
}
_CASES = {
    "plain": ((1, 5, 4, 2), (3, 2, 2, 3), {}),
    "strides": ((1, 7, 5, 2), (3, 3, 2, 2), {"window_strides": (2, 3)}),
    "dilations": (
        (1, 5, 4, 2), (2, 3, 2, 2),
        {"rhs_dilation": (2, 1), "lhs_dilation": (1, 3),
         "padding": ((1, 0), (-1, 2))},
    ),
    "groups": ((2, 4, 3, 4), (2, 2, 2, 6), {"feature_group_count": 2}),
    "depthwise": ((1, 4, 3, 3), (3, 3, 1, 3), {"feature_group_count": 3}),
    "1d": ((2, 6, 2), (3, 2, 2), {"padding": "VALID"}),
    "3d": ((1, 3, 3, 2, 1), (2, 2, 2, 1, 2), {}),
    "channels_first": (
        (1, 3, 4, 5), (4, 3, 2, 2), {"spec": ("NCHW", "OIHW", "NCHW")},
    ),
}  # fmt: skip


def _layout(x, w, *, padding="SAME", spec=None, **options):
  options = {"window_strides": (1,) * (len(w) - 2), **options}
  conv = functools.partial(
      jax.lax.conv_general_dilated,
      padding=padding,
      dimension_numbers=spec or _SPECS[len(w)],
      **options,
  )
  structs = (jax.ShapeDtypeStruct(s, "float64") for s in (x, w))
  jaxpr = jax.make_jaxpr(conv)(*structs).jaxpr
  return patches.layout(jaxpr.eqns[0]), conv


def _force(monkeypatch, name):
  """Makes the Gram matrix of `name` the one that costs less."""
  costs = {"pixels": 1.0, "patches": 1.0, name: 0.0}
  for way, cost in costs.items():
    monkeypatch.setattr(
        patches.Layout,
        f"_gram_of_{way}_flops",
        property(lambda _, cost=cost: cost),
    )


@pytest.fixture(autouse=True)
def _x64():
  with jax.enable_x64(True):
    yield


@pytest.mark.few(4)
@pytest.mark.parametrize("name", list(_CASES))
def test_gram_both_ways(monkeypatch, name):
  x_shape, w_shape, options = _CASES[name]
  layout, conv = _layout(x_shape, w_shape, **options)
  x, w = _RNG.normal(size=x_shape), _RNG.normal(size=w_shape)
  rows = np.asarray(jax.jit(layout.patches)(x))
  wanted = np.einsum("std,sud->stu", rows, rows)
  made, make = [], patches.Layout.patches
  spy = lambda self, x: made.append(x) or make(self, x)
  monkeypatch.setattr(patches.Layout, "patches", spy)
  for way in ("pixels", "patches"):
    _force(monkeypatch, way)
    made.clear()
    got = jax.jit(lambda x: layout.gram(x))(x)
    assert bool(made) == (way == "patches")
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
  sums = jax.jit(layout.patch_sums)(x)
  np.testing.assert_allclose(sums, rows.sum(-1), rtol=1e-12, atol=1e-12)

  # Patches times the kernel are the convolution. `kernel` is a permutation of
  # [S, D, P], so what it does to the entries' numbers undoes it.
  shape = (layout.num_groups, layout.num_inputs, layout.num_outputs)
  order = np.asarray(layout.kernel(jnp.arange(w.size).reshape(shape)))
  matrix = np.empty(w.size)
  matrix[order.ravel()] = w.ravel()
  outputs = np.einsum("std,sdp->stp", rows, matrix.reshape(shape))
  wanted = layout.outputs(jax.jit(conv)(x, w))
  np.testing.assert_allclose(outputs, wanted, rtol=1e-12, atol=1e-12)


def test_the_cheaper_way_is_taken():
  # Few pixels of many channels: of pixels. Strides that leave few patches of
  # many pixels: of patches.
  wide, _ = _layout((1, 4, 4, 256), (3, 3, 256, 8))
  assert wide.gram_flops == wide._gram_of_pixels_flops
  assert wide._gram_of_pixels_flops < wide._gram_of_patches_flops
  strided, _ = _layout((1, 32, 32, 3), (2, 2, 3, 8), window_strides=(16, 16))
  assert strided.gram_flops == strided._gram_of_patches_flops
  assert strided._gram_of_patches_flops < strided._gram_of_pixels_flops


def test_groups_of_the_batch_have_no_layout():
  layout, _ = _layout((2, 4, 4, 3), (2, 2, 3, 4), batch_group_count=2)
  assert layout is None


def test_a_slice_that_is_moved_is_seen(monkeypatch):
  taps = patches.Layout._taps

  def moved(self):
    first, *rest = taps(self)
    return iter([first, *[(first[0], *tap[1:]) for tap in rest]])

  monkeypatch.setattr(patches.Layout, "_taps", moved)
  with pytest.raises(AssertionError):
    test_gram_both_ways(monkeypatch, "plain")
