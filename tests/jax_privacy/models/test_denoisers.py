"""Denoisers: sizes to the digit, images apart, norms as vmap's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import clipping, models
from jax_privacy.models import denoiser
from tests.support import oracle

_SHAPE = (4, 6, 2)
_SMALL = {
    "denoiser_adm": {
        "width": 4,
        "multipliers": (1, 2),
        "num_blocks": 1,
        "attention_sizes": (2,),
        "head_size": 2,
    },
    "denoiser_mlp": {"width": 6, "hidden_size": 5, "num_blocks": 1},
    "denoiser_unet": {
        "width": 4,
        "multipliers": (1, 2),
        "num_blocks": 1,
        "attention_sizes": (2,),
    },
}
_each_model = pytest.mark.parametrize("name", sorted(_SMALL))
# The gradients of the U-Nets take long to compile.
_each_gradient = pytest.mark.parametrize(
    "name",
    [
        "denoiser_mlp",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("denoiser_adm", "denoiser_unet")
        ),
    ],
)


def _shapes(name, **options):
  model = nnx.eval_shape(
      lambda: models.build(name, rngs=nnx.Rngs(0), **options)
  )
  return models.functional(model)


@functools.cache
def _make(name):
  """A tiny model; its last layers start at 0, where little would matter."""
  apply_fn, shapes = _shapes(
      name, num_classes=3, image_shape=_SHAPE, **_SMALL[name]
  )
  generator = np.random.default_rng(1)
  params = jax.tree.map(
      lambda p: generator.normal(0.0, 0.3, p.shape).astype(np.float32), shapes
  )
  return jax.jit(apply_fn), params


def _inputs(num_images=3):
  generator = np.random.default_rng(2)
  return {
      "image": generator.normal(size=(num_images, *_SHAPE)).astype(np.float32),
      "noise": generator.uniform(-1, 1, num_images).astype(np.float32),
      "label": np.arange(num_images, dtype=np.int32) + 1,
  }


def test_every_denoiser_is_in_this_test():
  assert set(_SMALL) == set(models.denoiser_names())


# DPDM's MNIST network (1.75M in the paper), the same on 32 x 32 colours, the
# two of DPImageBench (3.8M in its code) with 1000 labels, and small ones.
@pytest.mark.few(3)
@pytest.mark.parametrize(
    "num_parameters, side, channels, width, multipliers, attention, classes",
    [
        (1_753_345, 28, 1, 32, (1, 2, 2), (7,), 10),
        (1_754_499, 32, 3, 32, (1, 2, 2), (16,), 10),
        (3_867_299, 32, 3, 32, (2, 4), (16,), 1000),
        (1_516_897, 28, 1, 32, (2, 2), (14,), 1000),
        (111_937, 28, 1, 8, (1, 2, 2), (7,), 10),
        (249_505, 28, 1, 12, (1, 2, 2), (7,), 10),
        (247_489, 8, 1, 16, (1, 2), (), 10),
        (441_473, 28, 1, 16, (1, 2, 2), (7,), 10),
    ],
)
def test_the_u_net_has_the_published_numbers_of_parameters(
    num_parameters, side, channels, width, multipliers, attention, classes
):
  shape = (side, side, channels)
  apply_fn, params = _shapes(
      "denoiser_unet",
      num_classes=classes,
      image_shape=shape,
      width=width,
      multipliers=multipliers,
      attention_sizes=attention,
  )
  assert models.num_parameters(params) == num_parameters
  inputs = denoiser.placeholder(2, image_shape=shape)
  assert jax.eval_shape(apply_fn, params, inputs).shape == (2, *shape)


def _num_parameters_of_adm(
    *, classes, channels, width, multipliers, num_blocks, attends
):
  """Counted anew, from the paper's figure of a network and its layers."""

  def linear(i, o):
    return (i + 1) * o

  def block(i, o):
    convs = 9 * i * o + o + 9 * o * o + o
    shortcut = linear(i, o) if i != o else 0
    return 2 * i + 2 * o + convs + 2 * linear(4 * width, o) + shortcut

  def attention(c):
    return 2 * c + 4 * linear(c, c)

  total = (classes + 1) * 4 * width + linear(width, 4 * width)
  total += linear(4 * width, 4 * width) + 9 * channels * width + width
  kept, now = [width], width
  for level, factor in enumerate(multipliers):
    for _ in range(num_blocks):
      total += block(now, factor * width)
      now = factor * width
      total += attention(now) if attends[level] else 0
      kept.append(now)
    if level < len(multipliers) - 1:
      total += block(now, now)
      kept.append(now)
  total += 2 * block(now, now) + attention(now)
  for level, factor in reversed(list(enumerate(multipliers))):
    for _ in range(num_blocks + 1):
      total += block(now + kept.pop(), factor * width)
      now = factor * width
      total += attention(now) if attends[level] else 0
    total += block(now, now) if level else 0
  assert not kept
  return total + 2 * now + 9 * now * channels + channels


_ADM_64 = {
    "classes": 1000,
    "channels": 3,
    "width": 192,
    "multipliers": (1, 2, 3, 4),
    "num_blocks": 3,
    "attends": (False, True, True, True),
}


def test_adm_has_the_published_number_of_parameters():
  """296 million (Karras et al. 2022, table 1, and the paper's code).

  Theirs has 3 more channels of output, for variances, and no row of "no class".
  """
  count = _num_parameters_of_adm(**_ADM_64)
  theirs = count + 3 * (9 * 192 + 1) - 4 * 192
  assert round(theirs / 1e6) == 296
  small = {"classes": 3, "channels": 2, "width": 4, "multipliers": (1, 2)}
  small |= {"num_blocks": 1, "attends": (False, True)}
  _, params = _shapes(
      "denoiser_adm", num_classes=3, image_shape=_SHAPE,
      **_SMALL["denoiser_adm"],
  )  # fmt: skip
  assert models.num_parameters(params) == _num_parameters_of_adm(**small)


@pytest.mark.slow
def test_adm_is_built_at_full_size():
  _, params = _shapes(
      "denoiser_adm", num_classes=1000, image_shape=(64, 64, 3), width=192,
      multipliers=(1, 2, 3, 4), num_blocks=3, attention_sizes=(32, 16, 8),
  )  # fmt: skip
  assert models.num_parameters(params) == _num_parameters_of_adm(**_ADM_64)


def test_the_mlp_has_the_number_of_parameters_that_it_states():
  _, params = _shapes(
      "denoiser_mlp", num_classes=3, image_shape=_SHAPE, num_waves=7, width=6,
      hidden_size=5, num_blocks=2,
  )  # fmt: skip
  p, w, h, b, f, c = 48, 6, 5, 2, 7, 3
  block = 2 * w + (2 * w + 1) * h + (h + 1) * w
  want = (p + 1) * w + (c + 1) * w + (2 * f + 1) * w + (w + 1) * w
  assert models.num_parameters(params) == want + b * block + 2 * w + (w + 1) * p


@_each_gradient
def test_clipped_sums_and_norms_are_those_of_one_example_at_a_time(name):
  """Ghost clipping covers every layer, with two draws of each example."""
  apply_fn, params = _make(name)

  def loss_fn(params, example):
    inputs = {"label": jnp.repeat(example["label"], 2)}
    inputs["image"] = jnp.stack([example["image"], example["image"] * 0.5])
    inputs["noise"] = jnp.stack([example["noise"], example["noise"] + 0.3])
    return jnp.mean(jnp.sin(apply_fn(params, inputs)) ** 2)

  inputs = _inputs()
  _, norms = oracle.clipped_sum(
      loss_fn, params, inputs, 1.0, keep_batch_dim=False
  )
  clip_norm = float(np.median(norms))  # So that some are clipped.
  wanted, _ = oracle.clipped_sum(
      loss_fn, params, inputs, clip_norm, keep_batch_dim=False
  )
  grad_fn = clipping.clipped_grad(
      loss_fn,
      l2_clip_norm=clip_norm,
      keep_batch_dim=False,
      return_grad_norms=True,
      method="ghost",
  )
  none = np.zeros(3, bool)
  found, aux = jax.jit(grad_fn)(params, inputs, is_padding_example=none)
  # Norms are sums of squares: no cancellation, some 1e3 float32 roundings.
  np.testing.assert_allclose(aux.grad_norms, norms, rtol=1e-4)
  np.testing.assert_allclose(
      oracle.flat64(found), wanted, rtol=1e-3, atol=1e-4 * clip_norm
  )
  # The label "no class" is one of these, so that row has a gradient too.
  assert np.any(found["label"]["embedding"][3])


@pytest.mark.few(1)
@_each_model
def test_images_do_not_reach_one_another_and_all_they_say_matters(name):
  apply_fn, params = _make(name)
  inputs = _inputs()
  outputs = np.asarray(apply_fn(params, inputs))
  assert outputs.shape == (3, *_SHAPE)
  for field in inputs:
    changed = {k: v.copy() for k, v in inputs.items()}
    changed[field][1] = 0
    again = np.asarray(apply_fn(params, changed))
    np.testing.assert_array_equal(again[[0, 2]], outputs[[0, 2]])
    # Float32 roundings of these outputs are 1e-7.
    assert np.max(np.abs(again[1] - outputs[1])) > 1e-5, field


@_each_gradient
def test_every_parameter_matters(name):
  apply_fn, params = _make(name)
  grad_fn = jax.jit(jax.grad(lambda p: jnp.sum(apply_fn(p, _inputs()) ** 2)))
  for path, grad in jax.tree_util.tree_leaves_with_path(grad_fn(params)):
    # A key's bias shifts all scores of a query alike, which softmax undoes.
    if ".key.bias" not in jax.tree_util.keystr(
        path, simple=True, separator="."
    ):
      assert np.max(np.abs(grad)) > 1e-6, jax.tree_util.keystr(path)


@_each_model
def test_bfloat16_parameters_compute_in_bfloat16(name):
  apply_fn, params = _make(name)
  half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  assert jax.eval_shape(apply_fn, half, _inputs()).dtype == jnp.bfloat16


@_each_model
@pytest.mark.parametrize(
    "field, value, text",
    [
        (
            "image",
            np.zeros((3, 4, 5, 2), np.float32),
            "images must be of shape",
        ),
        ("noise", np.zeros((3, 1), np.float32), "noise must be floating of"),
        ("noise", np.zeros(3, np.int32), "noise must be floating of"),
        ("label", np.zeros(3, np.float32), "label must be integer of"),
        ("label", np.zeros(2, np.int32), "label must be integer of"),
    ],
)
def test_wrong_inputs_are_refused(name, field, value, text):
  apply_fn, params = _make(name)
  with pytest.raises(ValueError, match=text):
    apply_fn(params, _inputs() | {field: value})


@pytest.mark.parametrize(
    "options, text",
    [
        ({"width": 6}, "width must be a multiple of 4, got 6"),
        ({"image_shape": (10, 8, 1)}, "sides that are multiples of 4 for 3"),
        ({"attention_sizes": (5,)}, r"among the levels' heights, .* got 5"),
        ({"multipliers": ()}, "multipliers must be"),
    ],
)
def test_wrong_u_nets_are_refused(options, text):
  with pytest.raises(ValueError, match=text):
    _shapes("denoiser_unet", **options)
