"""A traced clip norm gives what the number gives, and never more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy import clipping

_X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
_Y = np.random.default_rng(1).standard_normal((6, 2)).astype(np.float32)
_PARAMS = {"w": jnp.full((3, 2), 0.3), "b": jnp.zeros(2)}


def _loss(params, batch):
  error = jnp.tanh(batch["x"] @ params["w"] + params["b"][None]) - batch["y"]
  return 5 * jnp.mean(error**2)


def _with_aux(params, batch):
  return _loss(params, batch), {"seen": batch["x"].sum()}


_BATCH = {"x": _X, "y": _Y}
_MASK = np.array([False, False, True, False, False, False])


@pytest.mark.few(2)
@pytest.mark.parametrize("clip", [0.05, 0.7, 50.0])
@pytest.mark.parametrize(
    "options",
    [
        {"method": "ghost"},
        {"method": "vmap"},
        {"rescale_to_unit_norm": True, "normalize_by": 3.0},
        {"return_values": True, "return_grad_norms": True, "has_aux": True},
        {"microbatch_size": 4, "return_values": True},
        {"pre_clipping_transform": lambda g: {"w": jnp.sin(g["w"])}},
    ],
    ids=lambda o: "-".join(o),
)
def test_it_gives_what_the_number_gives(options, clip):
  fun = _with_aux if options.get("has_aux") else _loss

  def run(clip):
    grad_fn = clipping.clipped_grad(fun, l2_clip_norm=clip, **options)
    found = grad_fn(_PARAMS, _BATCH, is_padding_example=_MASK)
    return found, grad_fn.sensitivity("replace_one")

  want, got = run(clip), jax.jit(run)(clip)
  assert jax.tree.structure(got) == jax.tree.structure(want)
  # Dividing a loss and multiplying a sum rounds each of a few terms once more.
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
      got,
      want,
  )


@pytest.mark.parametrize(
    "clip", [1e-31, 0.0, -1.0, 1e31, np.inf, np.nan], ids=str
)
def test_a_norm_out_of_its_range_gives_zeros(clip):
  run = jax.jit(
      lambda c: clipping.clipped_grad(_loss, l2_clip_norm=c)(_PARAMS, _BATCH)
  )
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(run(clip)))


@pytest.mark.few(6)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("method", ["ghost", "vmap"])
@pytest.mark.parametrize("clip", [1e-20, 0.37, 1e20])
def test_one_example_is_within_the_norm(dtype, method, clip):
  params = jax.tree.map(lambda p: p.astype(dtype), _PARAMS)

  def run(clip, x):
    batch = {"x": x.astype(dtype)[None], "y": jnp.ones((1, 2), dtype)}
    grad_fn = clipping.clipped_grad(_loss, l2_clip_norm=clip, method=method)
    return grad_fn(params, batch)

  for size in (1e-10, 1.0, 1e4, np.inf):
    found = jax.jit(run)(clip, jnp.full(3, size, jnp.float32))
    leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(found)]
    norm = np.sqrt(sum(np.sum(x**2) for x in leaves))
    # `per_example.clip_factor` keeps 4 units clear of the norm itself.
    assert norm <= clip * (1 + 1e-7), (size, norm / clip)


def test_it_adapts_within_one_compiled_step():
  @jax.jit
  def step(clip):
    grad_fn = clipping.clipped_grad(
        _loss, l2_clip_norm=clip, return_grad_norms=True
    )
    total, aux = grad_fn(_PARAMS, _BATCH)
    return total, clip * jnp.exp(jnp.mean(aux.grad_norms > clip) - 0.5)

  clip = jnp.float32(1e-3)
  for _ in range(40):
    _, clip = step(clip)
  _, aux = clipping.clipped_grad(
      _loss, l2_clip_norm=1.0, return_grad_norms=True
  )(_PARAMS, _BATCH)
  low, high = np.sort(aux.grad_norms)[[2, 3]]
  # It ends near the median, within a last step's factor.
  assert low * np.exp(-0.5) <= clip <= high * np.exp(0.5)
  assert step._cache_size() == 1


@pytest.mark.parametrize(
    "norm, options, text",
    [
        (lambda c: {"w": c, "b": 1.0}, {}, "a scalar where it is traced"),
        (lambda c: c[None], {}, "a scalar where it is traced"),
        (lambda c: c, {"grid_scale": 100}, "None with a traced l2_clip_norm"),
    ],
)
def test_what_cannot_be_traced_is_refused(norm, options, text):
  def run(clip):
    return clipping.clipped_grad(_loss, l2_clip_norm=norm(clip), **options)(
        _PARAMS, _BATCH
    )

  with pytest.raises(ValueError, match=text):
    jax.jit(run)(jnp.float32(1.0))
