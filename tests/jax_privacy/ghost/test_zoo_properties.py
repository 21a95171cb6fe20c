"""Ghost clipping of layers of shapes that nobody chose."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import pytest

from tests.support import zoo

# Hypothesis compiles each of its shapes.
pytestmark = pytest.mark.slow

_FEW = hypothesis.settings(
    derandomize=True,
    max_examples=8,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
_small = st.integers(1, 4)
_seed = st.integers(0, 99)


def _check(loss, params, batch, *, keep):
  zoo.check(
      zoo.Case(
          name="drawn",
          loss=loss,
          params=params,
          batch=batch,
          options={"keep_batch_dim": keep},
          # Given, since all gradients may be 0: an output of padding alone.
          clip_norm=1.0,
          runs=(),  # Float64 alone: a wrong index is wrong in every dtype.
      )
  )


@_FEW
@hypothesis.given(
    st.lists(_small, max_size=3), _small, _small, st.booleans(), _seed
)
def test_dense(positions, features, width, keep, seed):
  arrays = zoo.Arrays(seed)

  def loss(params, x):
    return zoo.readout(zoo.add_bias(x @ params["w"], params["b"]))

  params = {"w": arrays.normal(features, width), "b": arrays.normal(width)}
  # A lone example without any axis of positions is a vector.
  _check(loss, params, (arrays.batch(*positions, features),), keep=keep)


@st.composite
def _convolutions(draw):
  """Keyword arguments of a convolution, and the shapes of its operands."""
  rank = draw(st.integers(1, 3))
  each = lambda strategy: tuple(draw(strategy) for _ in range(rank))
  groups = draw(st.integers(1, 3))
  channels, filters = groups * draw(st.integers(1, 2)), groups * draw(_small)
  kernel, strides = each(st.integers(1, 3)), each(st.integers(1, 3))
  rhs_dilation = each(st.integers(1, 2))
  lhs_dilation = each(st.integers(1, 2))
  reach = [d * (k - 1) + 1 for d, k in zip(rhs_dilation, kernel, strict=True)]
  # At least as wide as the kernel, so that every padding leaves an output.
  space = [n + draw(st.integers(0, 3)) for n in reach]
  explicit = st.tuples(st.integers(0, 2), st.integers(0, 2))
  padding = draw(st.sampled_from(["SAME", "VALID", "explicit"]))
  if padding == "explicit" or max(lhs_dilation) > 1:
    padding = each(explicit)
  letters = "HWD"[:rank]
  first, last = f"NC{letters}", f"N{letters}C"
  kernels = [f"OI{letters}", f"{letters}IO", f"I{letters}O"]
  spec = (
      draw(st.sampled_from([first, last])),
      draw(st.sampled_from(kernels)),
      draw(st.sampled_from([first, last])),
  )
  sizes = dict(zip(letters, space, strict=True)) | {"C": channels}
  shape = [sizes[c] for c in spec[0] if c != "N"]
  sizes = dict(zip(letters, kernel, strict=True))
  sizes |= {"I": channels // groups, "O": filters}
  options = {
      "window_strides": strides,
      "padding": padding,
      "lhs_dilation": lhs_dilation,
      "rhs_dilation": rhs_dilation,
      "dimension_numbers": spec,
      "feature_group_count": groups,
  }
  return shape, [sizes[c] for c in spec[1]], options


@hypothesis.settings(_FEW, max_examples=12)
@hypothesis.given(_convolutions(), st.booleans(), _seed)
def test_convolution(convolution, keep, seed):
  shape, kernel, options = convolution
  arrays = zoo.Arrays(seed)

  def loss(w, x):
    x = x if keep else x[None]
    return zoo.readout(jax.lax.conv_general_dilated(x, w, **options))

  _check(loss, arrays.normal(*kernel), (arrays.batch(*shape),), keep=keep)


@_FEW
@hypothesis.given(
    st.lists(_small, max_size=2),
    _small,
    _small,
    st.sampled_from(["fill", "clip", "wrap"]),
    _seed,
)
def test_embedding(shape, vocabulary, width, mode, seed):
  arrays = zoo.Arrays(seed)
  ids = arrays.integers(-vocabulary, vocabulary + 1, 4, *shape)

  def loss(table, ids, y):
    rows = jnp.take(table, ids, axis=0, mode=mode, fill_value=0.0)
    return jnp.sum(jnp.sin(rows) * y)

  params = arrays.normal(vocabulary, width)
  _check(loss, params, (ids, arrays.batch(*shape, width)), keep=True)


@_FEW
@hypothesis.given(_small, st.integers(2, 5), _small, st.booleans(), _seed)
def test_tied(length, vocabulary, width, transposed, seed):
  arrays = zoo.Arrays(seed)

  def loss(table, ids, y):
    hidden = jnp.sin(table[ids])
    out = hidden @ table.T
    if transposed:
      out = jnp.swapaxes(table @ jnp.swapaxes(hidden, -1, -2), -1, -2)
    return jnp.sum(jnp.sin(out) * y)

  ids = arrays.integers(0, vocabulary, 4, length)
  y = arrays.batch(length, vocabulary)
  _check(loss, arrays.normal(vocabulary, width), (ids, y), keep=True)


@st.composite
def _einsums(draw):
  """A contraction of x and w over random axes, and their sizes."""
  roles = {
      "shared": draw(st.sampled_from(["", "g"])),
      "positions": draw(st.sampled_from(["", "s", "st"])),
      "contracted": draw(st.sampled_from(["i", "ij"])),
      "new": draw(st.sampled_from(["", "o", "op"])),
  }
  order = lambda *names: "".join(
      draw(st.permutations("".join(roles[n] for n in names)))
  )
  x = order("shared", "positions", "contracted")
  w = order("shared", "contracted", "new")
  y = order("shared", "positions", "new")
  return f"{x},{w}->{y}", {c: draw(_small) for c in "gstijop"}


@hypothesis.settings(_FEW, max_examples=12)
@hypothesis.given(_einsums(), _seed)
def test_einsum(contraction, seed):
  spec, sizes = contraction
  x, w = ([sizes[c] for c in s] for s in spec.split("->")[0].split(","))
  arrays = zoo.Arrays(seed)
  loss = lambda w, x: zoo.readout(jnp.einsum(spec, x, w))
  _check(loss, arrays.normal(*w), (arrays.batch(*x),), keep=False)
