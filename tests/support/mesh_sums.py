"""Checks of clipped sums on a mesh; see `mesh_checks.py`."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jax_privacy
from jax_privacy import dp_sgd, models, sharding
from tests.support import meshes


def _check_sums(method, sizes, **options):
  want, want_aux = meshes.on_one_device(method)
  norms = meshes.real(want_aux.grad_norms)
  assert norms.min() < meshes.CLIP_NORM < norms.max()
  for data, fsdp in sizes:
    mesh = meshes.mesh_of(data, fsdp)
    total, aux = meshes.run_loss(method, mesh, **options)
    meshes.assert_near(total, want)
    meshes.assert_near(meshes.real(aux), meshes.real(want_aux))
    if fsdp > 1:  # Of (3, 3, 2, 8), (8,) and (200, 3).
      split = {k: tuple(x.sharding.spec) for k, x in total.items()}
      assert split["kernel"] == (None, None, None, "fsdp")
      assert split["bias"] == split["dense"] == ("fsdp",)


def check_sums():
  # Each method once with data and once with parameters split as well; the slow
  # check takes every mesh.
  _check_sums("ghost", [(8, 1), (2, 4)])
  _check_sums("vmap", [(2, 4)])


def check_sums_everywhere():
  _check_sums("ghost", meshes.MESHES)
  _check_sums("vmap", meshes.MESHES)


def check_microbatches():
  # Two microbatches of 8: each device takes 2 rows of its own 4 at a time.
  _check_sums("ghost", [(4, 1)], microbatch_size=8)


def check_microbatches_everywhere():
  for method in ("ghost", "vmap"):
    _check_sums(method, [(1, 1), (2, 1), (8, 1), (2, 4)], microbatch_size=8)


def check_not_compiled():
  _check_sums("ghost", [(4, 1)], jit=False)


def check_grid_has_the_same_bits():
  # Whole numbers add up to the same in any order, as long as each example goes
  # through the same instructions: alone.
  def run(mesh):
    options = dict(grid_scale=2**16, microbatch_size=mesh.size)
    return meshes.run_loss("vmap", mesh, **options)[0]

  want = run(meshes.mesh_of(1, 1))
  assert {x.dtype for x in want.values()} == {jnp.dtype("int32")}
  for data, fsdp in ((8, 1), (2, 4)):
    meshes.assert_same_bits(run(meshes.mesh_of(data, fsdp)), want)


def check_padding_and_empty_batches():
  mesh = meshes.mesh_of(2, 4)
  grad_fn = jax_privacy.clipped_grad(
      lambda w, x: jnp.sum(jnp.sin(x @ w)), l2_clip_norm=1.0, mesh=mesh
  )
  w = sharding.put(mesh, meshes.normal(0, 16, 3))
  x, padding = sharding.put_batch(
      mesh, (meshes.normal(1, 8, 16), np.ones(8, dtype=bool))
  )
  grad_fn = meshes.compiled(grad_fn)
  assert not np.any(grad_fn(w, x, is_padding_example=padding))
  assert np.any(grad_fn(w, x))
  none = grad_fn(w, jnp.zeros((0, 16)))
  assert none.shape == w.shape and not np.any(none)


def check_one_example_a_device_and_several_clip_norms():
  x, _ = meshes.batch()
  options = dict(
      l2_clip_norm={"kernel": 0.5, "bias": 0.1, "dense": 2.0},
      rescale_to_unit_norm=True,
      normalize_by=7.0,
      has_aux=True,
      prng_argnum=2,
      keep_batch_dim=False,
  )
  want = meshes.compiled(jax_privacy.clipped_grad(meshes.loss, **options).fun)(
      meshes.params(), x[:8], jax.random.key(0)
  )
  mesh = meshes.mesh_of(8, 1)
  grad_fn = jax_privacy.clipped_grad(meshes.loss, mesh=mesh, **options)
  got = grad_fn(
      sharding.put(mesh, meshes.params()),
      sharding.put_batch(mesh, x[:8]),
      jax.random.key(0),
  )
  meshes.assert_near(got[0], want[0])
  assert (
      grad_fn.sensitivity()
      == jax_privacy.clipped_grad(meshes.loss, **options).sensitivity()
  )


# Larger models.


def _check_model(apply_fn, p, x, labels, sizes=((8, 1), (2, 4))):
  def model_loss(p, x, label):
    return optax.softmax_cross_entropy_with_integer_labels(
        apply_fn(p, x), label
    ).mean()

  for method in ("ghost", "vmap"):
    options = dict(
        l2_clip_norm=1.0, batch_argnums=(1, 2), return_grad_norms=True,
        method=method,
    )  # fmt: skip
    grad_fn = jax_privacy.clipped_grad(model_loss, **options)
    want = meshes.compiled(grad_fn.fun)(p, x, labels)
    for data, fsdp in sizes:
      mesh = meshes.mesh_of(data, fsdp)
      grad_fn = jax_privacy.clipped_grad(model_loss, mesh=mesh, **options)
      got = meshes.compiled(grad_fn.fun)(
          sharding.put(mesh, p), *sharding.put_batch(mesh, (x, labels))
      )
      meshes.assert_near(got[0], want[0])
      meshes.assert_near(got[1], want[1])


def check_wide_resnet():
  model = models.build(
      "wide_resnet", rngs=nnx.Rngs(0), depth=10, width=1, image_shape=(8, 8, 3)
  )
  apply_fn, p = models.functional(model)
  x = meshes.normal(1, meshes.BATCH_SIZE, 8, 8, 3)
  _check_model(apply_fn, p, x, jnp.arange(meshes.BATCH_SIZE) % 10)


def check_transformer():
  width, vocabulary, length = 16, 24, 6
  p = {
      "embed": meshes.normal(
          0, vocabulary, width
      ),  # Tied: looked up, and the head.
      "position": meshes.normal(1, length, width),
      "qkv": meshes.normal(2, width, 3 * width) / 4,
      "out": meshes.normal(3, width, width) / 4,
      "scale": jnp.ones(width),
      "up": meshes.normal(4, width, 2 * width) / 4,
      "down": meshes.normal(5, 2 * width, width) / 4,
  }

  def apply_fn(p, tokens):
    x = p["embed"][tokens] + p["position"][None]
    y = jax.nn.standardize(x) * p["scale"][None, None]
    q, k, v = jnp.split(y @ p["qkv"], 3, axis=-1)
    y = jax.nn.dot_product_attention(*(z[:, :, None] for z in (q, k, v)))
    x = x + y[:, :, 0] @ p["out"]
    x = x + jax.nn.gelu(x @ p["up"]) @ p["down"]
    return (x @ p["embed"].T)[:, -1]

  rng = np.random.default_rng(6)
  tokens = jnp.asarray(rng.integers(0, vocabulary, (meshes.BATCH_SIZE, length)))
  _check_model(apply_fn, p, tokens, jnp.arange(meshes.BATCH_SIZE) % vocabulary)


# A loop, as a user would write it.


def check_optax_loop():
  mechanism = types.SimpleNamespace(
      noise_multiplier=0.5, num_steps=3, sampling="poisson",
      sampling_prob=0.25, num_examples=50, max_batch_size=None,
  )  # fmt: skip
  x, y = np.asarray(meshes.normal(0, 50, 4)), np.asarray(meshes.normal(1, 50))

  def loss_fn(w, batch):
    return jnp.mean((jnp.tanh(batch["x"] @ w["a"]) @ w["b"] - batch["y"]) ** 2)

  def train(mesh, **options):
    private = dp_sgd.make_private(
        loss_fn, optax.sgd(0.1, 0.9), mechanism, l2_clip_norm=1.0, key=5,
        mesh=mesh, **options,
    )  # fmt: skip
    w = {"a": meshes.normal(2, 4, 16), "b": meshes.normal(3, 16)}
    w = sharding.put(mesh, w)
    state = sharding.put(mesh, private.optimizer.init(w))
    split = sharding.shardings(mesh, (w, state))
    drawn = []

    @functools.partial(
        meshes.compiled, out_shardings=split, donate_argnums=(0, 1)
    )
    def step(w, state, batch, is_padding):
      grads = private.grad_fn(w, batch, is_padding_example=is_padding)
      updates, state = private.optimizer.update(grads, state, w)
      return optax.apply_updates(w, updates), state

    for drawn_batch in private.sampler:
      indices = drawn_batch.indices
      assert len(indices) % mesh.size == 0
      drawn.append(set(indices[indices >= 0]))
      own = indices[sharding.local_rows(mesh, len(indices))]
      batch = {"x": x[own], "y": y[own]}
      batch, is_padding = sharding.put_batch(mesh, (batch, own < 0))
      w, state = step(w, state, batch, is_padding)
    for leaf, like in zip(
        jax.tree.leaves((w, state)), jax.tree.leaves(split), strict=True
    ):
      assert leaf.sharding.is_equivalent_to(like, leaf.ndim)
    return w, drawn

  want, want_drawn = train(meshes.mesh_of(1, 1))
  for data, fsdp in ((8, 1), (2, 4)):
    got, drawn = train(meshes.mesh_of(data, fsdp))
    assert drawn == want_drawn
    meshes.assert_near(got, want, 1e-4)
  meshes.assert_near(
      train(meshes.mesh_of(4, 1), microbatch_size=8)[0], want, 1e-4
  )


def check_errors():
  mesh = meshes.mesh_of(4, 1)
  loss_fn = lambda w, x: jnp.sum(x * w)
  grad_fn = jax_privacy.clipped_grad(loss_fn, l2_clip_norm=1.0, mesh=mesh)
  text = "Batch size must be a multiple of the mesh's 4 devices, got 6"
  meshes.raises(text, grad_fn, 1.0, jnp.ones((6, 2)))
  meshes.raises(text, jax.jit(grad_fn.fun), 1.0, jnp.ones((6, 2)))
  meshes.raises(text, sharding.local_rows, mesh, 6)
  meshes.raises(text, sharding.put_batch, mesh, np.ones((6, 2)))
  for text, options in {
      "microbatch_size must be a multiple of the mesh's 4 devices, got 6": {
          "microbatch_size": 6
      },
      "spmd_axis_name must be None with a mesh": {"spmd_axis_name": "data"},
      "mesh must be a jax.sharding.Mesh, got 4": {"mesh": 4},
  }.items():
    options = {"mesh": mesh, "l2_clip_norm": 1.0, **options}
    meshes.raises(text, jax_privacy.clipped_grad, loss_fn, **options)
  text = "data x fsdp must be at most the number of devices, 8, got 4 x 3"
  meshes.raises(text, sharding.make_mesh, data=4, fsdp=3)
  meshes.raises(
      "fsdp must be an integer of at least 1", sharding.make_mesh, fsdp=0
  )
