"""What De et al. read while they trained: PRIVATE, and not for release.

Of a logged step's realised batch: how many examples were clipped, how long
their gradients were, and how large the noise was next to the sum. All of it
comes from the training data without protection of its own, goes to
metrics.jsonl under `private_not_for_release`, and nowhere else.

Invariant: asking for it changes no bit of the run. Norms are a by-product of
clipping; the noised gradient is caught on its way to the optimiser, so that no
noise is drawn for it; and what reads them is outside the step.

Not computed: the direction of the unclipped gradient, and so its alignment
with the clipped one: under ghost clipping no unclipped gradient is made, and it
would cost a second sum over the batch.

>>> metrics = of_norms(np.array([0.5, 2.0, 4.0, np.inf]), l2_clip_norm=1.0)
>>> metrics["clipped_fraction"], metrics["non_finite_fraction"]
(0.5, 0.25)
>>> metrics["grad_norm_quantiles"]["0.5"]
2.0
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import batch_schedule

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Gradients(NamedTuple):
  """A step's gradient before and after the noise.

  Attributes:
    clipped: Sum of clipped gradients over the expected batch size; on a grid,
      in whole steps of it.
    noised: Gradient that the optimiser got: the clipped gradient and the noise,
      divided by the step's factor of a batch-size schedule.
  """

  clipped: Any
  noised: Any


def of_norms(norms: np.ndarray, *, l2_clip_norm: float) -> dict[str, Any]:
  """Returns metrics of the norms before clipping.

  Args:
    norms: Norms of the realised batch's gradients, [realised batch size].
    l2_clip_norm: Above it an example is clipped.

  Returns:
    "clipped_fraction", the share of norms above the clip norm;
    "non_finite_fraction", the share of those that are no number, whose examples
    count zero; and "grad_norm_quantiles" of all others, by quantile. Each is
    None where there is nothing to tell of, as of an empty batch.
  """
  norms = np.asarray(norms, np.float64)
  finite = norms[np.isfinite(norms)]
  fractions, quantiles = (None, None), [None] * len(_QUANTILES)
  if norms.size:
    is_clipped = np.isfinite(norms) & (norms > l2_clip_norm)
    fractions = float(is_clipped.mean()), 1 - finite.size / norms.size
  if finite.size:
    quantiles = np.quantile(finite, _QUANTILES).tolist()
  return {
      "clipped_fraction": fractions[0],
      "non_finite_fraction": fractions[1],
      "grad_norm_quantiles": dict(
          zip(map(str, _QUANTILES), quantiles, strict=True)
      ),
  }


def of_gradients(
    gradients: Gradients,
    *,
    grid_step: float | None = None,
    batch_factor: float = 1.0,
) -> dict[str, float | None]:
  """Returns how the noise stood against the clipped gradient.

  Args:
    gradients: Gradients of a step.
    grid_step: Step of the grid that the clipped sum is on; None if on none.
    batch_factor: Factor of a batch-size schedule; see `Gradients`.

  Returns:
    "signal_to_noise", the norm of the clipped gradient over the norm of the
    noise that was added to it; and "alignment", the cosine of the angle between
    the clipped gradient and the noised one. None where it is 0 / 0, or not
    finite.
  """
  clipped_scale = 1.0 if grid_step is None else grid_step
  products = _products(gradients, clipped_scale / batch_factor)
  signal, noise, noised, inner = map(float, products)
  return {
      "signal_to_noise": _ratio(math.sqrt(signal), math.sqrt(noise)),
      "alignment": _ratio(inner, math.sqrt(signal) * math.sqrt(noised)),
  }


def clip_norm_of(experiment: Any, state: Any, is_shown: bool) -> float:
  """Returns the clip norm of the next step.

  Args:
    experiment: The run; see `experiment.Experiment`.
    state: State before the step, which the step may overwrite.
    is_shown: Whether it is looked at; a norm that adapts is fetched only then.
  """
  found = {}
  if is_shown:
    found = experiment.dp_training.step_options(state.opt_state)
  return float(found.get("clip_norm", experiment.config.dp.l2_clip_norm))


def of_step(
    experiment: Any,
    norms: Sequence[tuple[jax.Array, jax.Array]],
    gradients: Gradients,
    *,
    step: int,
    l2_clip_norm: float,
) -> dict[str, Any]:
  """Returns all unreleased metrics of a step.

  Args:
    experiment: The run; see `experiment.Experiment`.
    norms: Pairs, one a physical batch: norms of its rows, and its rows'
      indices: -1 where a row is padding.
    gradients: Gradients of the step; see `of_gradients`.
    step: Number of the step, from 0.
    l2_clip_norm: Clip norm of the step.
  """
  real = [np.asarray(piece)[np.asarray(rows) >= 0] for piece, rows in norms]
  told = of_norms(
      np.concatenate([np.zeros(0), *real]),
      l2_clip_norm=l2_clip_norm,
  )
  schedule = experiment.mechanism.batch_size_schedule
  scale, plan = experiment.dp_training.grad_fn.grid_step, None
  if experiment.config.dp.enabled:
    plan = experiment.dp_training.plan
  if plan is not None and plan.shares is not None:
    # What the optimiser gets has units of its own.
    is_unit = experiment.config.dp.rescale_to_unit_norm
    scale = (1.0 if is_unit else l2_clip_norm) / plan.shares.gradient
    told["l2_clip_norm"] = l2_clip_norm
    gradients = gradients._replace(clipped=gradients.clipped.grads)
  return told | of_gradients(
      gradients,
      grid_step=scale,
      batch_factor=batch_schedule.factor_at(schedule, step),
  )


@jax.jit
def _products(gradients, clipped_scale):
  """Squared norms of signal, noise and their sum; signal times sum."""

  def leaf_products(clipped, noised):
    dtype = jnp.promote_types(noised.dtype, jnp.float32)
    clipped = clipped.astype(dtype) * jnp.asarray(clipped_scale, dtype)
    noised = noised.astype(dtype)
    noise = noised - clipped
    pairs = (
        (clipped, clipped),
        (noise, noise),
        (noised, noised),
        (clipped, noised),
    )
    return jnp.stack([jnp.sum(a * b) for a, b in pairs])

  each = jax.tree.leaves(jax.tree.map(leaf_products, *gradients))
  return sum(each[1:], start=each[0])


def _ratio(numerator: float, denominator: float) -> float | None:
  finite = math.isfinite(numerator) and math.isfinite(denominator)
  return numerator / denominator if finite and denominator else None
