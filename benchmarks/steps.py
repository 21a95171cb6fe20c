"""The steps that the clipping benchmark compares, and how to compile them.

Invariant: all steps of a workload take and return the same arrays, so that a
ratio of their times is the price of clipping and of nothing else.

>>> from benchmarks import models
>>> workload = models.build("mlp", batch_size=2)
>>> step_fn = make("none", workload, kind="grad", l2_clip_norm=1.0)
>>> loss, grads = step_fn(workload.params, *workload.batch)
>>> loss.shape, grads["layers"]["0"]["bias"].shape
((), (1024,))
"""

import dataclasses
import time
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jax_privacy
from benchmarks import models

METHODS = ("none", "vmap", "ghost")
# The method ghost, with `passes` said: what is not compared unless asked for.
PASSES = types.MappingProxyType({"one_pass": 1, "two_passes": 2})
KINDS = ("grad", "update")
_LEARNING_RATE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
  """A compiled step and what compiling it cost.

  Attributes:
    step: called as the step itself.
    trace_seconds: from the call to a jaxpr.
    compile_seconds: from the jaxpr to a program: lowering and XLA.
    temp_bytes: temporary memory, as XLA reports it for the program.
  """

  step: Callable[..., Any]
  trace_seconds: float
  compile_seconds: float
  temp_bytes: int


def make(
    method: str, workload: models.Workload, *, kind: str, l2_clip_norm: float
) -> Callable[..., tuple[jax.Array, Any]]:
  """Returns the step of one method, not yet jitted.

  Args:
    method: "none", for the ordinary gradient of the whole batch's mean loss,
      a method of `clipped_grad`, or a name of `PASSES`.
    workload: what is differentiated.
    kind: "grad" returns the gradient; "update" takes an SGD step with it.
    l2_clip_norm: of each example's gradient.

  Returns:
    `step_fn(params, inputs, labels)`, giving the mean loss, and the mean of
    the (clipped) gradients or the new parameters.
  """
  size = workload.batch[0].shape[0]
  if method == "none":
    mean_grad_fn = jax.value_and_grad(workload.loss)
  else:
    mean_grad_fn = _private(method, workload.loss, size, l2_clip_norm)
  if kind == "grad":
    return mean_grad_fn

  def step_fn(params, *batch):
    loss, grads = mean_grad_fn(params, *batch)
    return loss, jax.tree.map(_descend, params, grads)

  return step_fn


def _private(method, loss_fn, size, l2_clip_norm):
  clipped_grad_fn = jax_privacy.clipped_grad(
      loss_fn,
      l2_clip_norm=l2_clip_norm,
      normalize_by=float(size),
      batch_argnums=(1, 2),
      return_values=True,
      method="ghost" if method in PASSES else method,
      passes=PASSES.get(method),
  )

  def mean_grad_fn(params, *batch):
    grads, aux = clipped_grad_fn(params, *batch)
    return jnp.mean(aux.values), grads

  return mean_grad_fn


def _descend(param, grad):
  return param - (_LEARNING_RATE * grad).astype(param.dtype)


def compile_step(step_fn: Callable[..., Any], *args: Any) -> Compiled:
  """Compiles a step for its arguments, and times that."""
  start = time.perf_counter()
  traced = jax.jit(step_fn).trace(*args)
  middle = time.perf_counter()
  step = traced.lower().compile()
  end = time.perf_counter()
  return Compiled(
      step=step,
      trace_seconds=middle - start,
      compile_seconds=end - middle,
      temp_bytes=step.memory_analysis().temp_size_in_bytes,
  )
