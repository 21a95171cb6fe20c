"""Models of rows of a table: linear, MLP, and a ResNet-style MLP.

Invariant: a row's outputs depend on that row alone. Numbers [n, k] are floats,
scaled by public bounds; categories [n, c] are integers, column i's in [0,
category_sizes[i]). No layer normalises over rows.

>>> from flax import nnx
>>> model = TableMLP(
...     rngs=nnx.Rngs(0), num_outputs=2, num_numbers=3, category_sizes=(4, 2))
>>> rows = {"numbers": jnp.zeros((5, 3)), "categories": jnp.zeros((5, 2), int)}
>>> model(rows).shape
(5, 2)
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jax_privacy.models import checks, layers, masks

_NORMAL = jax.nn.initializers.normal
_ZEROS = jax.nn.initializers.zeros
_MAX_INPUTS = 2**24


class _Columns:
  """What the columns are: checked sizes, and where each category's rows are."""

  def __init__(self, num_numbers: int, category_sizes: Sequence[int]):
    if num_numbers != 0:
      checks.positive_int("num_numbers", num_numbers)
    sizes = tuple(category_sizes)
    self.sizes = checks.positive_ints(
        "category_sizes", sizes, length=len(sizes)
    )
    self.num_numbers = num_numbers
    if not 0 < self.num_numbers + sum(sizes) <= _MAX_INPUTS:
      raise ValueError(
          f"num_numbers and category_sizes must be 1 to {_MAX_INPUTS} together,"
          f" got {num_numbers} and {category_sizes!r}."
      )
    self.offsets = tuple(sum(sizes[:i]) for i in range(len(sizes)))

  def check(self, rows: Mapping[str, jax.Array]) -> None:
    """Refuses anything but a batch of rows of these columns."""
    wanted = {"numbers": self.num_numbers, "categories": len(self.sizes)}
    for name, size in wanted.items():
      if rows[name].ndim != 2 or rows[name].shape[1] != size:
        raise ValueError(
            f"{name} must be of shape [n, {size}], got"
            f" {list(rows[name].shape)}."
        )

  def ids(self, rows: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the rows of one table of all categories, int32 [n, c]."""
    offsets = jnp.asarray(self.offsets, jnp.int32)
    return rows["categories"].astype(jnp.int32) + offsets[None]


class TableLinear(nnx.Module):
  """A linear model: one weight a number, and one a category's value.

  It has (num_numbers + sum(category_sizes) + 1) x num_outputs parameters, all 0
  at first.

  Args:
    rngs: Source of the parameters' random keys, unused here.
    num_outputs: Number of outputs a row: of classes, or 1.
    num_numbers: Number of numbers a row.
    category_sizes: Number of values of each category.

  Raises:
    ValueError: If an option breaks its rule.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_outputs: int,
      num_numbers: int,
      category_sizes: Sequence[int] = (),
  ):
    num_outputs = checks.positive_int("num_outputs", num_outputs)
    self.columns = columns = _Columns(num_numbers, category_sizes)
    self.bias = nnx.Param(jnp.zeros(num_outputs, jnp.float32))
    if columns.num_numbers:
      self.numbers = nnx.Linear(
          columns.num_numbers,
          num_outputs,
          use_bias=False,
          kernel_init=_ZEROS,
          rngs=rngs,
      )
    if columns.sizes:
      self.categories = nnx.Embed(
          sum(columns.sizes), num_outputs, embedding_init=_ZEROS, rngs=rngs
      )

  def __call__(self, rows: Mapping[str, jax.Array]) -> jax.Array:
    """Returns outputs [n, num_outputs] of rows."""
    self.columns.check(rows)
    dtype = self.bias.dtype
    total = jnp.zeros((len(rows["numbers"]), len(self.bias)), dtype)
    if self.columns.num_numbers:
      total = total + self.numbers(rows["numbers"].astype(dtype))
    if self.columns.sizes:
      embedded = self.categories(self.columns.ids(rows))
      total = total + jnp.sum(embedded, axis=1)
    return total + self.bias[...][None]


class _Features(nnx.Module):
  """Joins numbers and embedded categories to one vector a row.

  Args:
    columns: Columns of the table.
    embedding_size: Features of a category's value.
    number_embedding_size: Features of a number, by a linear map of its own and
      a ReLU; None for the number itself.
    rngs: Source of the parameters' random keys.
  """

  def __init__(
      self,
      columns: _Columns,
      *,
      embedding_size: int,
      number_embedding_size: int | None,
      rngs: nnx.Rngs,
  ):
    size = checks.positive_int("embedding_size", embedding_size)
    self.columns, self.num_features = columns, columns.num_numbers
    if columns.num_numbers and number_embedding_size is not None:
      shape = (
          columns.num_numbers,
          checks.positive_int("number_embedding_size", number_embedding_size),
      )
      self.kernel = nnx.Param(_NORMAL(1.0)(rngs.params(), shape, jnp.float32))
      self.bias = nnx.Param(_NORMAL(1.0)(rngs.params(), shape, jnp.float32))
      self.num_features = shape[0] * shape[1]
    if columns.sizes:
      self.categories = nnx.Embed(
          sum(columns.sizes), size, embedding_init=_NORMAL(1.0), rngs=rngs
      )
      self.num_features += len(columns.sizes) * size

  def __call__(
      self, rows: Mapping[str, jax.Array], dtype: jnp.dtype
  ) -> jax.Array:
    """Returns features [n, num_features] of rows."""
    self.columns.check(rows)
    parts = []
    if self.columns.num_numbers:
      x = rows["numbers"].astype(dtype)
      if hasattr(self, "kernel"):
        x = jnp.expand_dims(x, 2) * self.kernel[...][None]
        x = jax.nn.relu(x + self.bias[...][None])
      parts.append(x)
    if self.columns.sizes:
      parts.append(self.categories(self.columns.ids(rows)))
    # Not -1, which an empty batch leaves undetermined.
    flat = [x.reshape(len(x), math.prod(x.shape[1:])) for x in parts]
    return jnp.concatenate(flat, axis=1)


class TableMLP(nnx.Module):
  """Linear layers with ReLU between, on numbers and embedded categories.

  With f = num_numbers + embedding_size x len(category_sizes) inputs, it has
  embedding_size x sum(category_sizes) parameters of embeddings, and for each
  layer from a to b features (a + 1) x b.

  Args:
    rngs: Source of the parameters' random keys.
    num_outputs: Number of outputs a row: of classes, or 1.
    num_numbers: Number of numbers a row.
    category_sizes: Number of values of each category.
    hidden_sizes: Numbers of features of the hidden layers.
    embedding_size: Features of a category's value.
    dropout_rate: Rate behind each hidden layer; masks are by keys.

  Raises:
    ValueError: If an option breaks its rule.
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_outputs: int,
      num_numbers: int,
      category_sizes: Sequence[int] = (),
      hidden_sizes: Sequence[int] = (64, 64),
      embedding_size: int = 8,
      dropout_rate: float = 0.0,
  ):
    num_outputs = checks.positive_int("num_outputs", num_outputs)
    hidden = checks.positive_ints(
        "hidden_sizes", hidden_sizes, length=len(tuple(hidden_sizes))
    )
    self.dropout_rate = checks.rate("dropout_rate", dropout_rate)
    self.features = _Features(
        _Columns(num_numbers, category_sizes),
        embedding_size=embedding_size,
        number_embedding_size=None,
        rngs=rngs,
    )
    sizes = (self.features.num_features, *hidden)
    self.hidden = nnx.List(
        [
            nnx.Linear(sizes[i], sizes[i + 1], rngs=rngs)
            for i in range(len(hidden))
        ]
    )
    self.head = nnx.Linear(sizes[-1], num_outputs, rngs=rngs)

  def __call__(
      self, rows: Mapping[str, jax.Array], keys: jax.Array | None = None
  ) -> jax.Array:
    """Returns outputs [n, num_outputs] of rows, with a key each for dropout."""
    masks.check_keys(keys, num_images=len(rows["numbers"]))
    x = self.features(rows, self.head.kernel.dtype)
    for i, layer in enumerate(self.hidden):
      x = jax.nn.relu(layer(x))
      x = masks.dropout(x, keys, rate=self.dropout_rate, layer=i)
    return self.head(x)


class _Block(nnx.Module):
  """x + linear(dropout(relu(linear(norm(x)))))."""

  def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
    # Of one group: layer normalisation, over the features of a row.
    self.norm = layers.GroupNorm(width, num_groups=1)
    self.linear_0 = nnx.Linear(width, hidden, rngs=rngs)
    self.linear_1 = nnx.Linear(hidden, width, rngs=rngs)

  def __call__(self, x, keys, *, rate, layer):
    y = jax.nn.relu(self.linear_0(self.norm(x)))
    y = masks.dropout(y, keys, rate=rate, layer=layer)
    return x + self.linear_1(y)


class TableResNet(nnx.Module):
  """A residual MLP on embeddings of numbers and of categories.

  With e = embedding_size, k = num_numbers, c = len(category_sizes), w = width
  and h = hidden_size it has e x (2 k + sum(category_sizes)) parameters of
  embeddings; (e (k + c) + 1) w of the first layer; 2 w + (w + 1) h + (h + 1) w
  a block; and 2 w + (w + 1) num_outputs of the head.

  Args:
    rngs: Source of the parameters' random keys.
    num_outputs: Number of outputs a row: of classes, or 1.
    num_numbers: Number of numbers a row.
    category_sizes: Number of values of each category.
    width: Features between blocks.
    hidden_size: Features inside a block.
    num_blocks: Residual blocks.
    embedding_size: Features of a number, and of a category's value.
    dropout_rate: Rate inside each block; masks are by keys.

  Raises:
    ValueError: If an option breaks its rule.

  Source: Gorishniy et al. 2021 (arXiv 2106.11959), section 3.2, with layer
  normalisation where they have BatchNorm, which mixes rows; the embeddings of
  numbers, a linear map and a ReLU each, are Gorishniy et al. 2022's
  (2203.05556).
  """

  def __init__(
      self,
      *,
      rngs: nnx.Rngs,
      num_outputs: int,
      num_numbers: int,
      category_sizes: Sequence[int] = (),
      width: int = 64,
      hidden_size: int = 128,
      num_blocks: int = 2,
      embedding_size: int = 8,
      dropout_rate: float = 0.0,
  ):
    num_outputs = checks.positive_int("num_outputs", num_outputs)
    width = checks.positive_int("width", width)
    hidden = checks.positive_int("hidden_size", hidden_size)
    self.dropout_rate = checks.rate("dropout_rate", dropout_rate)
    self.features = _Features(
        _Columns(num_numbers, category_sizes),
        embedding_size=embedding_size,
        number_embedding_size=embedding_size,
        rngs=rngs,
    )
    self.stem = nnx.Linear(self.features.num_features, width, rngs=rngs)
    self.blocks = nnx.List(
        [
            _Block(width, hidden, rngs=rngs)
            for _ in range(checks.positive_int("num_blocks", num_blocks))
        ]
    )
    self.norm = layers.GroupNorm(width, num_groups=1)
    self.head = nnx.Linear(width, num_outputs, rngs=rngs)

  def __call__(
      self, rows: Mapping[str, jax.Array], keys: jax.Array | None = None
  ) -> jax.Array:
    """Returns outputs [n, num_outputs] of rows, with a key each for dropout."""
    masks.check_keys(keys, num_images=len(rows["numbers"]))
    x = self.stem(self.features(rows, self.head.kernel.dtype))
    for i, block in enumerate(self.blocks):
      x = block(x, keys, rate=self.dropout_rate, layer=i)
    return self.head(jax.nn.relu(self.norm(x)))
