"""Parameters that Haiku saved: names, shapes, and the function they make.

What Haiku calls them is told by `haiku_models`, modules of Haiku's own.
"""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy import models
from jax_privacy.models import haiku, saved
from tests.support import haiku_models

_SMALL = dict(channels=(8, 8, 16, 16), num_blocks=(1, 2, 1, 1))
# Name, options here, image shape, and the published module with its options.
_CASES = {
    "wrn": (
        "wide_resnet",
        dict(depth=10, width=1),
        (8, 8, 3),
        haiku_models.WideResNet,
        dict(depth=10, width=1, skip_init=False, plain=False),
    ),
    "wrn_plain_skip_init": (
        "wide_resnet",
        dict(depth=16, width=2, conv="plain", skip_gain=0.5),
        (8, 8, 3),
        haiku_models.WideResNet,
        dict(depth=16, width=2, skip_init=True, plain=True),
    ),
    "nfnet": (
        "nfnet",
        dict(group_width=2, **_SMALL),
        (32, 32, 3),
        haiku_models.NFNet,
        dict(group_size=2, **_SMALL),
    ),
    "nf_resnet": (
        "nf_resnet",
        dict(depth=26, width=1, squeeze_excite=True),
        (32, 32, 3),
        haiku_models.NFResNet,
        dict(width=1, num_blocks=(2, 2, 2, 2), use_se=True),
    ),
}


def _ours(name, *, num_classes=7, **options):
  model = nnx.eval_shape(
      lambda: models.build(
          name, rngs=nnx.Rngs(0), num_classes=num_classes, **options
      )
  )
  apply_fn, shapes = models.functional(model)
  return apply_fn, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


@functools.cache
def _haiku(case, num_classes=7):
  """(logits, images, parameters): random ones, biases and gains included."""
  _, _, shape, module, options = _CASES[case]
  net = hk.without_apply_rng(
      hk.transform(lambda x: module(num_classes=num_classes, **options)(x))
  )
  rng = np.random.default_rng(0)
  images = rng.normal(size=(3, *shape)).astype(np.float32)
  # Strictness is for our code: Haiku's group norm adds vectors to images.
  with (
      jax.numpy_rank_promotion("allow"),
      jax.numpy_dtype_promotion("standard"),
  ):
    shapes = jax.eval_shape(net.init, jax.random.key(0), images)
    params = jax.tree.map(
        lambda x: np.float32(0.3 * rng.normal(size=x.shape) + (x.ndim < 2)),
        shapes,
    )
    return np.asarray(jax.jit(net.apply)(params, images)), images, params


# Some seconds of compiling each; run by `make test-slow`.
_SLOW = {"wrn_plain_skip_init", "nf_resnet", "nfnet"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=[pytest.mark.slow] if c in _SLOW else [])
        for c in _CASES
    ],
)
def test_gives_the_logits_that_it_gave_in_haiku(case):
  want, images, theirs = _haiku(case)
  name, options, shape, *_ = _CASES[case]
  apply_fn, params = _ours(name, image_shape=shape, **options)
  params = models.from_haiku(name, params, theirs)
  got = jax.jit(apply_fn)(params, images)
  # Logits of order 1 (checked), in float32, through some 20 layers.
  assert 0.1 < np.std(want) < 100
  np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.std(want))


def _shapes(name, **options):
  """The parameters' shapes: nothing is computed."""
  model = nnx.eval_shape(
      lambda: models.build(name, rngs=nnx.Rngs(0), **options)
  )
  return nnx.to_pure_dict(nnx.state(model, nnx.Param))


@pytest.mark.slow
def test_the_published_number_of_modules():
  # benjs/nfnets_pytorch, nfnets/pretrained.py: that of the released F0.
  table = haiku.names("nfnet", _shapes("nfnet", variant="F0"))
  assert len({name.rpartition("/")[0] for name in table.values()}) == 94
  assert len(set(table.values())) == len(table)


def test_other_classes_need_a_reset():
  *_, theirs = _haiku("wrn")
  name, options, shape, *_ = _CASES["wrn"]
  _, params = _ours(name, image_shape=shape, num_classes=4, **options)
  with pytest.raises(
      ValueError, match=r"linear.bias must be of the model's shape, \[4\], got"
  ):
    models.from_haiku(name, params, theirs)
  new = models.from_haiku(name, params, theirs, reset=(r"linear\..*",))
  assert new["linear"]["kernel"] is params["linear"]["kernel"]
  np.testing.assert_array_equal(
      new["stem"]["kernel"], theirs["wide_res_net/First_conv"]["w"]
  )


def test_names_of_the_first_release_are_read():
  # jax_privacy 0.1, jax_privacy/src/training/image_classification/models/
  # common.py: it takes these parts out of a file's names.
  *_, theirs = _haiku("wrn")
  old = {
      name.replace("net/", "net/~norm_fn/")
      if "norm" in name
      else name.replace("net/", "net/~conv_fn/"): arrays
      for name, arrays in theirs.items()
  }
  assert set(old).isdisjoint(theirs)
  name, options, shape, *_ = _CASES["wrn"]
  _, params = _ours(name, image_shape=shape, **options)
  a, b = (models.from_haiku(name, params, x) for x in (old, theirs))
  assert jax.tree.all(jax.tree.map(np.array_equal, a, b))
  with pytest.raises(
      ValueError, match="must have one wide_res_net/.*, got two"
  ):
    models.from_haiku(name, params, old | theirs)


def test_missing_and_unknown_parameters_are_listed():
  *_, theirs = _haiku("wrn")
  name, options, shape, *_ = _CASES["wrn"]
  _, params = _ours(name, image_shape=shape, **options)
  some = {k: v for k, v in theirs.items() if "First_conv" not in k}
  many = {f"m{i}": {"w" * 200: np.zeros(1)} for i in range(1000)}
  with pytest.raises(ValueError) as raised:
    models.from_haiku(name, params, some | many)
  text = str(raised.value)
  for part in ("bias", "gain", "w"):
    assert f"wide_res_net/First_conv/{part}" in text
  assert "m0/www" in text and "and 995 more unknown" in text
  assert len(text) < 1000 and "\n" not in text


_TOY = {"stem": {"kernel": jnp.ones((2, 3))}, "gain": jnp.ones(())}


@pytest.mark.parametrize(
    "array, message",
    [
        (
            np.zeros((3, 2)),
            r"must be of the model's shape, \[2, 3\], got \[3, 2\]: ",
        ),
        (np.zeros(6), "must be of the model's shape"),
        (np.zeros((2, 3), int), "must be floats, got int64"),
        (np.full((2, 3), np.nan), "must be finite in float32"),
        (np.full((2, 3), 1e300), "must be finite in float32"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(array, message):
  with pytest.raises(ValueError, match=f"stem.kernel {message}"):
    saved.fill(_TOY, {"stem.kernel": array})


def test_what_fits_is_put_in_its_place():
  new = saved.fill(_TOY, {"gain": np.full(1, 3.0, np.float16)})
  assert new["gain"].shape == () and new["gain"].dtype == jnp.float32
  assert new["gain"] == 3.0 and new["stem"] is not _TOY["stem"]
  assert new["stem"]["kernel"] is _TOY["stem"]["kernel"]
  with pytest.raises(ValueError, match="got stem.kernels"):
    saved.fill(_TOY, {"stem.kernels": np.ones((2, 3))})


@pytest.mark.parametrize(
    "reset, message",
    [
        (("(",), r"regular expressions, got '\('"),
        ((1,), "regular expressions, got 1"),
        # Part of a path is not enough: it must be meant.
        (("stem",), "such as gain, got 'stem', which matches none"),
    ],
)
def test_a_reset_that_resets_nothing_is_refused(reset, message):
  with pytest.raises(ValueError, match=message):
    saved.match(_TOY, ["gain", "stem.kernel"], reset=reset)


def test_what_is_reset_may_be_there_or_not():
  for given in (["gain", "stem.kernel"], ["stem.kernel"]):
    wanted = saved.match(_TOY, given, reset=("gain",))
    assert wanted == {"stem.kernel": "stem.kernel"}


def test_models_without_a_table_are_refused():
  with pytest.raises(ValueError, match="one of nf_resnet, nfnet, wide_resnet"):
    haiku.names("cnn_small", _TOY)
  shapes = _shapes("wide_resnet", depth=10, width=1, squeeze_excite=True)
  with pytest.raises(ValueError, match="got blocks.0.gate.excite.bias"):
    haiku.names("wide_resnet", shapes)
