"""What `make_private` returns: three parts that belong together.

The invariant: it is a tuple of the sampler, the gradient function and the
optimiser, whatever else it knows.

Example:
  >>> from jax_privacy import private_training
  >>> names = "sampler", "grad_fn", "optimizer"
  >>> parts = private_training.PrivateTraining(*names)
  >>> sampler, grad_fn, optimizer = parts
  >>> parts.grad_fn, parts.plan
  ('grad_fn', None)
"""

import dataclasses
from typing import Any, NamedTuple

import optax

from jax_privacy import (
    _validate,
    batch_selection,
    contracts,
    quantile_clipping,
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run does, in public numbers.

  Attributes:
    mechanism: Mechanism of the run.
    l2_clip_norm: Largest L2 norm of an example's gradient: a number or a pytree
      of them.
    noise_stddev: Standard deviation of the independent noise of each coordinate
      of what the optimiser sees. Correlated noise is made from it, and a step's
      has a larger one.
    delta: Delta of the guarantee, where `make_private` was given it, or None.
    shares: Factors of gradients and of the count that moves the clip norm, of
      which `l2_clip_norm` is then the first; None if it is fixed.
  """

  mechanism: contracts.MechanismLike
  l2_clip_norm: Any
  noise_stddev: float
  delta: float | None = None
  shares: quantile_clipping.Shares | None = None


class _Parts(NamedTuple):
  sampler: batch_selection.PaddedBatches
  grad_fn: contracts.GradFn
  optimizer: optax.GradientTransformation


class PrivateTraining(_Parts):
  """Sampler, gradient function and optimiser of one run; see `make_private`.

  Attributes:
    sampler: `sampler.batch(step)` and iteration give a `PaddedBatch` each.
    grad_fn: A `clipped_grad` of the examples that `batch.take` returns,
      called as `GradFn` says. It refuses a call without
      `is_padding_example=batch.is_padding_example`.
    optimizer: Noise, then the given optimiser.
    plan: Plan of the run; None where it is not private.
  """

  plan: Plan | None = None

  def with_plan(self, plan: Plan | None) -> "PrivateTraining":
    """Returns the same three parts with a plan.

    Args:
      plan: Plan of the run.
    """
    made = PrivateTraining(*self)
    made.plan = plan
    return made

  def _replace(self, **changes: Any) -> "PrivateTraining":
    """Returns a copy in which some of the three parts are others.

    Args:
      **changes: New parts by their names.
    """
    parts = _Parts(*self)._replace(**changes)
    return PrivateTraining(*parts).with_plan(self.plan)

  def step_options(self, state: Any) -> dict[str, Any]:
    """Returns what `grad_fn` must be called with in a step, by name.

    Args:
      state: State of `optimizer` before the step.

    Returns:
      The clip norm, where it adapts; nothing otherwise.
    """
    if self.plan is None or self.plan.shares is None:
      return {}
    return {"clip_norm": quantile_clipping.clip_norm_of(state)}

  def sums_like(self, params: Any) -> Any:
    """Returns a pytree of the structure and shapes of what `grad_fn` sums.

    Args:
      params: Parameters, arrays or shapes.
    """
    if self.plan is None or self.plan.shares is None:
      return params
    return quantile_clipping.sums_like(params)

  @property
  def mechanism(self) -> contracts.MechanismLike:
    """Mechanism of the run.

    Raises:
      ValueError: If the run is not private.
    """
    return self._plan().mechanism

  def epsilon(
      self, step: int | None = None, *, delta: float | None = None
  ) -> float:
    """Returns the epsilon of the first steps.

    Args:
      step: Number of updates made so far, in [0, num_steps]; None for all.
      delta: Delta of the guarantee; None for the one that `make_private` was
        given.

    Returns:
      An upper bound, by the mechanism's own accountant; 0 for no update.

    Raises:
      ValueError: If an argument breaks its rule, or the mechanism has no
        accountant, as an `accounting.Mechanism` has.
    """
    plan = self._plan()
    delta = plan.delta if delta is None else delta
    if delta is None:
      rule = "given here where make_private was given none"
      _validate.fail("delta", rule, delta)
    mechanism: Any = plan.mechanism
    if not all(hasattr(mechanism, n) for n in ("epsilon", "with_num_steps")):
      rule = "an accounting.Mechanism, which knows its epsilon"
      _validate.fail("mechanism", rule, mechanism)
    last = mechanism.num_steps
    step = last if step is None else _validate.integer("step", step, at_least=0)
    if step > last:
      _validate.fail("step", f"at most num_steps = {last}", step)
    if step == 0:
      return 0.0
    return mechanism.with_num_steps(step).epsilon(delta=delta)

  def _plan(self) -> Plan:
    if self.plan is None:
      rule = "one that make_private returned (it has no plan, and no guarantee)"
      _validate.fail("private", rule, self)
    return self.plan

  def __repr__(self) -> str:
    plan = self.plan
    if plan is None:
      return "PrivateTraining(without a plan: it claims no guarantee)"
    run = plan.mechanism
    num_examples = run.num_examples or 0
    expected = run.sampling_prob * num_examples
    noise = getattr(run, "noise", "independent")
    kind = "" if noise == "independent" else f"{noise}, from independent "
    lines = [
        f"PrivateTraining of {run.num_steps} updates",
        f"  sampler: {run.sampling}, {expected:.6g} of {num_examples} examples"
        " expected in a batch",
        f"  grad_fn: sum of gradients of L2 norm at most {plan.l2_clip_norm}"
        f"{' at first' if plan.shares else ''}, over {expected:.6g}",
        f"  optimizer: {kind}noise of standard deviation"
        f" {plan.noise_stddev:.6g} (noise multiplier"
        f" {run.noise_multiplier:g}), then yours",
    ]
    if plan.delta is None:
      lines.append("  guarantee: private.epsilon(delta=...)")
    else:
      lines.append(f"  guarantee: private.epsilon(), at delta {plan.delta:g}")
    return "\n".join(lines)
