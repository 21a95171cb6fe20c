"""Has NumPy do what only moves numbers about, where nothing is traced.

Outside of `jax.jit` JAX compiles a program for each operation and each shape:
some 15 ms for zeros of a new shape, or to take over an array of NumPy, in each
process. Half of what the tests compile so was this: no arithmetic, and nothing
of this project. NumPy gives the same bits, without a compiler. What comes often
is compiled as before, and so is all that is sharded, committed to a device or
large, and a float's conversion. With `FULL_XLA=1` nothing is changed, nor for a
version of JAX that has these private names elsewhere.
"""

import collections
import functools
import math
import os

import jax
import numpy as np

_OFTEN = 20  # Then the compiled program is faster.
_LARGE = 2**18


def share() -> None:
  if os.environ.get("FULL_XLA"):
    return
  try:
    from jax._src import array, core
    from jax._src.interpreters import pxla
    from jax._src.lax import lax, slicing
  except ImportError:
    return
  make = functools.partial(_make, array.ArrayImpl, core, pxla)
  for module, names in ((lax, _LAX), (slicing, _SLICING)):
    for name, move in names.items():
      primitive = getattr(module, f"{name}_p", None)
      if primitive is not None:
        primitive.def_impl(make(primitive, primitive.impl, move))


def _make(array_type, core, pxla, primitive, compiled, move):
  counts = collections.Counter()

  def is_plain(x):
    if isinstance(x, array_type):
      return not x._committed and isinstance(
          x.sharding, jax.sharding.SingleDeviceSharding
      )
    if isinstance(x, np.ndarray | np.generic):
      return x.dtype.kind in "biuf"
    return type(x) in (bool, int, float)

  def read(x, aval):
    if isinstance(x, array_type):
      # By another of its kind, which ends: x keeps no reference to what was
      # read, and can be donated.
      x = array_type(x.aval, x.sharding, [x], False, _skip_checks=True)
    return np.asarray(x).astype(aval.dtype, copy=False)

  def moved(args, params):
    """What the operation gives, or None for what should be compiled."""
    if not all(map(is_plain, args)) or params.get("sharding") is not None:
      return None
    avals = tuple(map(core.typeof, args))
    key = (avals, tuple(params.items()))
    counts[key] += 1
    if counts[key] > _OFTEN:
      return None
    size = math.prod(params.get("shape", ()))
    if size + sum(aval.size for aval in avals) > _LARGE:
      return None
    results = move(*map(read, args, avals), **params)
    if results is None:
      return None
    sources = avals[:1] if "slice_sizes" in params else avals
    is_weak = bool(avals) and all(aval.weak_type for aval in sources)
    is_weak = params.get("weak_type", is_weak)
    results = results if primitive.multiple_results else [results]
    return [on_device(result, is_weak, args) for result in results]

  def on_device(result, is_weak, args):
    # A copy: no two arrays share memory, as a program's do not.
    result = np.array(result, copy=True, order="C")
    aval = core.ShapedArray(result.shape, result.dtype, weak_type=is_weak)
    arrays = [x for x in args if isinstance(x, array_type)]
    sharding = (
        arrays[0].sharding
        if arrays
        else jax.sharding.SingleDeviceSharding(_default_device())
    )
    (device,) = sharding.device_set
    return pxla.batched_device_put(aval, sharding, [result], [device], False)

  def impl(*args, **params):
    try:
      results = moved(args, params)
    except Exception:  # What is wrong with it, the program says.
      results = None
    if results is None:
      return compiled(*args, **params)
    return results if primitive.multiple_results else results[0]

  return impl


def _default_device():
  return jax.config.jax_default_device or jax.local_devices()[0]


def _broadcast_in_dim(x, *, shape, broadcast_dimensions, **_):
  lined_up = np.ones(len(shape), int)
  lined_up[list(broadcast_dimensions)] = x.shape
  return np.broadcast_to(x.reshape(lined_up), shape)


def _convert_element_type(x, *, new_dtype, **_):
  # Floats may round, and tiny ones may be flushed to zero.
  new = np.dtype(new_dtype)
  is_exact = x.dtype.kind in "biu" and new.kind in "biuf"
  is_exact &= new.kind != "f" or new.itemsize >= 4
  return x.astype(new) if is_exact or x.dtype == new else None


def _dynamic_slice(x, *starts, slice_sizes):
  starts = [
      min(max(int(start), 0), length - size)
      for start, length, size in zip(starts, x.shape, slice_sizes, strict=True)
  ]
  ends = [s + size for s, size in zip(starts, slice_sizes, strict=True)]
  return x[tuple(map(slice, starts, ends))]


def _iota(*, dtype, shape, dimension, **_):
  line = np.arange(shape[dimension]).astype(dtype)
  return np.broadcast_to(
      line.reshape([-1 if i == dimension else 1 for i in range(len(shape))]),
      shape,
  )


def _reshape(x, *, new_sizes, dimensions, **_):
  return None if dimensions is not None else x.reshape(new_sizes)


def _slice(x, *, start_indices, limit_indices, strides):
  strides = strides or [1] * x.ndim
  return x[tuple(map(slice, start_indices, limit_indices, strides))]


_LAX = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda *xs, dimension: np.concatenate(xs, dimension),
    "convert_element_type": _convert_element_type,
    "iota": _iota,
    "reshape": _reshape,
    "squeeze": lambda x, *, dimensions: np.squeeze(x, dimensions),
    "stage": lambda x: x,
    "transpose": lambda x, *, permutation: np.transpose(x, permutation),
    "unstack": lambda x, *, axis: [*np.moveaxis(x, axis, 0)],
}
_SLICING = {"dynamic_slice": _dynamic_slice, "slice": _slice}
