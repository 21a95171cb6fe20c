"""AGC against the paper's equation, a unit at a time, and where it stands."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import accounting
from jax_privacy import agc, dp_sgd, noise_addition


def _tree(seed, scale):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)
  return {
      "blocks": {
          "0": {
              "conv": {"kernel": draw(3, 3, 2, 4), "bias": draw(4)},
              "gate": {"linear": draw(5, 2)},
              "skip_gain": draw(),
          }
      },
      "linear": {"kernel": draw(4, 3), "bias": draw(3)},
  }


def _unit(grad, param, *, clipping, eps):
  """Equation 3 for one unit, as float64 vectors."""
  allowed = clipping * max(np.linalg.norm(param), eps)
  return grad * min(1.0, allowed / max(np.linalg.norm(grad), 1e-6))


def _slowly(grad, param, **options):
  """Unit by unit: the last axis of a matrix or kernel counts the units."""
  grad, param = np.float64(grad), np.float64(param)
  if grad.ndim < 2:
    return _unit(grad, param, **options)
  units = [
      _unit(grad[..., i], param[..., i], **options)
      for i in range(grad.shape[-1])
  ]
  return np.stack(units, axis=-1)


def _clip(grads, params, **options):
  clip = agc.adaptive_grad_clip(**options)
  return clip.update(grads, clip.init(params), params)[0]


@pytest.mark.few(1)
@pytest.mark.parametrize("grad_scale", [1e-3, 1.0])
def test_equals_the_papers_equation_unit_by_unit(grad_scale):
  grads, params = _tree(0, grad_scale), _tree(1, 0.3)
  # A unit of zeros, which eps lets move.
  kernel = params["blocks"]["0"]["conv"]["kernel"].at[..., 1].set(0.0)
  params["blocks"]["0"]["conv"]["kernel"] = kernel
  options = {"clipping": 0.02, "eps": 1e-3}
  got = _clip(grads, params, **options)
  for name in ("blocks", "linear"):
    want = grads[name]
    if name == "blocks":
      want = jax.tree.map(
          lambda g, p: _slowly(g, p, **options), grads[name], params[name]
      )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        got[name],
        want,
    )


def test_the_final_layer_is_left_alone_and_no_other_linear_layer():
  grads, params = _tree(0, 1.0), _tree(1, 0.3)
  got = _clip(grads, params)
  changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), got, grads)
  assert changed["linear"] == {"kernel": False, "bias": False}
  assert all(jax.tree.leaves(changed["blocks"])), changed


@pytest.mark.parametrize(
    ("exclude", "kernel", "bias"),
    [(None, True, True), (r"^linear\.kernel$", False, True)],
)
def test_other_exclusions(exclude, kernel, bias):
  grads, params = _tree(0, 1.0), _tree(1, 0.3)
  got = _clip(grads, params, exclude=exclude)["linear"]
  changed = {k: bool(jnp.any(got[k] != grads["linear"][k])) for k in got}
  assert changed == {"kernel": kernel, "bias": bias}


def test_a_head_of_another_name_is_refused_rather_than_clipped():
  params = {"head": jnp.ones((2, 2))}
  with pytest.raises(ValueError, match=r"exclude must be None or match .*got"):
    agc.adaptive_grad_clip().init(params)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("clipping", 0.0),
        ("clipping", float("nan")),
        ("eps", -1.0),
        ("eps", True),
        ("exclude", "("),
        ("exclude", 3),
    ],
)
def test_wrong_arguments_are_refused(option, value):
  with pytest.raises(ValueError, match=f"{option} must be .*, got"):
    agc.adaptive_grad_clip(**{option: value})


def test_in_make_private_it_clips_the_noised_gradient():
  """Clipped before the noise, an update could exceed AGC's bound."""
  mechanism = accounting.Mechanism.for_batch_size(
      noise_multiplier=5.0,
      num_steps=1,
      num_examples=8,
      expected_batch_size=4,
  )
  key = jax.random.key(0)
  params = {"w": jnp.full((6, 3), 0.1), "linear": jnp.ones((3,))}

  def loss_fn(params, x):
    return jnp.sum(x @ params["w"] * params["linear"][None])

  optimizer = optax.chain(
      agc.adaptive_grad_clip(exclude="^linear$"), optax.sgd(1.0)
  )
  _, grad_fn, optimizer = dp_sgd.make_private(
      loss_fn, optimizer, mechanism, l2_clip_norm=1.0, key=key
  )
  nobody = jnp.zeros(4, bool)
  grads = jax.jit(grad_fn)(params, jnp.ones((4, 6)), is_padding_example=nobody)
  state = optimizer.init(params)
  updates, _ = optimizer.update(grads, state, params)
  # The noise alone, from the same key and position.
  stddev = 5.0 * grad_fn.sensitivity("add_or_remove_one")
  noise = noise_addition.gaussian_privatizer(
      stddev=stddev, prng_key=state[0].prng_key
  )
  noised, _ = noise.update(grads, noise.init(params))
  want = _slowly(noised["w"], params["w"], clipping=0.01, eps=1e-3)
  np.testing.assert_allclose(updates["w"], -want, rtol=1e-5)
  np.testing.assert_allclose(updates["linear"], -noised["linear"], rtol=1e-6)
  # Units of norm 0.1 sqrt(6) keep 1% of it: the noise was far larger.
  norms = np.linalg.norm(updates["w"], axis=0)
  np.testing.assert_allclose(norms, 0.01 * 0.1 * 6**0.5, rtol=1e-5)
