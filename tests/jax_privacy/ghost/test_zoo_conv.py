"""Ghost clipping of convolutions: ranks, windows, groups, layouts, weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo

_ARRAYS = zoo.Arrays(1)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch
_NWC = ("NWC", "WIO", "NWC")
_NHWC = ("NHWC", "HWIO", "NHWC")
_NDHWC = ("NDHWC", "DHWIO", "NDHWC")
_SPECS = {3: _NWC, 4: _NHWC, 5: _NDHWC}


def _conv(x, w, spec=None, **options):
  """`conv_general_dilated`, with strides of 1, SAME, channels last."""
  if x.ndim < w.ndim:
    x = x[None]
  options = {"window_strides": (1,) * (w.ndim - 2), "padding": "SAME"} | options
  spec = spec or _SPECS[w.ndim]
  return jax.lax.conv_general_dilated(x, w, dimension_numbers=spec, **options)


def _case(
    name, x, w, *, bias=False, keep=True, run=zoo.F64, runs=zoo.RUNS, **options
):
  """One convolution of an example of shape x, without its batch axis."""

  def loss(params, x):
    y = _conv(x, params["w"], **options)
    return zoo.readout(zoo.add_bias(y, params["b"]) if bias else y)

  params = {"w": _normal(*w) / np.sqrt(np.prod(w[:-1]))}
  if bias:
    params["b"] = _normal(w[-1])
  return zoo.Case(
      name=name,
      loss=loss,
      params=params,
      batch=(_batch(*x),),
      options={"keep_batch_dim": keep},
      run=run,
      runs=runs,
  )


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        _case("1d", (9, 2), (3, 2, 4), bias=True),
        _case("1d_dropped", (9, 2), (3, 2, 4), bias=True, keep=False),
        _case("2d", (6, 5, 2), (3, 2, 2, 3), bias=True, runs=zoo.NOT_JITTED),
        _case("2d_dropped", (6, 5, 2), (3, 2, 2, 3), bias=True, keep=False),
        _case("3d", (4, 3, 4, 2), (2, 3, 2, 2, 2), bias=True),
        _case("3d_dropped", (4, 3, 4, 2), (2, 3, 2, 2, 2), keep=False),
        _case("0d", (3,), (3, 2), spec=("NC", "IO", "NC"), runs=zoo.NOT_JITTED),
        # The Gram form is the cheaper one where pixels are few and channels
        # many; an example's own gradient is, where it is the other way round.
        _case("few_pixels", (2, 2, 24), (3, 3, 24, 16), bias=True),
        _case("many_pixels", (12, 12, 2), (3, 3, 2, 3), bias=True, run=zoo.F32),
        _case("pointwise", (5, 5, 6), (1, 1, 6, 4), bias=True, run=zoo.F32),
        _case(
            "whole_image", (4, 4, 3), (4, 4, 3, 5), padding="VALID", run=zoo.F32
        ),
        _case("even_kernel", (5, 6, 2), (2, 4, 2, 3), run=zoo.F32),
        _case("kernel_wider_than_image", (2, 3, 2), (5, 5, 2, 3), run=zoo.F32),
        _case(
            "views",
            (3, 4, 4, 2),
            (3, 3, 2, 2),
            bias=True,
            keep=False,
            run=zoo.F32,
        ),
        _case(
            "highest_precision",
            (4, 4, 2),
            (3, 3, 2, 2),
            precision=jax.lax.Precision.HIGHEST,
            run=zoo.F32,
        ),
    ],
    ids=str,
)
def test_ranks(case):
  zoo.check(case)


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "case",
    [
        _case("valid", (6, 5, 2), (3, 2, 2, 3), padding="VALID", run=zoo.F32),
        _case("explicit", (5, 4, 2), (3, 2, 2, 3), padding=((2, 1), (0, 3))),
        _case("negative", (7, 6, 2), (2, 3, 2, 3), padding=((-1, 0),) * 2),
        _case(
            "negative_and_positive",
            (7, 6, 2),
            (2, 3, 2, 3),
            padding=((-1, 1), (0, -2)),
            # jaxlib 0.10.2 on a CPU gives a wrong gradient for this one under
            # vmap in float32, whatever the library does.
            runs=(),
        ),
        _case(
            "strides",
            (7, 6, 2),
            (3, 3, 2, 3),
            window_strides=(2, 3),
            run=zoo.F32,
        ),
        _case(
            "strides_that_leave_a_rest",
            (8, 9, 2),
            (3, 2, 2, 3),
            window_strides=(3, 2),
            padding="VALID",
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        _case(
            "stride_above_kernel",
            (7, 7, 3),
            (1, 1, 3, 4),
            window_strides=(2, 2),
            run=zoo.F32,
        ),
        _case("rhs_dilation", (7, 8, 2), (3, 2, 2, 3), rhs_dilation=(2, 3)),
        _case(
            "lhs_dilation",
            (4, 3, 2),
            (3, 2, 2, 3),
            lhs_dilation=(2, 3),
            padding=((1, 1), (0, 1)),
        ),
        _case(
            "all_at_once",
            (6, 5, 2),
            (3, 2, 2, 3),
            window_strides=(2, 1),
            padding=((2, 3), (1, 0)),
            lhs_dilation=(1, 2),
            rhs_dilation=(2, 2),
            keep=False,
            run=zoo.F32,
        ),
        _case(
            "1d_all_at_once",
            (7, 2),
            (3, 2, 2),
            window_strides=(2,),
            padding=((3, 1),),
            lhs_dilation=(2,),
            rhs_dilation=(3,),
            runs=zoo.NOT_JITTED,
        ),
        _case(
            "3d_all_at_once",
            (4, 3, 3, 2),
            (2, 2, 2, 2, 2),
            window_strides=(1, 2, 1),
            padding=((1, 0), (1, 1), (0, 2)),
            lhs_dilation=(1, 2, 1),
            rhs_dilation=(2, 1, 1),
        ),
    ],
    ids=str,
)
def test_windows(case):
  zoo.check(case)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        _case(
            "depthwise", (5, 4, 3), (3, 3, 1, 3), bias=True,
            feature_group_count=3, runs=zoo.NOT_JITTED, run=zoo.EAGER,
        ),
        _case(
            "depthwise_multiplied", (5, 4, 3), (3, 2, 1, 6),
            feature_group_count=3, window_strides=(2, 1),
        ),
        _case(
            "grouped", (5, 4, 4), (3, 3, 2, 6), bias=True,
            feature_group_count=2, keep=False, runs=zoo.NOT_JITTED, run=zoo.F32,
        ),
        _case(
            "grouped_few_pixels", (2, 2, 16), (3, 3, 8, 12),
            feature_group_count=2,
        ),
        _case(
            "grouped_1d", (6, 6), (3, 2, 9),
            feature_group_count=3, rhs_dilation=(2,),
        ),
        # A group of the batch has filters of its own.
        _case(
            "batch_groups", (2, 5, 4, 3), (3, 3, 3, 4),
            batch_group_count=2, keep=False,
        ),
        _case(
            "nchw", (2, 6, 5), (3, 2, 3, 2), spec=("NCHW", "OIHW", "NCHW"),
            window_strides=(2, 1), runs=zoo.NOT_JITTED,
        ),
        _case(
            "nchw_few_pixels", (16, 2, 2), (12, 16, 3, 3),
            spec=("NCHW", "OIHW", "NCHW"), keep=False, run=zoo.F32,
        ),
        _case(
            "nchw_grouped", (4, 4, 5), (6, 2, 3, 2),
            spec=("NCHW", "OIHW", "NCHW"), feature_group_count=2,
        ),
        _case(
            "chwn_to_nhwc", (6, 5, 2, 1), (2, 3, 3, 4),
            spec=("HWCN", "IHWO", "CNWH"), keep=False, padding="VALID",
        ),
        _case(
            "ncw", (2, 6), (3, 2, 3), spec=("NCH", "OIH", "NCH"), run=zoo.F32
        ),
    ],
    ids=str,
)  # fmt: skip
def test_groups_and_layouts(case):
  zoo.check(case)


def _transposed(**options):
  def loss(params, x):
    x = x if x.ndim == 4 else x[None]
    y = jax.lax.conv_transpose(x, params["w"], **options)
    return zoo.readout(zoo.add_bias(y, params["b"]))

  return loss


_SHARED = {"w": _normal(3, 3, 2, 2) / 4, "b": _normal(2), "scale": _normal(2)}


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "case",
    [
        *zoo.both(
            name="transposed",
            loss=_transposed(strides=(2, 2), padding="SAME"),
            params={"w": _normal(3, 2, 2, 3), "b": _normal(3)},
            batch=(_batch(3, 4, 2),),
        ),
        zoo.Case(
            name="transposed_kernel",
            loss=_transposed(
                strides=(2, 1), padding="VALID", transpose_kernel=True
            ),
            params={"w": _normal(3, 2, 3, 2), "b": _normal(3)},
            batch=(_batch(3, 4, 2),), run=zoo.F32,
        ),
        zoo.Case(
            name="kernel_used_twice",
            loss=lambda p, x: zoo.readout(
                _conv(jnp.sin(_conv(x, p["w"])), p["w"], rhs_dilation=(2, 2))
            ),
            params=_SHARED,
            batch=(_batch(5, 4, 2),), run=zoo.F32,
        ),
        zoo.Case(
            name="kernel_made_by_the_data",
            loss=lambda p, x: zoo.readout(
                _conv(p["image"], jnp.tanh(x.reshape(3, 3, 2, 1)))
            ),
            params={"image": _normal(1, 5, 4, 2)},
            batch=(_batch(18),), run=zoo.F32,
        ),
        zoo.Case(
            name="both_operands_are_parameters",
            loss=lambda p, x: jnp.sum(
                _conv(p["image"], p["w"]) * jnp.sin(x)
            ),
            params={"image": _normal(1, 4, 4, 2), "w": _normal(3, 3, 2, 2)},
            batch=(_batch(4, 4, 2),),
        ),
        zoo.Case(
            name="patches_and_dense",
            loss=lambda w, x: zoo.readout(
                jax.lax.conv_general_dilated_patches(
                    x, (2, 3), (1, 2), "SAME",
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                ) @ w
            ),
            params=_normal(12, 3),
            batch=(_batch(5, 4, 2),), run=zoo.F32,
        ),
        zoo.Case(
            name="weights_of_their_own_at_each_pixel",
            loss=lambda w, x: zoo.readout(
                jax.lax.conv_general_dilated_local(
                    x, w, (1, 1), "VALID", (2, 2), dimension_numbers=_NHWC
                )
            ),
            params=_normal(3, 2, 8, 2),
            batch=(_batch(4, 3, 2),),
        ),
        zoo.Case(
            name="pooling_between",
            loss=lambda p, x: zoo.readout(
                _conv(
                    jax.lax.reduce_window(
                        _conv(x, p["w"]), -jnp.inf, jax.lax.max,
                        (1, 3, 3, 1), (1, 2, 2, 1), "SAME",
                    ),
                    p["v"],
                )
            ),
            params={"w": _normal(3, 3, 2, 3), "v": _normal(2, 2, 3, 2)},
            batch=(_batch(6, 6, 2),), run=zoo.F32,
        ),
    ],
    ids=str,
)  # fmt: skip
def test_uses_of_kernels(case):
  zoo.check(case)
