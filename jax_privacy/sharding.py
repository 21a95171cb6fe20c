"""One program on many devices: the same numbers, the same noise.

A mesh has two axes. A batch is split over both. Parameters, and all that has
their shapes (optimiser state, averages, gradients), are copied along `data` and
split along `fsdp`. Each array is split along its largest axis that `fsdp`
divides, or not at all if there is none. `data=8` is data parallelism; `fsdp=8`
stores an eighth of the parameters on each device; `data=2, fsdp=4` mixes the
two.

`clipped_grad(mesh=...)` and `make_private(mesh=...)` run the one-device program
on each device, over that device's examples alone, and add up the sums. No
example's gradient leaves its device, and no device holds the gradients of other
devices' examples. Nothing is left to XLA's partitioner (see `partitioner.py`).
Clipping in two passes gathers the parameters of a loop or of a `jax.checkpoint`
when it comes to them. Otherwise a device holds all parameters, and its own sum,
for the time of one step: `fsdp` then saves what is stored between steps.

The invariant: a mesh changes only how float sums round, because it adds in
another order. Noise is drawn once per update for the whole array, as a function
of the key alone.

Example:
  >>> import jax.numpy as jnp
  >>> import jax_privacy
  >>> from jax_privacy import sharding
  >>> mesh = sharding.make_mesh(data=1)  # data=4 on four devices.
  >>> grad_fn = jax_privacy.clipped_grad(
  ...     lambda w, x: jnp.sum(x @ w), l2_clip_norm=1.0, mesh=mesh)
  >>> w = sharding.put(mesh, jnp.zeros(2))
  >>> rows = sharding.local_rows(mesh, 4)  # Those of 4 to load here.
  >>> x = sharding.put_batch(mesh, jnp.ones((4, 2))[rows])
  >>> print(grad_fn(w, x).round(3))
  [2.828 2.828]
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_privacy import _validate

DATA = "data"
FSDP = "fsdp"


class SplitSum(NamedTuple):
  """A sum over one device's examples, of parameters that stay split.

  Attributes:
    local_fn: Function as for `sum_over_devices`, but given parts of the
      parameters. It gives parts of their sum, over the axis `fsdp`.
    argnums: Position of the parameters, or several.
  """

  local_fn: Callable[..., tuple[Any, ...]]
  argnums: int | Sequence[int]


def make_mesh(
    *,
    data: int = 1,
    fsdp: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Returns a mesh of data x fsdp devices.

  Args:
    data: Number of copies of the parameters.
    fsdp: Number of devices over which each copy is split.
    devices: Devices, of which the first data x fsdp are taken; None for all
      devices of all processes.

  Raises:
    ValueError: If there are too few devices, or if a process would have none in
      the mesh, or fewer than another.
  """
  _validate.integer("data", data, at_least=1)
  _validate.integer("fsdp", fsdp, at_least=1)
  devices = jax.devices() if devices is None else list(devices)
  size = data * fsdp
  if size > len(devices):
    raise ValueError(
        f"data x fsdp must be at most the number of devices, {len(devices)},"
        f" got {data} x {fsdp}. To split a CPU into {size}, set"
        f" JAX_NUM_CPU_DEVICES={size} before JAX starts."
    )
  chosen = devices[:size]
  shares = [d.process_index for d in chosen]
  shares = [shares.count(i) for i in range(jax.process_count())]
  if len(set(shares)) > 1:
    raise ValueError(
        "data x fsdp must give each process as many devices, got"
        f" {data} x {fsdp}, which gives them {shares}."
    )
  return Mesh(np.array(chosen).reshape(data, fsdp), (DATA, FSDP))


def spec(mesh: Mesh, shape: Sequence[int]) -> PartitionSpec:
  """Returns how an array of this shape is split: see the file's beginning.

  Args:
    mesh: Mesh; one without an axis `fsdp` splits nothing.
    shape: Shape of a parameter.
  """
  axis = split_axis(mesh, shape)
  if axis is None:
    return PartitionSpec()
  return PartitionSpec(*[None] * axis, FSDP)


def split_axis(mesh: Mesh, shape: Sequence[int]) -> int | None:
  """Returns which axis is split: the largest that `fsdp` divides.

  Args:
    mesh: A mesh.
    shape: Shape of a parameter.

  Returns:
    The axis, the first of several; None if none is split.
  """
  num = mesh.shape.get(FSDP, 1)
  axes = [i for i, n in enumerate(shape) if num > 1 and n and n % num == 0]
  return max(axes, key=lambda i: shape[i], default=None)


def shardings(mesh: Mesh, tree: Any) -> Any:
  """Returns the sharding of each array of parameters, or of optimiser state.

  Args:
    mesh: A mesh.
    tree: Arrays or shapes. Of what is no floating-point array (keys, counts)
      and of scalars each device has a copy.
  """

  def one(leaf):
    is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
    shape = leaf.shape if is_float else ()
    return NamedSharding(mesh, spec(mesh, shape))

  return jax.tree.map(one, tree)


def put(mesh: Mesh, tree: Any) -> Any:
  """Places parameters, optimiser state or averages on the mesh.

  Args:
    mesh: A mesh.
    tree: Arrays, the same in every process.

  Returns:
    New arrays, with `shardings(mesh, tree)`.
  """
  tree = jax.tree.map(jnp.asarray, tree)
  return jax.tree.map(_put_array, tree, shardings(mesh, tree))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
  """Returns which rows of a batch belong to this process's devices.

  Args:
    mesh: Mesh of all processes.
    batch_size: Number of rows of the whole batch, a multiple of the mesh's
      size.

  Returns:
    Positions in the batch, ascending; all of them if there is one process. A
    process needs to load no others.

  Raises:
    ValueError: If the batch cannot be split evenly.
  """
  check_batch_size(mesh, batch_size)
  slices = _batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
  rows = [np.arange(batch_size)[index] for index in slices.values()]
  return np.unique(np.concatenate(rows))


def put_batch(mesh: Mesh, batch: Any) -> Any:
  """Places a batch on the mesh, its rows split over all devices.

  Args:
    mesh: A mesh.
    batch: A pytree of arrays: the rows `local_rows` of this process, in that
      order.

  Returns:
    Arrays of the whole batch's size.

  Raises:
    ValueError: If the batch cannot be split evenly.
  """
  sharding = _batch_sharding(mesh)

  def one(x):
    x = np.asarray(x)
    num_rows = len(x) * jax.process_count()
    check_batch_size(mesh, num_rows)
    shape = (num_rows, *x.shape[1:])
    return jax.make_array_from_process_local_data(sharding, x, shape)

  return jax.tree.map(one, batch)


def to_host(tree: Any) -> Any:
  """Returns whole NumPy arrays in every process; all processes must call.

  Args:
    tree: Pytree of arrays, which may be split over processes.
  """
  if jax.process_count() == 1:
    return jax.device_get(tree)

  def whole(x):
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
      return x
    assert isinstance(x.sharding, NamedSharding), x.sharding
    everywhere = NamedSharding(x.sharding.mesh, PartitionSpec())
    return jax.jit(lambda x: x, out_shardings=everywhere)(x)

  return jax.device_get(jax.tree.map(whole, tree))


def check_batch_size(mesh: Mesh, batch_size: int) -> None:
  """Refuses a batch that cannot be split evenly over the mesh.

  Args:
    mesh: Mesh over which it is split.
    batch_size: Number of rows of the batch.

  Raises:
    ValueError: If it cannot.
  """
  if batch_size % mesh.size:
    raise ValueError(
        f"Batch size must be a multiple of the mesh's {mesh.size} devices, got"
        f" {batch_size}: pad it and mark the rows with is_padding_example, as"
        " the sampler of make_private(mesh=...) does."
    )


def local_microbatch_size(
    microbatch_size: int | None, mesh: Mesh | None
) -> int | None:
  """Returns how many of a microbatch's examples are each device's.

  With a mesh, a microbatch takes the same number of rows from each device's own
  block. So no row moves to another device, and every device has a share of each
  microbatch's work.

  Args:
    microbatch_size: Number of examples of a microbatch, over all devices; None
      for none.
    mesh: Mesh over which batches are split; None for one device.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  if mesh is not None and not isinstance(mesh, Mesh):
    _validate.fail("mesh", "a jax.sharding.Mesh", mesh)
  if microbatch_size is None:
    return None
  _validate.integer("microbatch_size", microbatch_size, at_least=1)
  num_devices = 1 if mesh is None else mesh.size
  if microbatch_size % num_devices:
    rule = f"a multiple of the mesh's {num_devices} devices"
    _validate.fail("microbatch_size", rule, microbatch_size)
  return microbatch_size // num_devices


def sum_over_devices(
    local_fn: Callable[[Any, jax.Array], tuple[Any, ...]],
    *,
    mesh: Mesh,
    batch_argnums: Sequence[int | None],
    split_fn: Callable[[Sequence[Any]], SplitSum | None] = lambda args: None,
) -> Callable[[Sequence[Any], jax.Array], tuple[Any, ...]]:
  """Runs a sum over a batch on each device's part of it, and adds these up.

  Args:
    local_fn: `local_fn(args, is_padding_example)` returning `(total, *rest)`:
      total a sum over the batch, every leaf of rest with a leading batch axis.
    mesh: Mesh over all axes of which the batch is split.
    batch_argnums: Positions of the batch arguments; devices get the others
      whole.
    split_fn: Function from the arguments, traced, to the same sum of
      parameters that stay split, or None. Asked where `fsdp` splits anything.

  Returns:
    A compiled function of the same arguments and results. Each array of total
    is split as `spec` says. The batch size must be a multiple of the mesh's.
  """
  rows = PartitionSpec(mesh.axis_names)

  @jax.jit
  def sum_fn(args, is_padding_example):
    args = tuple(args)
    in_specs = [
        rows if i in batch_argnums else PartitionSpec()
        for i in range(len(args))
    ]
    split = split_fn(args) if mesh.shape.get(FSDP, 1) > 1 else None
    if split is None:
      total_specs = _total_specs(
          local_fn, mesh, in_specs, args, is_padding_example
      )
    else:
      total_specs = _split_params(mesh, in_specs, split.argnums, args)

    def on_one_device(args, is_padding_example):
      if split is None:
        total, *rest = local_fn(args, is_padding_example)
        return jax.tree.map(functools.partial(_add_up, mesh), total), rest
      total, *rest = split.local_fn(args, is_padding_example)
      add_up = functools.partial(_add_up_parts, mesh)
      return jax.tree.map(add_up, total, total_specs), rest

    # Without check_vma: with it, the gradient of an example with respect to
    # parameters that all devices share would be summed over devices, and so
    # over examples, before it is clipped.
    total, rest = jax.shard_map(
        on_one_device,
        mesh=mesh,
        in_specs=(tuple(in_specs), rows),
        out_specs=(total_specs, rows),
        check_vma=False,
    )(args, is_padding_example)
    return total, *rest

  return sum_fn


def _split_params(mesh, in_specs, argnums, args):
  """Sets how parameters are split, and returns the same for their sum."""
  many = (argnums,) if isinstance(argnums, int) else tuple(argnums)
  for i in many:
    in_specs[i] = jax.tree.map(lambda x: spec(mesh, x.shape), args[i])
  found = tuple(in_specs[i] for i in many)
  return found[0] if isinstance(argnums, int) else found


def _put_array(x, sharding):
  """Copies an array: a training step may donate the original, or the copy."""
  if not x.is_fully_addressable:  # On several processes' devices already.
    return jax.jit(jnp.copy, out_shardings=sharding)(x)
  if jax.process_count() == 1:
    return jax.device_put(x, sharding, may_alias=False)
  # device_put does not reach other processes' devices.
  if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
    data = _put_array(jax.random.key_data(x), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
  whole = np.asarray(x)
  return jax.make_array_from_callback(
      x.shape, sharding, lambda index: np.array(whole[index])
  )


def _total_specs(local_fn, mesh, in_specs, args, is_padding_example):
  """Returns how the sum is split, in its structure or a prefix of that."""
  if mesh.shape.get(FSDP, 1) == 1:
    return PartitionSpec()

  def local_shape(x):
    return jax.ShapeDtypeStruct(
        (x.shape[0] // mesh.size, *x.shape[1:]), x.dtype
    )

  local = [
      jax.tree.map(local_shape, arg) if in_spec else arg
      for arg, in_spec in zip(args, in_specs, strict=True)
  ]
  total, *_ = jax.eval_shape(local_fn, local, local_shape(is_padding_example))
  return jax.tree.map(lambda x: spec(mesh, x.shape), total)


def _add_up(mesh, x):
  """Sums over all devices; each keeps its part if `spec` splits the array."""
  axis = split_axis(mesh, x.shape)
  if axis is None:
    return jax.lax.psum(x, mesh.axis_names)
  x = jax.lax.psum_scatter(x, FSDP, scatter_dimension=axis, tiled=True)
  return jax.lax.psum(x, _copies(mesh))


def _add_up_parts(mesh, x, spec):
  """As `_add_up`, of what is summed over `fsdp` where it is split."""
  return jax.lax.psum(x, _copies(mesh) if FSDP in spec else mesh.axis_names)


def _copies(mesh):
  """The axes along which parameters are copied."""
  return tuple(name for name in mesh.axis_names if name != FSDP)


def _batch_sharding(mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec(mesh.axis_names))
