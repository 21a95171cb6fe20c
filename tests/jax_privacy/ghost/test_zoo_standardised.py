"""Ghost clipping of weight-standardised convolutions.

Their norm has a closed form of its own, and so ways of its own to be wrong: a
gain that is used elsewhere too, a kernel too small to be divided by its norm, a
standardisation that is only like the known one.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_privacy.ghost import graph, standardised
from jax_privacy.models import layers
from tests.support import zoo

_ARRAYS = zoo.Arrays(2)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch


def _conv(x, w, strides=(1, 1), padding="SAME", groups=1):
  return jax.lax.conv_general_dilated(
      x if x.ndim == 4 else x[None],
      w,
      strides,
      padding,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=groups,
  )


def _by_hand(kernel, gain, epsilon=1e-4):
  """The same formula, under no name that anything could look for."""
  centred = kernel - jnp.mean(kernel, axis=(0, 1, 2), keepdims=True)
  square = jnp.sum(centred**2, axis=(0, 1, 2), keepdims=True)
  scale = jax.lax.rsqrt(jnp.maximum(square, epsilon))
  return centred * scale * gain.reshape(1, 1, 1, -1)


def _loss(standardise, **options):
  def loss(params, x):
    y = _conv(x, standardise(params["w"], params["gain"]), **options)
    return zoo.readout(zoo.add_bias(y, params["b"]))

  return loss


def _case(
    name,
    x,
    w,
    *,
    standardise=None,
    keep=True,
    run=zoo.F64,
    runs=zoo.RUNS,
    **options,
):
  params = {"w": _normal(*w), "gain": 1 + _normal(w[-1]), "b": _normal(w[-1])}
  return zoo.Case(
      name=name,
      loss=_loss(standardise or layers.standardise_weight, **options),
      params=params,
      batch=(_batch(*x),),
      options={"keep_batch_dim": keep},
      run=run,
      runs=runs,
  )


def _tiny_channels(case):
  """The case with channels below, at and above epsilon, and one of zeros."""
  kernel = case.params["w"] * np.geomspace(1e-5, 1.0, case.params["gain"].size)
  kernel[..., 1] = 0.0
  case.params["w"] = kernel
  return case


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        _case(
            "many_pixels",
            (10, 10, 2),
            (3, 3, 2, 4),
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        _case(
            "many_pixels_dropped",
            (10, 10, 2),
            (3, 3, 2, 4),
            keep=False,
            run=zoo.F32,
        ),
        _case("few_pixels", (2, 2, 24), (3, 3, 24, 20)),
        _case("few_pixels_dropped", (2, 2, 24), (3, 3, 24, 20), keep=False),
        _case(
            "pointwise",
            (4, 4, 6),
            (1, 1, 6, 5),
            runs=zoo.NOT_JITTED,
            run=zoo.EAGER,
        ),
        _case("one_pixel", (1, 1, 8), (3, 3, 8, 6), run=zoo.F32),
        _case("strided", (6, 5, 4), (3, 3, 4, 6), strides=(2, 2), run=zoo.F32),
        _case("valid", (3, 3, 12), (2, 2, 12, 9), padding="VALID", run=zoo.F32),
        _case("grouped", (4, 4, 4), (3, 3, 2, 6), groups=2, run=zoo.F32),
        _case("depthwise", (3, 3, 6), (3, 3, 1, 6), groups=6, run=zoo.F32),
        _case("views", (3, 2, 2, 12), (3, 3, 12, 8), keep=False, run=zoo.F32),
        _case(
            "by_hand",
            (5, 5, 2),
            (3, 3, 2, 4),
            standardise=_by_hand,
            run=zoo.F32,
        ),
        _case(
            "by_hand_few",
            (2, 2, 12),
            (3, 3, 12, 8),
            standardise=_by_hand,
            run=zoo.F32,
        ),
        _tiny_channels(_case("tiny_many_pixels", (8, 8, 2), (3, 3, 2, 6))),
        _tiny_channels(
            _case("tiny_few_pixels", (2, 2, 16), (3, 3, 16, 12), run=zoo.F32)
        ),
    ],
    ids=str,
)
def test_standardised(case):
  zoo.check(case)


_GAINS = {
    "zero": [0.0],
    "tiny": [1e-8],
    "tiny_negative": [-1e-8],
    "negative": [-0.7],
    # On both sides of what an output is divided by.
    "mixed": [0.0, 1e-8, -2.0, 1.0, -1e-8, 3e-6, -3e-6, 1e-3, 5.0, -0.0],
}


def _for_all_gains(*args, clip_norm, **options):
  """A case whose programs are those of all gains."""
  case = _case("gains", *args, **options)
  return dataclasses.replace(case, clip_norm=clip_norm, programs={})


_SITES = {
    # Ghost's closed form.
    "few_pixels": _for_all_gains((2, 2, 24), (3, 3, 24, 20), clip_norm=5.0),
    "one_pixel": _for_all_gains(
        (1, 1, 16), (1, 1, 16, 10), keep=False, clip_norm=2.4
    ),
    # Gradients are made.
    "many_pixels": _for_all_gains((10, 10, 2), (3, 3, 2, 10), clip_norm=12.0),
}


def _with_gains(case, gain, of="gain", **fields):
  gains = np.resize(_GAINS[gain], case.params[of].size)
  params = {**case.params, of: gains}
  return dataclasses.replace(case, params=params, **fields)


# What gains that are nearly 0 do in float32 is rounding's too.
_EACH_GAIN = pytest.mark.parametrize(
    "gain, run",
    [
        ("zero", zoo.F64),
        ("tiny", zoo.F64),
        ("tiny_negative", zoo.F32),
        ("negative", zoo.F64),
        ("mixed", zoo.F32),
    ],
)


@pytest.mark.few(2)
@_EACH_GAIN
@pytest.mark.parametrize("site", list(_SITES))
def test_gains(gain, run, site):
  # A closed form that divides by a gain of 0 gives NaN; one that takes the
  # gain's gradient from an output that is 0 gives 0; and a weight that is used
  # with a gain of its own in place of 0 changes losses and other gradients.
  zoo.check(_with_gains(_SITES[site], gain, name=gain, run=run))


def _two_layers(params, x):
  """Gradients flow through a site whose gains are zero."""
  y = _conv(x, layers.standardise_weight(params["w"], params["gain"]))
  y = jnp.sin(y) + x
  y = y + _conv(y, layers.standardise_weight(params["v"], params["scale"]))
  return zoo.readout(y)


def _below_others():
  arrays = zoo.Arrays(5)
  params = {
      "w": arrays.normal(3, 3, 20, 20),
      "v": arrays.normal(3, 3, 20, 20),
      "gain": 1 + 0.3 * arrays.normal(20),
      "scale": np.ones(20),
  }
  return zoo.Case(
      name="below_others",
      loss=_two_layers,
      params=params,
      batch=(arrays.batch(2, 2, 20),),
      clip_norm=5.5,
      programs={},
  )


_BELOW_OTHERS = _below_others()


@pytest.mark.few(1)
@_EACH_GAIN
def test_gains_below_others(gain, run):
  zoo.check(_with_gains(_BELOW_OTHERS, gain, of="scale", name=gain, run=run))


def test_a_gain_that_is_divided_by_unseen_is_seen(monkeypatch):
  monkeypatch.setattr(standardised, "divisor", lambda gain: gain)
  case = dataclasses.replace(_SITES["few_pixels"], programs={})
  zoo.check(_with_gains(case, "negative"))
  with pytest.raises(AssertionError):
    zoo.check(_with_gains(case, "mixed"))


def test_a_factor_that_is_left_out_is_seen(monkeypatch):
  rescaled = standardised.rescaled

  def without(*args):
    way = rescaled(*args)
    return graph.Rescaled(way.weight, jnp.ones_like(way.factor))

  monkeypatch.setattr(standardised, "rescaled", without)
  case = dataclasses.replace(_SITES["few_pixels"], programs={})
  zoo.check(_with_gains(case, "negative"))
  with pytest.raises(AssertionError, match="norms of"):
    zoo.check(_with_gains(case, "mixed"))


def _without_gain(params, x):
  gain = jnp.ones(params["w"].shape[-1], x.dtype)
  return zoo.readout(_conv(x, layers.standardise_weight(params["w"], gain)))


def _gain_is_shared(params, x):
  y = _conv(x, layers.standardise_weight(params["w"], params["gain"]))
  return zoo.readout(y * (1 + params["gain"]).reshape(1, 1, 1, -1))


def _kernel_is_shared(params, x):
  weight = layers.standardise_weight(params["w"], params["gain"])
  return zoo.readout(_conv(x, weight) + jnp.sin(_conv(x, params["w"])))


def _weight_is_shared(params, x):
  weight = layers.standardise_weight(params["w"], params["gain"])
  return zoo.readout(_conv(jnp.sin(_conv(x, weight)), weight))


def _weight_is_changed(params, x):
  weight = layers.standardise_weight(params["w"], params["gain"])
  return zoo.readout(_conv(x, jnp.flip(weight, 0) * 0.5))


def _kernel_is_transformed_before(params, x):
  kernel = jnp.sin(params["w"]) * params["gain"].reshape(1, 1, 1, -1)
  weight = layers.standardise_weight(kernel, params["gain"])
  return zoo.readout(_conv(x, weight))


def _meets_the_data_first(params, x):
  gain = params["gain"] * jnp.mean(x)
  return zoo.readout(_conv(x, layers.standardise_weight(params["w"], gain)))


_VARIATIONS = (
    _without_gain,
    _gain_is_shared,
    _kernel_is_shared,
    _weight_is_shared,
    _weight_is_changed,
    _kernel_is_transformed_before,
    _meets_the_data_first,
)
_FEW_PIXELS, _MANY_PIXELS = (2, 12, zoo.F64), (8, 2, zoo.F32)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "loss, pixels, channels, run",
    [
        *((loss, *_FEW_PIXELS) for loss in _VARIATIONS),
        # Of many pixels gradients are made, whatever the loss.
        *(
            pytest.param(
                loss,
                *_MANY_PIXELS,
                marks=[pytest.mark.slow] * (loss is not _gain_is_shared),
            )
            for loss in _VARIATIONS
        ),
    ],
)
def test_variations(loss, pixels, channels, run):
  arrays = zoo.Arrays(3)
  zoo.check(
      zoo.Case(
          name=loss.__name__,
          loss=loss,
          params={
              "w": arrays.normal(3, 3, channels, channels),
              "gain": 1 + 0.3 * arrays.normal(channels),
          },
          batch=(arrays.batch(pixels, pixels, channels),),
          run=run,
      )
  )


@pytest.mark.few(1)
@pytest.mark.parametrize("pixels", [2, 7])
def test_layer_of_this_library(pixels):
  arrays = zoo.Arrays(4)
  layer = layers.WSConv(3, 6, kernel_size=(3, 3), strides=2, rngs=nnx.Rngs(0))
  graphdef, params = nnx.split(layer)
  params = jax.tree.map(
      lambda x: np.asarray(x, np.float64) + 0.1 * arrays.normal(*x.shape),
      params,
  )
  for case in zoo.both(
      name="wsconv",
      loss=lambda params, x: zoo.readout(
          nnx.merge(graphdef, params)(x if x.ndim == 4 else x[None])
      ),
      params=params,
      batch=(arrays.batch(pixels, pixels, 3),),
  ):
    zoo.check(case)


def test_epsilon_that_is_traced_as_a_constant():
  # Not the default: a rule that reads the default would be wrong.
  standardise = lambda w, g: layers.standardise_weight(w, g, epsilon=40.0)
  zoo.check(
      _case(
          "epsilon",
          (2, 2, 8),
          (3, 3, 8, 6),
          standardise=standardise,
          run=zoo.F32,
      )
  )
