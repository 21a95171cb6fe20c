"""The rules one by one: each part of a `Form` against its definition.

The oracles are Python loops over positions in NumPy's float64; they read an
equation's parameters as XLA's documents define them and use none of the
library's code. In float64 a term that is missing cannot pass for rounding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.ghost import graph, norms, patches, rules

_RNG = np.random.default_rng(20)
_NHWC = ("NHWC", "HWIO", "NHWC")
_NCHW = ("NCHW", "OIHW", "NCHW")


@pytest.fixture(autouse=True)
def _x64_compiled_quickly():
  # The algebra is tested, not LLVM.
  jax.config.update("jax_disable_most_optimizations", True)
  with jax.enable_x64(True):
    yield
  jax.config.update("jax_disable_most_optimizations", False)


def _sites(op, x, w, *, x_dtype="float64", dtype="float64"):
  """The sites of a loss that is a sum over op(x, w)'s outputs."""

  def loss(leaves, rows):
    return jnp.sum(jnp.sin(jnp.abs(op(rows[0], leaves[0])))), []

  shapes = [jax.ShapeDtypeStruct(w, dtype)], [jax.ShapeDtypeStruct(x, x_dtype)]
  return graph.split(loss, *shapes).sites


def _dot(x, w, dims, *, weight_first=False):
  def op(a, b):
    a, b = (b, a) if weight_first else (a, b)
    return jax.lax.dot_general(a, b, dims)

  return op, x, w, _of_dot, "float64"


def _conv(x, w, *, spec=_NHWC, padding="SAME", **options):
  options = {"window_strides": (1,) * (len(w) - 2), **options}
  op = functools.partial(
      jax.lax.conv_general_dilated,
      padding=padding, dimension_numbers=spec, **options,
  )  # fmt: skip
  return op, x, w, _of_conv, "float64"


def _take(ids, table, axis, mode, dtype="int32"):
  op = lambda x, w: jnp.take(w, x, axis=axis, mode=mode)
  return op, ids, table, functools.partial(_of_take, axis), dtype


def _of_dot(site, x, z):
  """Rows, cotangents, gradient: one product of two numbers at a time."""
  contracting, batch = site.eqn.params["dimension_numbers"]
  weight = site.weights[0].aval.shape
  shapes = (
      [x.shape, weight] if site.weight_operands == (1,) else [weight, x.shape]
  )
  free = [
      [i for i in range(len(shape)) if i not in (*contracting[k], *batch[k])]
      for k, shape in enumerate(shapes)
  ]
  w_at, x_at = site.weight_operands[0], site.data_operands[0]
  axes = (batch[x_at], free[x_at], contracting[x_at])
  sizes = [tuple(x.shape[i] for i in a) for a in axes]
  sizes.append(tuple(weight[i] for i in free[w_at]))
  groups, positions, inputs, outputs = (int(np.prod(s)) for s in sizes)
  rows = np.zeros((groups, positions, inputs))
  cotangents = np.zeros((groups, positions, outputs))
  grad = np.zeros(weight)

  def place(*parts):
    found = {i: n for part in parts for i, n in zip(*part, strict=True)}
    return tuple(found[i] for i in sorted(found))

  loops = [list(enumerate(np.ndindex(size))) for size in sizes]
  for s, at_s in loops[0]:
    for t, at_t in loops[1]:
      for p, at_p in loops[3]:
        out = (*at_s, *at_t, *at_p) if x_at == 0 else (*at_s, *at_p, *at_t)
        cotangents[s, t, p] = z[out]
        for d, at_d in loops[2]:
          x_from = zip(axes, (at_s, at_t, at_d), strict=True)
          w_axes = (batch[w_at], contracting[w_at], free[w_at])
          w_from = zip(w_axes, (at_s, at_d, at_p), strict=True)
          rows[s, t, d] = x[place(*x_from)]
          grad[place(*w_from)] += rows[s, t, d] * z[out]
  return rows, cotangents, grad


def _of_conv(site, x, z):
  """Rows, cotangents, gradient: one pixel and one tap at a time."""
  params, weight = site.eqn.params, site.weights[0].aval.shape
  numbers, groups = params["dimension_numbers"], params["feature_group_count"]
  x, z = np.transpose(x, numbers.lhs_spec), np.transpose(z, numbers.out_spec)
  num_out, num_in, *size = (weight[i] for i in numbers.rhs_spec)
  outs = num_out // groups
  grad = np.zeros((num_out, num_in, *size))
  pixels = list(np.ndindex(z.shape[0], *z.shape[2:]))
  rows = np.zeros((groups, len(pixels), int(np.prod(size)), num_in))
  cotangents = np.zeros((groups, len(pixels), outs))
  names = ("window_strides", "rhs_dilation", "lhs_dilation", "padding")
  windows = list(zip(*(params[name] for name in names), strict=True))
  for s in range(groups):
    ins, out = slice(s * num_in, (s + 1) * num_in), slice(
        s * outs, s * outs + outs
    )
    for t, (n, *at) in enumerate(pixels):
      cotangents[s, t] = z[(n, out, *at)]
      for k, tap in enumerate(np.ndindex(*size)):
        seen = [
            divmod(i * stride + j * dilation - low, spread)
            for i, j, (stride, dilation, spread, (low, _))
            in zip(at, tap, windows, strict=True)
        ]  # fmt: skip
        inside = zip(seen, x.shape[2:], strict=True)
        if all(rest == 0 and 0 <= i < n for (i, rest), n in inside):
          rows[s, t, k] = x[(n, ins, *(i for i, _ in seen))]
        grad[(out, slice(None), *tap)] += np.outer(
            cotangents[s, t], rows[s, t, k]
        )
  rows = rows.reshape(groups, len(pixels), -1)
  return rows, cotangents, np.transpose(grad, np.argsort(numbers.rhs_spec))


def _of_take(axis, site, x, z):
  """Rows, cotangents, gradient: one id at a time."""
  ids, table = x[..., 0].astype(np.int64), site.weights[0].aval.shape
  rows = np.zeros((1, ids.size, table[axis]))
  grad, cotangents = np.zeros(table), []
  before = (slice(None),) * axis
  is_clipped = site.eqn.params["mode"] == jax.lax.GatherScatterMode.CLIP
  for t, where in enumerate(np.ndindex(ids.shape)):
    row = ids[where]
    if is_clipped:
      row = min(max(row, 0), table[axis] - 1)
    cotangents.append(z[(*before, *where)].ravel())
    if 0 <= row < table[axis]:  # Others are read as a constant.
      rows[0, t, row] = 1
      grad[(*before, row)] += z[(*before, *where)]
  return rows, np.array(cotangents)[None], grad


_CASES = {
    "dense": _dot((4, 3), (3, 2), (((1,), (0,)), ((), ()))),
    "dense_one_position": _dot((3,), (3, 2), (((0,), (0,)), ((), ()))),
    "dense_to_one": _dot((4, 3), (3,), (((1,), (0,)), ((), ()))),
    "transposed": _dot((3, 4), (2, 3), (((0,), (1,)), ((), ()))),
    "weight_first": _dot(
        (4, 3), (2, 3), (((1,), (1,)), ((), ())), weight_first=True
    ),
    "two_contracted": _dot((3, 4, 2), (2, 5, 3), (((0, 2), (2, 0)), ((), ()))),
    "outer_product": _dot((2, 3), (4,), (((), ()), ((), ()))),
    "batch": _dot((2, 4, 3), (2, 3, 5), (((2,), (1,)), ((0,), (0,)))),
    "batch_last": _dot((4, 3, 2), (3, 5, 2), (((1,), (0,)), ((2,), (2,)))),
    "two_batch_weight_first": _dot(
        (3, 2, 4, 2), (2, 5, 4, 3),
        (((2,), (2,)), ((0, 3), (1, 0))), weight_first=True,
    ),
    "conv": _conv((1, 4, 3, 2), (3, 2, 2, 3)),
    "conv_pointwise": _conv((1, 3, 3, 2), (1, 1, 2, 3)),
    "conv_images": _conv((2, 3, 3, 2), (2, 2, 2, 2), padding="VALID"),
    "conv_strides": _conv((1, 6, 5, 2), (3, 2, 2, 2), window_strides=(2, 3)),
    "conv_rhs_dilation": _conv((1, 6, 5, 1), (3, 2, 1, 2), rhs_dilation=(2, 3)),
    "conv_lhs_dilation": _conv(
        (1, 3, 2, 2), (2, 3, 2, 2), lhs_dilation=(2, 3),
        padding=((1, 0), (0, 2)),
    ),
    "conv_negative_pads": _conv(
        (1, 6, 6, 2), (2, 3, 2, 2), padding=((-1, 1), (0, -2))
    ),
    "conv_everything": _conv(
        (1, 5, 4, 4), (2, 3, 2, 6), window_strides=(2, 1),
        padding=((2, -1), (-1, 3)), lhs_dilation=(1, 2), rhs_dilation=(2, 2),
        feature_group_count=2,
    ),
    "conv_depthwise": _conv((1, 3, 3, 3), (2, 2, 1, 6), feature_group_count=3),
    "conv_nchw_grouped": _conv(
        (1, 4, 3, 4), (6, 2, 2, 3), spec=_NCHW, feature_group_count=2
    ),
    "conv_odd_layout": _conv((4, 3, 2, 1), (2, 2, 3, 3),
                             spec=("HWCN", "IHWO", "CNWH")),
    "conv_1d": _conv((1, 7, 2), (3, 2, 2), spec=("NWC", "WIO", "NWC")),
    "conv_3d": _conv((1, 3, 2, 3, 2), (2, 2, 2, 2, 2), window_strides=(2, 1, 1),
                     spec=("NDHWC", "DHWIO", "NDHWC")),
    "take_clip": _take((2, 4), (5, 3), 0, "clip"),
    "take_fill": _take((6,), (5, 3), 0, "fill"),
    "take_one": _take((), (5, 3), 0, "clip"),
    "take_axis_1": _take((2, 3), (2, 5, 3), 1, "clip"),
    "take_axis_1_fill": _take((7,), (4, 5), 1, "fill"),
    "take_uint8": _take((9,), (5, 2), 0, "clip", "uint8"),
    "take_uint32_fill": _take((9,), (5, 2), 0, "fill", "uint32"),
}  # fmt: skip


def _operand(site):
  """Random x: floats, or ids on both sides of a table of five rows."""
  aval = site.data[0].aval
  if jnp.issubdtype(aval.dtype, jnp.floating):
    return _RNG.normal(size=aval.shape)
  ids = _RNG.integers(-3, 8, size=aval.shape)
  return ids.astype(aval.dtype)  # Below zero, unsigned: the largest ids.


def _check(name):
  op, x_shape, w_shape, oracle, x_dtype = _CASES[name]
  (site,) = _sites(op, x_shape, w_shape, x_dtype=x_dtype)
  form = rules.find(site)
  x = _operand(site)
  z = _RNG.normal(size=site.outputs[0].aval.shape)
  rows, cotangents, grad = oracle(site, x, z)
  groups, positions, inputs = rows.shape
  sizes = (
      form.num_groups,
      form.num_positions,
      form.num_inputs,
      form.num_outputs,
  )
  assert sizes == (groups, positions, inputs, cotangents.shape[-1])
  num_numbers = form.num_groups * form.num_inputs * form.num_outputs
  assert num_numbers == grad.size
  assert form.gradient_flops == 2 * positions * grad.size

  @jax.jit
  def run(x, z):
    zs, weight = form.cotangents(z), jnp.ones(w_shape)
    given = {
        "cotangents": zs,
        "gram": form.gram(x),
        "diagonal": form.diagonal(x),
        "input_sums": form.input_sums(x),
        "squared_norm": norms.squared_norm(form, x, zs),
        "gradient": form.gradient(x, z),
        "vjp": rules.generic_gradient(site, {}, [weight], [x], [z])[0],
    }
    if form.rows is not None:
      given["rows"] = form.rows(x)
    return given

  wanted = {
      "cotangents": cotangents,
      "gram": np.einsum("std,sud->stu", rows, rows),
      "diagonal": np.sum(rows**2, -1),
      "input_sums": np.sum(rows, -1),
      "squared_norm": np.sum(grad**2),
      "gradient": grad,
      "vjp": grad,
      "rows": rows,
  }
  for key, value in run(x, z).items():
    np.testing.assert_allclose(
        value, wanted[key], rtol=1e-12, atol=1e-12, err_msg=key
    )


@pytest.mark.few(10)
@pytest.mark.parametrize("name", list(_CASES))
def test_form(name):
  _check(name)


def _taps_moved_on(self, taps=patches.Layout._taps):
  """The kernel's pixels, moved on by one."""
  first, *rest = taps(self)
  return iter([*rest, first])


@pytest.mark.parametrize(
    "name, where, bug",
    [
        ("batch_last", (rules.dense.axes, "inverse"), tuple),
        ("conv", (patches.Layout, "_taps"), _taps_moved_on),
        (
            "take_clip",
            (rules.embedding, "_as_int32"),
            lambda x: x.astype("int32") + 1,
        ),
    ],
)
def test_a_planted_bug_is_seen(monkeypatch, name, where, bug):
  monkeypatch.setattr(*where, bug)
  with pytest.raises(AssertionError, match="gradient"):
    _check(name)
