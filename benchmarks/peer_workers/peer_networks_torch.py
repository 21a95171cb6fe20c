"""The networks of `peer_networks` as PyTorch modules that Opacus accepts.

Layers are torch's own, since Opacus has a rule for each of these. Invariant:
after `build`, a module computes what the JAX loss of the same name does.
"""

import peer_networks
import torch
from torch import nn
from torch.nn import functional as F


def build(name: str) -> nn.Module:
  """Returns the module, holding the values of `peer_networks.parameters`.

  Args:
    name: "wrn", "transformer" or "mlp".
  """
  module = {"wrn": _WRN, "transformer": _Transformer, "mlp": _MLP}[name]()
  values = peer_networks.parameters(peer_networks.NETWORKS[name])
  state = {
      torch_name(key): torch.from_numpy(_layout(key, value).copy())
      for key, value in values.items()
  }
  module.load_state_dict(state, strict=True)
  return module


def torch_name(name: str) -> str:
  """Returns PyTorch's name of a parameter."""
  *path, kind = name.split("/")
  return ".".join([*path, "bias" if kind == "bias" else "weight"])


def batch(name: str, *, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
  """Returns inputs, images as [n, channels, height, width], and labels.

  Args:
    name: as for `build`.
    batch_size: examples.
  """
  network = peer_networks.NETWORKS[name]
  inputs, labels = peer_networks.batch(network, batch_size=batch_size)
  if inputs.ndim == 4:
    inputs = inputs.transpose(0, 3, 1, 2).copy()
  elif network.of_words:
    inputs = inputs.astype("int64")
  return torch.from_numpy(inputs), torch.from_numpy(labels.astype("int64"))


def _layout(name, value):
  """[in, out] to [out, in]; [height, width, in, out] to [out, in, h, w]."""
  if not name.endswith("/kernel"):
    return value
  return value.T if value.ndim == 2 else value.transpose(3, 2, 0, 1)


class _MLP(nn.Module):

  def __init__(self):
    super().__init__()
    shapes = peer_networks.NETWORKS["mlp"].shapes
    for i in range(peer_networks.NUM_DENSE):
      name = f"dense_{i}"
      self.add_module(name, nn.Linear(*shapes[f"{name}/kernel"]))

  def forward(self, x):
    for i, layer in enumerate(self.children()):
      x = layer(F.relu(x) if i else x)
    return x


def _group_norm(features):
  return nn.GroupNorm(
      peer_networks.NUM_GROUPS, features, eps=peer_networks.NORM_EPSILON
  )


class _Unit(nn.Module):
  """ReLU, GroupNorm, convolution."""

  def __init__(self, d_in, d_out, size, stride):
    super().__init__()
    self.norm = _group_norm(d_in)
    self.conv = nn.Conv2d(d_in, d_out, size, stride, padding=size // 2)

  def forward(self, x):
    return self.conv(self.norm(F.relu(x)))


class _Block(nn.Module):

  def __init__(self, block):
    super().__init__()
    self.project = block.project
    for name, d_in, size, stride in block.convs():
      unit = _Unit(d_in, block.d_out, size, stride)
      self.add_module(name.split("/")[-1], unit)

  def forward(self, x):
    shortcut = self.shortcut(x) if self.project else x
    return shortcut + self.unit_1(self.unit_0(x))


class _WRN(nn.Module):

  def __init__(self):
    super().__init__()
    self.stem = nn.Conv2d(3, 16, 3, padding=1)
    self.names = []
    for block in peer_networks.wrn_blocks():
      self.add_module(block.name, _Block(block))
      self.names.append(block.name)
    self.norm = _group_norm(256)
    self.head = nn.Linear(256, 10)

  def forward(self, x):
    x = self.stem(x)
    for name in self.names:
      x = getattr(self, name)(x)
    x = self.norm(F.relu(x))
    return self.head(x.mean(dim=(2, 3)))


class _Layer(nn.Module):
  """Causal self-attention and an MLP, each beside a shortcut."""

  def __init__(self, width, hidden):
    super().__init__()
    self.norm_0 = nn.LayerNorm(width, eps=peer_networks.NORM_EPSILON)
    self.qkv = nn.Linear(width, 3 * width)
    self.out = nn.Linear(width, width)
    self.norm_1 = nn.LayerNorm(width, eps=peer_networks.NORM_EPSILON)
    self.expand = nn.Linear(width, hidden)
    self.contract = nn.Linear(hidden, width)

  def forward(self, x):
    x = x + self.out(self._mixed(self.qkv(self.norm_0(x))))
    y = F.gelu(self.expand(self.norm_1(x)), approximate="tanh")
    return x + self.contract(y)

  def _mixed(self, qkv):
    n, length, _ = qkv.shape
    qkv = qkv.view(n, length, 3, peer_networks.NUM_HEADS, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return y.transpose(1, 2).reshape(n, length, -1)


class _Transformer(nn.Module):

  def __init__(self):
    super().__init__()
    shapes = peer_networks.NETWORKS["transformer"].shapes
    width, hidden = shapes["block_0/expand/kernel"]
    self.words = nn.Embedding(*shapes["words/table"])
    # A table looked up, since Opacus refuses a bare parameter.
    self.positions = nn.Embedding(*shapes["positions/table"])
    self.names = [f"block_{i}" for i in range(peer_networks.NUM_LAYERS)]
    for name in self.names:
      self.add_module(name, _Layer(width, hidden))
    self.norm = nn.LayerNorm(width, eps=peer_networks.NORM_EPSILON)
    self.head = nn.Linear(width, peer_networks.NUM_WORDS)

  def forward(self, words):
    # Repeated, not expanded: Opacus' rule for tables wants it contiguous.
    positions = torch.arange(words.shape[1]).repeat(len(words), 1)
    x = self.words(words) + self.positions(positions)
    for name in self.names:
      x = getattr(self, name)(x)
    return self.head(self.norm(x))
