"""The networks that every library runs: names, shapes and values, in NumPy.

Run by workers in environments of their own, so nothing here is imported from
this project. Invariant: parameters and batches depend on the arguments alone,
so that each library starts from the same numbers and its clipped sums can be
compared with another's.

>>> network = NETWORKS["mlp"]
>>> network.num_parameters
1863690
>>> sorted(parameters(network))[:2]
['dense_0/bias', 'dense_0/kernel']
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

NUM_GROUPS = 16
NORM_EPSILON = 1e-5
NUM_HEADS = 4
NUM_LAYERS = 4
NUM_WORDS = 1000
LENGTH = 128
_WIDTH = 256
_HIDDEN = 1024
_MLP_WIDTHS = (784, 1024, 1024, 10)
NUM_DENSE = len(_MLP_WIDTHS) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """One network and the batch it is timed on.

  Attributes:
    shapes: parameter name to shape; kernels are [..., in, out].
    batch_size: examples, unless the caller says otherwise.
    clip_norm: near the middle of the examples' gradient norms at the start, so
      that some are clipped and some are not.
    input_shape: of one example.
    num_classes: logits a label.
    of_words: whether inputs are words, with a label for each.
    in_torch: whether `peer_networks_torch` has it too.
  """

  shapes: Mapping[str, tuple[int, ...]]
  batch_size: int
  clip_norm: float
  input_shape: tuple[int, ...]
  num_classes: int
  of_words: bool = False
  in_torch: bool = True

  @property
  def num_parameters(self) -> int:
    """Numbers in all parameters together."""
    return sum(math.prod(shape) for shape in self.shapes.values())


@dataclasses.dataclass(frozen=True)
class Block:
  """A residual block of WRN-16-4; the first of a stage has a 1x1 shortcut."""

  name: str
  d_in: int
  d_out: int
  stride: int
  project: bool

  def convs(self) -> Iterator[tuple[str, int, int, int]]:
    """Yields (name, input channels, pixels a side, stride) of each unit."""
    if self.project:
      yield f"{self.name}/shortcut", self.d_in, 1, self.stride
    yield f"{self.name}/unit_0", self.d_in, 3, self.stride
    yield f"{self.name}/unit_1", self.d_out, 3, 1


def wrn_blocks() -> Iterator[Block]:
  """Yields the six blocks: two in each of three stages."""
  d_in = 16
  for stage, (d_out, stride) in enumerate(((64, 1), (128, 2), (256, 2))):
    for i in range(2):
      first = i == 0
      name = f"block_{2 * stage + i}"
      yield Block(name, d_in, d_out, stride if first else 1, first)
      d_in = d_out


def _dense(name, d_in, d_out):
  return {f"{name}/kernel": (d_in, d_out), f"{name}/bias": (d_out,)}


def _norm(name, features):
  return {f"{name}/scale": (features,), f"{name}/bias": (features,)}


def _conv(name, d_in, d_out, size, standardised):
  shapes = {f"{name}/kernel": (size, size, d_in, d_out)}
  if standardised:
    shapes[f"{name}/gain"] = (d_out,)
  return shapes | {f"{name}/bias": (d_out,)}


def _wrn_shapes(standardised):
  shapes = _conv("stem", 3, 16, 3, standardised)
  for block in wrn_blocks():
    for name, d_in, size, _ in block.convs():
      shapes |= _norm(f"{name}/norm", d_in)
      shapes |= _conv(f"{name}/conv", d_in, block.d_out, size, standardised)
  return shapes | _norm("norm", 256) | _dense("head", 256, 10)


def _transformer_shapes():
  shapes = {"words/table": (NUM_WORDS, _WIDTH)}
  shapes["positions/table"] = (LENGTH, _WIDTH)
  for i in range(NUM_LAYERS):
    shapes |= _norm(f"block_{i}/norm_0", _WIDTH)
    shapes |= _dense(f"block_{i}/qkv", _WIDTH, 3 * _WIDTH)
    shapes |= _dense(f"block_{i}/out", _WIDTH, _WIDTH)
    shapes |= _norm(f"block_{i}/norm_1", _WIDTH)
    shapes |= _dense(f"block_{i}/expand", _WIDTH, _HIDDEN)
    shapes |= _dense(f"block_{i}/contract", _HIDDEN, _WIDTH)
  return shapes | _norm("norm", _WIDTH) | _dense("head", _WIDTH, NUM_WORDS)


def _mlp_shapes():
  shapes = {}
  for i in range(NUM_DENSE):
    shapes |= _dense(f"dense_{i}", *_MLP_WIDTHS[i : i + 2])
  return shapes


_IMAGES = {"batch_size": 32, "input_shape": (32, 32, 3), "num_classes": 10}
NETWORKS: Mapping[str, Network] = {
    "wrn": Network(shapes=_wrn_shapes(False), clip_norm=18.8, **_IMAGES),
    "wrn_ws": Network(
        shapes=_wrn_shapes(True), clip_norm=18.4, in_torch=False, **_IMAGES
    ),
    "transformer": Network(
        shapes=_transformer_shapes(),
        batch_size=32,
        clip_norm=7.2,
        input_shape=(LENGTH,),
        num_classes=NUM_WORDS,
        of_words=True,
    ),
    "mlp": Network(
        shapes=_mlp_shapes(),
        batch_size=256,
        clip_norm=25.0,
        input_shape=(_MLP_WIDTHS[0],),
        num_classes=_MLP_WIDTHS[-1],
    ),
}


def parameters(network: Network) -> dict[str, np.ndarray]:
  """Returns float32 parameters by name, no bias zero and no scale one.

  Args:
    network: whose shapes to fill.

  Returns:
    Kernels of variance 1 / fan-in, tables of deviation 0.02, scales and gains
    about one, biases about zero.
  """
  rng = np.random.default_rng(0)
  values = {}
  for name, shape in network.shapes.items():
    kind = name.rsplit("/", 1)[-1]
    noise = rng.standard_normal(shape, np.float32)
    if kind == "kernel":
      values[name] = noise * np.float32(math.prod(shape[:-1]) ** -0.5)
    elif kind == "table":
      values[name] = noise * np.float32(0.02)
    else:
      offset = np.float32(kind != "bias")
      values[name] = noise * np.float32(0.05) + offset
  return values


def batch(
    network: Network, *, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns inputs [batch_size, *input_shape] and int32 labels.

  Args:
    network: what the batch is for.
    batch_size: examples.

  Returns:
    Normal images (height, width, channels) or features, float32, of scales
    from 1/2 to 2 so that gradient norms differ, with labels [batch_size]; or
    words and the words that follow them, both [batch_size, LENGTH].
  """
  rng = np.random.default_rng(1)
  if network.of_words:
    size = (batch_size, LENGTH + 1)
    words = rng.integers(NUM_WORDS, size=size).astype(np.int32)
    return words[:, :-1].copy(), words[:, 1:].copy()
  inputs = rng.standard_normal((batch_size, *network.input_shape), np.float32)
  scale = np.geomspace(0.5, 2.0, batch_size, dtype=np.float32)
  inputs *= scale.reshape((-1,) + (1,) * len(network.input_shape))
  labels = rng.integers(network.num_classes, size=batch_size)
  return inputs, labels.astype(np.int32)
