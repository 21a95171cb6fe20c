"""Checks of what XLA makes of a sharded program; see `mesh_checks.py`."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import jax_privacy
from jax_privacy import clipping, partitioner, sharding
from tests.support import meshes


def _largest_buffer(program):
  """Most elements of an array in one device's program."""
  shapes = re.findall(r"\b[a-z]+[0-9]+\[([0-9,]*)\]", program.as_text())
  return max(np.prod([int(n) for n in s.split(",") if n]) for s in shapes)


def _compile_dense(method, mesh, mesh_of_option):
  def dense(w, x):  # Six positions: gradients are made one after the other.
    return jnp.sum(jnp.sin(x @ w))

  grad_fn = jax_privacy.clipped_grad(
      dense, l2_clip_norm=1.0, keep_batch_dim=False, method=method,
      mesh=mesh_of_option,
  )  # fmt: skip
  w = sharding.put(mesh, jnp.zeros((40, 72)))
  x = sharding.put_batch(mesh, jnp.zeros((meshes.BATCH_SIZE, 6, 40)))
  return jax.jit(grad_fn.fun).lower(w, x).compile()


def check_no_device_holds_all_gradients():
  # Of gradients of 40 x 72, nothing else being as large: a device makes those
  # of its own examples, BATCH_SIZE / 8, and no array is larger.
  size = 40 * 72
  plain = clipping.ghost.GhostSum
  clipping.ghost.GhostSum = functools.partial(
      plain, choose=lambda *args, **kwargs: "keep"
  )
  try:
    for method in ("vmap", "ghost"):
      one = _compile_dense(method, meshes.mesh_of(1, 1), None)
      assert _largest_buffer(one) == meshes.BATCH_SIZE * size
      for data, fsdp in ((8, 1), (2, 4)):
        mesh = meshes.mesh_of(data, fsdp)
        program = _compile_dense(method, mesh, mesh)
        assert _largest_buffer(program) == meshes.BATCH_SIZE // 8 * size
        # What XLA says it takes for temporaries, of which these are the most.
        bytes_ = program.memory_analysis().temp_size_in_bytes
        assert bytes_ < one.memory_analysis().temp_size_in_bytes / 2
    # The check can fail: without being told of the mesh, the loop over examples
    # runs over all of them on every device.
    left_to_xla = _compile_dense("ghost", meshes.mesh_of(8, 1), None)
    assert _largest_buffer(left_to_xla) == meshes.BATCH_SIZE * size
  finally:
    clipping.ghost.GhostSum = plain


def check_fsdp_stores_a_part():
  mesh = meshes.mesh_of(2, 4)
  state = sharding.put(mesh, optax.adam(1.0).init(meshes.params()))
  for k, n in (("kernel", 3 * 3 * 2 * 8 // 4), ("dense", 200 * 3 // 4)):
    for tree in (state[0].mu, state[0].nu):
      assert {x.data.size for x in tree[k].addressable_shards} == {n}
  assert state[0].count.sharding.spec == PartitionSpec()


# XLA's partitioner.


def check_wrong_split_is_refused():
  x, padding = meshes.batch()
  mesh = meshes.mesh_of(4, 1)
  rows = NamedSharding(mesh, PartitionSpec("data"))
  everywhere = NamedSharding(mesh, PartitionSpec())
  p = jax.device_put(meshes.params(), everywhere)
  x = jax.device_put(x, rows)
  options = dict(
      has_aux=True,
      l2_clip_norm=meshes.CLIP_NORM,
      keep_batch_dim=False,
      prng_argnum=2,
  )
  text = "compiled for one device, since XLA splits it wrongly"
  for method, is_refused in (("vmap", True), ("ghost", False)):
    grad_fn = jax_privacy.clipped_grad(meshes.loss, method=method, **options)
    args = (p, x, jax.random.key(1))
    if is_refused:
      meshes.raises(text, meshes.compiled(grad_fn.fun), *args)
      meshes.raises(text, grad_fn, *args)  # Not compiled as a whole.
      on_one = jax.device_put(args[:2], jax.devices()[0])
      meshes.compiled(grad_fn.fun)(*on_one, args[2])
    else:
      total, _ = meshes.compiled(grad_fn.fun)(*args, is_padding_example=padding)
      meshes.assert_near(total, meshes.on_one_device(method)[0])
  # What has no such convolution is left to XLA.
  dense = jax_privacy.clipped_grad(
      lambda w, x: jnp.sum(jnp.sin(x.ravel() @ w)),
      l2_clip_norm=1.0, method="vmap",
  )  # fmt: skip
  w = meshes.normal(0, 50, 3)
  clean = jnp.nan_to_num(x)
  meshes.assert_near(
      jax.jit(dense.fun)(jax.device_put(w, everywhere), clean),
      dense(w, np.asarray(clean)),
  )


def _convolutions():
  """(name, dimension numbers, kernel's shape, example's shape, options)."""
  nhwc, nchw = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
  kernel, image = (3, 3, 4, 6), (1, 5, 7, 4)
  yield "plain", nhwc, kernel, image, {}
  yield "strided", nhwc, kernel, image, {"window_strides": (2, 2)}
  yield "dilated", nhwc, kernel, image, {"rhs_dilation": (2, 2)}
  yield "pointwise", nhwc, (1, 1, 4, 6), image, {}
  yield "one channel", nhwc, (3, 3, 1, 1), (1, 5, 7, 1), {}
  yield "channels first", nchw, (6, 4, 3, 3), (1, 4, 5, 7), {}
  yield "mixed", ("NCHW", "HWIO", "NCHW"), kernel, (1, 4, 5, 7), {}
  yield "to channels first", ("NHWC", "HWIO", "NCHW"), kernel, image, {}
  yield "one axis", ("NHC", "HIO", "NHC"), (3, 4, 6), (1, 7, 4), {}
  yield "two views", nhwc, kernel, (2, 5, 7, 4), {}
  yield "groups", nhwc, (3, 3, 2, 6), image, {"feature_group_count": 2}
  yield "depthwise", nhwc, (3, 3, 1, 8), image, {"feature_group_count": 4}


def check_refused_exactly_where_wrong():
  # XLA 0.10.2's fault is described by `partitioner`; where this test fails, the
  # description no longer fits: look again at what is wrong.
  mesh = meshes.mesh_of(4, 1)
  wrong, refused = [], []
  for name, axes, kernel, image, options in _convolutions():
    options = {"window_strides": (1,) * (len(image) - 2), **options}

    def conv_loss(w, x, axes=axes, options=options):
      y = jax.lax.conv_general_dilated(
          x, w, padding="SAME", dimension_numbers=axes, **options
      )
      return jnp.sum(jnp.sin(y))

    grads_fn = jax.vmap(jax.grad(conv_loss), in_axes=(None, 0))
    w, x = meshes.normal(0, *kernel), meshes.normal(1, 8, *image)
    rows = sharding.put_batch(mesh, x)
    got = meshes.compiled(grads_fn)(w, rows)
    if not np.allclose(got, meshes.compiled(grads_fn)(w, x), atol=1e-3):
      wrong.append(name)
    try:
      meshes.compiled(partitioner.checked(grads_fn))(w, rows)
    except ValueError:
      refused.append(name)
  assert wrong == refused, (wrong, refused)
  assert "plain" in wrong and "depthwise" not in wrong


def check_refused_within_loops_and_branches():
  mesh = meshes.mesh_of(2, 1)
  w = sharding.put(mesh, meshes.normal(0, 3, 3, 2, 4))
  x = sharding.put_batch(mesh, meshes.normal(1, 8, 5, 5, 2))

  def in_scan(w, x):
    y, _ = jax.lax.scan(
        lambda y, _: (jnp.sin(meshes.CONV(x[None], w)) + y, None),
        jnp.zeros((1, 5, 5, 4)),
        None,
        length=2,
    )
    return jnp.sum(y**2)

  def in_cond(w, x):
    branch = lambda: jnp.sum(jnp.sin(meshes.CONV(x[None], w)))
    return jax.lax.cond(x[0, 0, 0] > 0, branch, lambda: 0.0)

  for fun in (in_scan, in_cond, jax.checkpoint(in_cond)):
    grad_fn = jax_privacy.clipped_grad(
        fun, l2_clip_norm=1.0, keep_batch_dim=False, method="vmap"
    )
    meshes.raises("XLA splits it wrongly", meshes.compiled(grad_fn.fun), w, x)
    # A part of the whole on each device, by the user's own shard_map.
    by_hand = jax.shard_map(
        lambda w, x, f=grad_fn: jax.lax.psum(f(w, x), ("data", "fsdp")),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(("data", "fsdp"))),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    # Along one of two axes by hand, and the other left to XLA.
    square = meshes.mesh_of(2, 2)
    in_part = jax.shard_map(
        lambda w, x, f=grad_fn: jax.lax.psum(f(w, x), "data"),
        mesh=square,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
        axis_names={"data"},
        check_vma=False,
    )
    rows = np.asarray(x)
    text = "wrongly (see jax_privacy/partitioner.py), got 2"
    meshes.raises(text, meshes.compiled(in_part), np.asarray(w), rows)
    one = jax.device_put((w, x), jax.devices()[0])
    meshes.assert_near(
        meshes.compiled(by_hand)(w, x), meshes.compiled(grad_fn.fun)(*one)
    )
