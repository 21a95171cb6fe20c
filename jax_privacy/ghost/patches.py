"""A convolution as a matrix product: its patches, and their Gram matrix.

Patches are built with pads and slices, never with a convolution: XLA runs a
convolution inside a loop on a CPU some 20 times slower than outside.

The invariant: for one example, the convolution's output at position t is
patches[t] times the kernel as a [D, P] matrix, in each of S groups.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import patches
  >>> conv = lambda x, w: jax.lax.conv_general_dilated(
  ...     x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
  >>> x = jnp.ones((1, 5, 5, 2))
  >>> jaxpr = jax.make_jaxpr(conv)(x, jnp.ones((3, 3, 2, 4))).jaxpr
  >>> patches.layout(jaxpr.eqns[0]).patches(x).shape
  (1, 25, 18)
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import jaxprs, magnitude

# Numbers that are summed in one go: more cost less and round more.
GRAM_BLOCK = 512
_PARAMS = ("batch_group_count", "dimension_numbers", "feature_group_count")
_PARAMS += ("lhs_dilation", "padding", "rhs_dilation", "window_strides")


@dataclasses.dataclass(frozen=True)
class Layout:
  """One convolution's sizes; arrays are of one example.

  Attributes:
    params: The equation's parameters.
    image: Shape of the input: [N, *space, C], whatever the equation's order.
    kernel_size: Pixels of the kernel along each axis of space.
    out_size: Pixels of the output along each axis of space.
    num_groups: S, `feature_group_count`.
    num_outputs: P, output channels of one group.
  """

  params: Any
  image: tuple[int, ...]
  kernel_size: tuple[int, ...]
  out_size: tuple[int, ...]
  num_groups: int
  num_outputs: int

  @property
  def num_positions(self) -> int:
    """T: images x pixels of the output."""
    return self.image[0] * math.prod(self.out_size)

  @property
  def num_inputs(self) -> int:
    """D: pixels of the kernel x input channels of a group."""
    return math.prod(self.kernel_size) * self.image[-1] // self.num_groups

  @property
  def channel_axis(self) -> int | None:
    """The output's axis of channels, if they are the kernel's last axis."""
    numbers = self.params["dimension_numbers"]
    is_last = numbers.rhs_spec[0] == len(numbers.rhs_spec) - 1
    return numbers.out_spec[1] if is_last else None

  @property
  def gram_flops(self) -> float:
    """What `gram` costs, in multiplications and additions."""
    return min(self._gram_of_pixels_flops, self._gram_of_patches_flops)

  @property
  def _gram_of_patches_flops(self):
    numbers = self.num_groups * self.num_positions * self.num_inputs
    # Laying out a number of a patch takes as long as some 150 flops.
    is_copied = math.prod(self.kernel_size) > 1
    return 2.0 * numbers * self.num_positions + 150 * is_copied * numbers

  @property
  def _gram_of_pixels_flops(self):
    pixels = self.image[0] * math.prod(self._padded_size)
    # A number of a shifted slice takes as long as some 200 flops.
    slices = 200 * self.num_groups * math.prod(self.kernel_size)
    return 2.0 * pixels**2 * self.image[-1] + slices * self.num_positions**2

  @property
  def _padded_size(self):
    pads, dilation = self.params["padding"], self.params["lhs_dilation"]
    sizes = zip(self.image[1:-1], pads, dilation, strict=True)
    return tuple((n - 1) * d + 1 + lo + hi for n, (lo, hi), d in sizes)

  def patches(self, x: jax.Array) -> jax.Array:
    """Returns the patches of an input, [S, T, D].

    Args:
      x: Input of one example.
    """
    x = self._padded(self._pixels(x))
    taps = [x[(slice(None), *where)] for where in self._taps()]
    stacked = jnp.stack(taps, axis=-2)
    per_group = self.image[-1] // self.num_groups
    shape = (self.num_positions, len(taps), self.num_groups, per_group)
    by_group = jnp.moveaxis(stacked.reshape(shape), 2, 0)
    return by_group.reshape(
        self.num_groups, self.num_positions, self.num_inputs
    )

  def patch_sums(self, x: jax.Array) -> jax.Array:
    """Returns the sum of each patch, [S, T].

    Args:
      x: Input of one example.
    """
    x = self._pixels(x)
    if (
        self.num_positions == 1
    ):  # `reduce_window` adds one number after the other.
      dilation = self.params["rhs_dilation"]
      pairs = zip(self.kernel_size, dilation, strict=True)
      window = (slice(0, (n - 1) * d + 1, d) for n, d in pairs)
      x = self._padded(x)[(0, *window)]
      x = x.reshape(-1, self.num_groups, x.shape[-1] // self.num_groups)
      return jnp.sum(
          jnp.moveaxis(x, 1, 0).reshape(self.num_groups, -1),
          axis=1,
          keepdims=True,
      )
    x = jnp.sum(x.reshape(*x.shape[:-1], self.num_groups, -1), axis=-1)
    sums = jax.lax.reduce_window(
        self._padded(x),
        jnp.zeros((), x.dtype),
        jax.lax.add,
        window_dimensions=(1, *self.kernel_size, 1),
        window_strides=(1, *self.params["window_strides"], 1),
        window_dilation=(1, *self.params["rhs_dilation"], 1),
        padding="VALID",
    )
    return sums.reshape(self.num_positions, self.num_groups).T

  def gram(self, x: jax.Array) -> jax.Array:
    """Returns the inner products of patches, [S, T, T].

    Args:
      x: Input of one example.
    """
    if self._gram_of_patches_flops <= self._gram_of_pixels_flops:
      return gram(self.patches(x))
    x = self._padded(self._pixels(x))
    size = x.shape[:-1]
    pixels = x.reshape(math.prod(size), self.num_groups, -1)
    of_pixels = gram(jnp.moveaxis(pixels, 1, 0))
    of_pixels = of_pixels.reshape(self.num_groups, *size, *size)
    taps = [
        of_pixels[(slice(None), slice(None), *where, slice(None), *where)]
        for where in self._taps()
    ]
    total = _pairwise_sum(taps)
    return total.reshape(
        self.num_groups, self.num_positions, self.num_positions
    )

  def outputs(self, z: jax.Array) -> jax.Array:
    """Returns an output, or its cotangent, as [S, T, P].

    Args:
      z: Output of one example.
    """
    batch, feature, *space = self.params["dimension_numbers"].out_spec
    z = jnp.transpose(z, (batch, *space, feature))
    z = z.reshape(self.num_positions, self.num_groups, self.num_outputs)
    return jnp.moveaxis(z, 1, 0)

  def kernel(self, matrix: jax.Array) -> jax.Array:
    """Returns an array in the kernel's own shape.

    Args:
      matrix: Numbers of a kernel, [S, D, P].
    """
    out, into, *space = self.params["dimension_numbers"].rhs_spec
    per_group = self.image[-1] // self.num_groups
    shape = (self.num_groups, *self.kernel_size, per_group, self.num_outputs)
    kernel = jnp.moveaxis(matrix.reshape(shape), 0, -2)
    kernel = kernel.reshape(*self.kernel_size, per_group, -1)
    order = (*space, into, out)  # Where each of its axes goes.
    return jnp.transpose(kernel, np.argsort(order))

  def _pixels(self, x):
    """Transposes an input to [N, *space, C]."""
    batch, feature, *space = self.params["dimension_numbers"].lhs_spec
    return jnp.transpose(x, (batch, *space, feature))

  def _padded(self, x):
    """Pads and spreads [N, *space, any]."""
    pads, dilation = self.params["padding"], self.params["lhs_dilation"]
    pairs = zip(pads, dilation, strict=True)
    inner = [(lo, hi, d - 1) for (lo, hi), d in pairs]
    none = (0, 0, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [none, *inner, none])

  def _taps(self):
    """Yields, per pixel of the kernel, what it sees of each axis of space."""
    params = self.params
    dilation, strides = params["rhs_dilation"], params["window_strides"]
    axes = list(zip(dilation, self.out_size, strides, strict=True))
    for tap in np.ndindex(*self.kernel_size):
      yield tuple(
          slice(i * d, i * d + (n - 1) * stride + 1, stride)
          for i, (d, n, stride) in zip(tap, axes, strict=True)
      )


def gram(rows: jax.Array) -> jax.Array:
  """Returns the inner products of rows, [S, T, T].

  Sums of D numbers are made in blocks; see `norms.py`.

  Args:
    rows: Rows of each group, [S, T, D].
  """
  contract = functools.partial(magnitude.contract, letter="d", block=GRAM_BLOCK)
  if len(rows) == 1:  # With an axis of 1, XLA copies the results on a CPU.
    return contract("td,ud->tu", rows[0], rows[0])[None]
  return contract("std,sud->stu", rows, rows)


def _pairwise_sum(terms):
  while len(terms) > 1:
    rest = terms[2 * (len(terms) // 2) :]
    pairs = zip(terms[::2], terms[1::2], strict=False)
    terms = [a + b for a, b in pairs] + rest
  return terms[0]


def layout(eqn: Any) -> Layout | None:
  """Returns a `conv_general_dilated`'s layout; None if it groups the batch.

  Args:
    eqn: Equation of a jaxpr.
  """
  params = jaxprs.params(eqn, *_PARAMS)
  if params["batch_group_count"] != 1:
    return None
  numbers = params["dimension_numbers"]
  x, kernel = (v.aval.shape for v in eqn.invars)
  out = eqn.outvars[0].aval.shape
  batch, feature, *space = numbers.lhs_spec
  num_groups = params["feature_group_count"]
  return Layout(
      params=params,
      image=(x[batch], *(x[i] for i in space), x[feature]),
      kernel_size=tuple(kernel[i] for i in numbers.rhs_spec[2:]),
      out_size=tuple(out[i] for i in numbers.out_spec[2:]),
      num_groups=num_groups,
      num_outputs=kernel[numbers.rhs_spec[0]] // num_groups,
  )
