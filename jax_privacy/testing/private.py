"""Checks what `make_private` returns, gradient and noise, in one line.

The invariant: the claim is the mechanism's, as the accountant gets it. Nothing
is believed of what is checked but its `.sensitivity()`, which is checked first.

Example:
  >>> import types
  >>> import jax, jax.numpy as jnp, optax
  >>> from jax_privacy import dp_sgd, testing
  >>> mechanism = types.SimpleNamespace(  # or accounting.Mechanism(...)
  ...     noise_multiplier=1.0, num_steps=20, sampling="poisson",
  ...     sampling_prob=0.5, num_examples=64, max_batch_size=None)
  >>> loss_fn = lambda w, batch: jnp.mean((batch["x"] @ w - batch["y"]) ** 2)
  >>> private = dp_sgd.make_private(
  ...     loss_fn, optax.sgd(0.1), mechanism, l2_clip_norm=4.0,
  ...     key=jax.random.key(1))
  >>> batch = {"x": jnp.eye(4), "y": jnp.arange(4.0)}
  >>> report = testing.check_private(
  ...     private, jnp.zeros(4), batch, mechanism=mechanism)
  >>> print(report.sensitivity.bounds["add_or_remove_one"], report.noise.stddev)
  0.125 0.125
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from jax_privacy import _validate, arguments, dp_sgd, strategies
from jax_privacy.testing import movement, noise

# More than the steps of a check.
_NUM_COEF = 1024


class _HasNoiseMultiplier(Protocol):

  @property
  def noise_multiplier(self) -> float:
    ...


@dataclasses.dataclass(frozen=True)
class PrivateReport:
  """Both reports; PRIVATE, see `SensitivityReport`.

  Attributes:
    sensitivity: Report on the gradient function.
    noise: Report on the optimiser.
  """

  sensitivity: movement.SensitivityReport
  noise: noise.NoiseReport


def check_private(
    private: dp_sgd.PrivateTraining,
    params: Any,
    *batch: Any,
    mechanism: _HasNoiseMultiplier,
    unbatched: Sequence[int] = (),
    max_examples: int = 8,
    num_steps: int | None = None,
    significance: float = 1e-9,
) -> PrivateReport:
  """Checks a private pipeline: its sensitivity, then its noise.

  Args:
    private: Object with a `grad_fn` and an `optimizer`, such as
      `make_private`'s.
    params: Parameters.
    *batch: Real examples; see `check_sensitivity`.
    mechanism: Mechanism of the accountant; its `noise_multiplier` is the claim.
      Where its `noise` is correlated, so must be the noise that is found.
      With a `batch_size_schedule`, the noise is checked from the first step of
      each phase on.
    unbatched: Positions in `batch` without a batch axis; see
      `check_sensitivity`.
    max_examples: Number of examples to use, the first ones.
    num_steps: Number of updates to run; see `check_noise`.
    significance: Probability that sound noise fails.

  Returns:
    A `PrivateReport`; its noise is from the phase that is furthest off.

  Raises:
    SensitivityError: If one example can do more than is claimed.
    NoiseError: If the noise is not as claimed.
    ValueError: If an argument breaks its rule.

  Guarantee: The guarantees of the two checks. What `grad_fn` returns moves by
    no more than its sensitivity, as far as was tried, and `optimizer` adds
    noise of noise multiplier x sensitivity. The sampler is not checked, nor
    what is done between these parts.
  """
  for part in ("grad_fn", "optimizer"):
    if not hasattr(private, part):
      rule = f"have a {part}, as what make_private returns has"
      raise ValueError(f"private must {rule}, got {_validate.shown(private)}.")
  meaning = "standard deviation of the noise over the clip norm"
  arguments.check_mechanism(mechanism, {"noise_multiplier": meaning})
  noise_multiplier = _validate.positive(
      "noise_multiplier", mechanism.noise_multiplier
  )
  grad_fn: Any = private.grad_fn
  sums = params
  if getattr(private, "plan", None) is not None:
    sums = private.sums_like(params)
    options = private.step_options(private.optimizer.init(params))
    if options:
      grad_fn = dataclasses.replace(
          grad_fn, fun=functools.partial(grad_fn.fun, **options)
      )
  sensitivity_report = movement.check_sensitivity(
      grad_fn,
      params,
      *batch,
      unbatched=unbatched,
      max_examples=max_examples,
  )
  # Relative to one example's share of the sum, whatever the relation: the
  # accountant knows that a replaced example moves it by two.
  stddev = noise_multiplier * private.grad_fn.sensitivity("add_or_remove_one")
  schedule = getattr(mechanism, "batch_size_schedule", ()) or ((0, 1.0),)
  reports = [
      noise.check_noise(
          _from_step(private.optimizer, first),
          params,
          stddev=stddev,
          sums=sums,
          num_steps=num_steps,
          significance=significance / len(schedule),
          on_grid=getattr(private.grad_fn, "grid_step", None) is not None,
          strategy_coef=tuple(strategies.strategy_coef(mechanism, _NUM_COEF)),
      )
      for first, _ in schedule
  ]
  return PrivateReport(
      sensitivity_report,
      max(reports, key=lambda r: abs(r.measured_stddev - r.stddev)),
  )


def _from_step(
    optimizer: optax.GradientTransformation, step: int
) -> optax.GradientTransformation:
  """Returns an optimiser whose counters, int32 scalars, begin at a step."""
  if step == 0:
    return optimizer

  def advance(leaf):
    is_counter = jnp.shape(leaf) == () and leaf.dtype == jnp.int32
    return jnp.full_like(leaf, step) if is_counter else leaf

  def init(params):
    return jax.tree.map(advance, optimizer.init(params))

  return optax.GradientTransformation(init, optimizer.update)
