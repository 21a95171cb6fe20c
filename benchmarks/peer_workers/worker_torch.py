"""Serves steps of PyTorch, plain and with Opacus.

  python worker_torch.py THREADS

Methods: "none" (the gradient of the mean), "hooks" (per-example gradients by
`GradSampleModule`, clipped and summed by `DPOptimizer`), "ghost"
(`GradSampleModuleFastGradientClipping`, whose loss runs two backward passes).
Eager, as Opacus runs. No noise is added.
"""

import importlib.metadata
import sys

import opacus
import peer_networks
import peer_networks_torch
import peer_protocol
import torch
from opacus import grad_sample, optimizers
from opacus.utils import fast_gradient_clipping_utils
from torch import nn


def make(name: str, method: str, batch_size: int) -> peer_protocol.Contestant:
  """Returns the step of that network and method.

  Args:
    name: a network that `peer_networks_torch.build` knows.
    method: see above.
    batch_size: examples.
  """
  module = peer_networks_torch.build(name)
  clip_norm = peer_networks.NETWORKS[name].clip_norm
  inputs, labels = peer_networks_torch.batch(name, batch_size=batch_size)
  steps = {"none": _plain, "hooks": _hooks, "ghost": _ghost}
  parameters = {
      key: module.get_parameter(peer_networks_torch.torch_name(key))
      for key in peer_networks.NETWORKS[name].shapes
  }
  step, attribute = steps[method](module, inputs, labels, clip_norm)
  return peer_protocol.Contestant(
      step=step,
      wait=lambda result: result,
      leaf_norms=lambda _: {
          key: float(getattr(p, attribute).double().norm())
          for key, p in parameters.items()
      },
      num_parameters=sum(p.numel() for p in module.parameters()),
  )


def _mean_loss(logits, labels):
  return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def _plain(module, inputs, labels, clip_norm):
  del clip_norm

  def step():
    module.zero_grad()
    _mean_loss(module(inputs), labels).backward()

  return step, "grad"


def _optimizer(kind, module, batch_size, clip_norm):
  """Opacus' optimizer; its steps are not run, so neither is its noise."""
  return kind(
      torch.optim.SGD(module.parameters(), lr=0.0),
      noise_multiplier=0.0,
      max_grad_norm=clip_norm,
      expected_batch_size=batch_size,
  )


def _hooks(module, inputs, labels, clip_norm):
  module = grad_sample.GradSampleModule(module)
  optimizer = _optimizer(optimizers.DPOptimizer, module, len(inputs), clip_norm)

  def step():
    optimizer.zero_grad()
    _mean_loss(module(inputs), labels).backward()
    optimizer.clip_and_accumulate()

  return step, "summed_grad"


def _ghost(module, inputs, labels, clip_norm):
  module = grad_sample.GradSampleModuleFastGradientClipping(
      module, max_grad_norm=clip_norm, use_ghost_clipping=True
  )
  kind = optimizers.DPOptimizerFastGradientClipping
  optimizer = _optimizer(kind, module, len(inputs), clip_norm)
  criterion = fast_gradient_clipping_utils.DPLossFastGradientClipping(
      module, optimizer, nn.CrossEntropyLoss()
  )

  def step():
    optimizer.zero_grad()
    logits = module(inputs)
    # `shape` makes the losses of a text's words one example's.
    shape = logits.shape if logits.ndim == 3 else None
    flat = logits.flatten(0, -2)
    criterion(flat, labels.flatten(), shape=shape).backward()

  return step, "grad"


def _facts(threads):
  torch.set_num_threads(threads)
  version = importlib.metadata.version
  return {
      "versions": {p: version(p) for p in ("opacus", "torch")},
      "threads": torch.get_num_threads(),
      "imported_from": opacus.__path__[0],
  }


if __name__ == "__main__":
  peer_protocol.serve(_facts(int(sys.argv[1])), make)
