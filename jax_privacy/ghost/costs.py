"""Which of three plans a component gets: the one place where time is guessed.

  ghost: norms from Gram matrices; then one batched weight gradient of the
    scaled cotangents. Only for one weight, with a form, through a transform
    that keeps the norm known.
  keep: make every example's gradient, keep it, contract it with the factors.
  redo: make every example's gradient for its norm alone; then as ghost. On a
    CPU one example's at a time, of sites with several positions. On a GPU, and
    of other sites, all at once: unless XLA fuses making with squaring (not
    run), it takes as much memory as keep until the norms are known, and `kept`
    does not bound that. `microbatch_size` does.

The rates below were fitted to runs of single rules (float32, batch 32): see
docs/performance.md for the runs. They are right to a factor of two or so, which
is enough to rank the plans where it matters.

The invariant: the choice changes time and memory, never a result.

Example:
  >>> from jax_privacy.ghost import costs
  >>> sorted(costs.RATES)
  ['cpu', 'gpu']
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax

from jax_privacy.ghost import components, rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
  """What a platform does in a second.

  Attributes:
    gram: Multiplications and additions in Gram matrices.
    gradient: Multiplications and additions in one example's gradients, one
      after the other.
    batched_gradient: Multiplications and additions in a batch's gradient.
    moved: Bytes of per-example gradients written and read again.
    kept: Most bytes of per-example gradients to keep of one component that
      could only be made again. (The vmap method keeps those of all.)
    launched: Seconds that one more operation takes, however small.
  """

  gram: float
  gradient: float
  batched_gradient: float
  moved: float
  kept: float
  launched: float


RATES = {
    # Measured on 2 CPU cores.
    "cpu": Rates(
        gram=300e9,
        gradient=180e9,
        batched_gradient=250e9,
        moved=3e9,
        kept=2e9,
        launched=2e-5,
    ),
    # Not measured: float32 and memory peaks of an H200's data sheet, halved.
    "gpu": Rates(
        gram=30e12,
        gradient=30e12,
        batched_gradient=30e12,
        moved=1.2e12,
        kept=8e9,
        launched=5e-6,
    ),
}


class Cost(NamedTuple):
  """What a plan costs for one example.

  Attributes:
    seconds: Seconds of what differs between plans, at a platform's rates;
      infinity if the plan is ruled out.
    flops: Multiplications and additions for the norm and for the example's part
      of the sum.
    num_bytes: Bytes of the largest array: the gradient, or two Gram matrices.
  """

  seconds: float
  flops: float
  num_bytes: float


def choose(
    component: components.Component,
    forms: Sequence[rules.Form | None],
    *,
    batch_size: int,
    has_path: bool,
    has_closed_norm: bool,
    platform: str | None = None,
) -> str:
  """Returns "ghost", "keep" or "redo".

  Args:
    component: The component.
    forms: Its sites' forms.
    batch_size: Examples at a time.
    has_path: Whether norms survive from weights to parameters; if not, "redo"
      makes every gradient twice.
    has_closed_norm: Whether "ghost" is possible.
    platform: Name of the platform, "cpu" or "gpu"; None for JAX's default.
  """
  costs = estimate(
      component,
      forms,
      batch_size=batch_size,
      has_path=has_path,
      has_closed_norm=has_closed_norm,
      platform=platform,
  )
  return min(costs, key=lambda plan: costs[plan].seconds)


def estimate(
    component: components.Component,
    forms: Sequence[rules.Form | None],
    *,
    batch_size: int,
    has_path: bool,
    has_closed_norm: bool,
    generic_flops: float = 0.0,
    platform: str | None = None,
) -> dict[str, Cost]:
  """Returns what each possible plan costs for one example.

  Args:
    component: The component.
    forms: Its sites' forms.
    batch_size: Examples at a time.
    has_path: Whether norms survive from weights to parameters.
    has_closed_norm: Whether "ghost" is possible.
    generic_flops: Flops of the gradients of sites without a form. They change
      no choice: there is no path then, and memory decides.
    platform: Name of the platform; see `choose`.
  """
  rates = _rates(platform)
  size = 4.0 * sum(math.prod(var.aval.shape) for var in component.weights)
  flops = sum(form.gradient_flops for form in forms if form is not None)
  made = flops + generic_flops
  if not has_path:
    is_kept = batch_size * size <= rates.kept
    return {
        "keep": Cost(0.0 if is_kept else math.inf, made + size / 2, size),
        "redo": Cost(1.0, 2 * made + size / 2, size),
    }
  batched = flops / rates.batched_gradient + rates.launched / batch_size
  seconds = flops / rates.gradient
  costs = {
      "keep": Cost(seconds + size / rates.moved, made + size / 2, size),
      "redo": Cost(seconds + batched, 2 * flops, size),
  }
  if has_closed_norm:
    gram = sum(map(_gram_flops, forms))
    costs["ghost"] = Cost(
        batched + gram / rates.gram, gram + flops, sum(map(_gram_bytes, forms))
    )
  return costs


def _rates(platform):
  return RATES.get(platform or jax.default_backend(), RATES["gpu"])


def _gram_bytes(form):
  if form.num_positions == 1:
    return 8.0 * form.num_groups
  return 8.0 * form.num_groups * form.num_positions**2


def _gram_flops(form):
  if form.num_positions == 1:
    return 2.0 * form.num_groups * (form.num_inputs + form.num_outputs)
  # Some 10 passes over the two Gram matrices, at 10 flops a number.
  per_pair = 2 * form.num_outputs + 100
  return form.gram_flops + form.num_groups * form.num_positions**2 * per_pair
