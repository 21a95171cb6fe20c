"""Scores: one number per canary, high if it seems to be in.

White box: every noised update is seen. Its projection x on the direction of a
canary of norm C is N(0, s^2) if the canary did not take part and N(C, s^2) if
it did, s being the noise's standard deviation. If it is in, it takes part with
probability q, so that a step's log-likelihood ratio is log((1 - q) + q exp((C x
- C^2 / 2) / s^2)). Ratios of the steps add up, and no score separates better.

Black box: the final parameters are seen, through the canaries' losses.

Invariant: a score is a function of what was released, and of the real examples,
which an attacker may know; never of the coins.

Example:
  >>> import jax, jax.numpy as jnp, numpy as np, optax
  >>> from jax_privacy import auditing, noise_addition
  >>> params = jnp.zeros(100)
  >>> canaries = auditing.dirac_canaries(
  ...     params, num_canaries=50, l2_norm=1.0, seed=0)
  >>> optimizer = optax.chain(
  ...     noise_addition.gaussian_privatizer(stddev=0.1, prng_key=0),
  ...     auditing.record_scores(
  ...         canaries, noise_stddev=0.1, sampling_prob=1.0),
  ...     optax.sgd(0.1))
  >>> state = optimizer.init(params)
  >>> grads = jnp.ones(100)  # The sum over the real examples.
  >>> selected = jnp.arange(50) < 25
  >>> _, state = optimizer.update(
  ...     canaries.insert(grads, selected), state, baseline=grads)
  >>> scores = auditing.recorded_scores(state)
  >>> np.array_equal(scores.log_ratios > 0, selected)
  True
"""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_privacy import _validate
from jax_privacy.auditing import canaries as canaries_lib


class CanaryScoreState(NamedTuple):
  """Scores so far; part of the optimiser's state, so a checkpoint has them.

  Attributes:
    projections: Sums over steps of projections, float32 [num_canaries].
    log_ratios: Sums over steps of log-likelihood ratios, float32
      [num_canaries].
    num_steps: Number of updates scored, int32 scalar.
  """

  projections: jax.Array
  log_ratios: jax.Array
  num_steps: jax.Array


def record_scores(
    canaries: canaries_lib.GradientCanaries,
    *,
    noise_stddev: float,
    sampling_prob: float,
) -> optax.GradientTransformationExtraArgs:
  """Scores updates as they pass, and leaves them as they are.

  Put it right behind the noise: `make_private(loss_fn, optax.chain(
  record_scores(...), optimizer), ...)`.

  Args:
    canaries: Gradient-space canaries, with `l2_norm` in the units of the sum.
    noise_stddev: Standard deviation of the noise per coordinate that is
      CLAIMED: the noise multiplier times the sensitivity. A wrong one only
      weakens the audit.
    sampling_prob: Probability that a canary that is in takes part in a step.

  Returns:
    An optax transformation. `update(updates, state, params, baseline=...)`
    takes the clipped sum over the real examples, without canaries and noise,
    and scores the difference: an attacker may know everyone else. Without
    `baseline`, real gradients count as noise and the audit is weaker. With it,
    the state is PRIVATE: an audited run's optimiser state is not for release.

  Raises:
    ValueError: If an argument breaks its rule.

  Source: Nasr et al. 2023 (2302.07956); Abadi et al. 2016 (1607.00133),
    lemma 3, for the two distributions.
  """
  noise_stddev = _validate.positive("noise_stddev", noise_stddev)
  sampling_prob = _validate.probability("sampling_prob", sampling_prob)

  def init(params):
    del params
    # Two arrays: a buffer that is in a state twice cannot be donated.
    return CanaryScoreState(
        jnp.zeros(canaries.num_canaries, jnp.float32),
        jnp.zeros(canaries.num_canaries, jnp.float32),
        jnp.zeros((), jnp.int32),
    )

  def update(updates, state, params=None, *, baseline=None, **extra):
    del params, extra
    projections = canaries.project(updates)
    if baseline is not None:
      projections -= canaries.project(baseline)
    ratios = log_likelihood_ratios(
        projections,
        l2_norm=canaries.l2_norm,
        noise_stddev=noise_stddev,
        sampling_prob=sampling_prob,
    )
    return updates, CanaryScoreState(
        state.projections + projections,
        state.log_ratios + ratios,
        state.num_steps + 1,
    )

  return optax.GradientTransformationExtraArgs(init, update)


def recorded_scores(state: Any) -> CanaryScoreState:
  """Returns the one `CanaryScoreState` within an optimiser's state.

  Args:
    state: State of an optimiser that `record_scores` is a part of.

  Raises:
    ValueError: If there is none, or more than one.
  """

  def is_ours(node):
    return isinstance(node, CanaryScoreState)

  found = [x for x in jax.tree.leaves(state, is_leaf=is_ours) if is_ours(x)]
  if len(found) != 1:
    _validate.fail("state", "one with one CanaryScoreState", len(found))
  return found[0]


def log_likelihood_ratios(
    projections: chex.Array,
    *,
    l2_norm: float,
    noise_stddev: float,
    sampling_prob: float,
) -> jax.Array:
  """Returns one step's log-likelihood ratios of in against out.

  Args:
    projections: Projections of a noised update, less the real examples' sum, on
      the canaries' directions, [num_canaries].
    l2_norm: L2 norm of each canary.
    noise_stddev: Standard deviation of the noise per coordinate.
    sampling_prob: Probability that a canary that is in takes part, in (0, 1].

  Returns:
    log((1 - q) + q exp((C x - C^2 / 2) / s^2)), [num_canaries]: at least
    log(1 - q), whatever the projection.

  Raises:
    ValueError: If an argument breaks its rule.
  """
  l2_norm = _validate.positive("l2_norm", l2_norm)
  noise_stddev = _validate.positive("noise_stddev", noise_stddev)
  sampling_prob = _validate.probability("sampling_prob", sampling_prob)
  # Ratios first: squares of small norms would underflow.
  mu = np.float32(l2_norm / noise_stddev)
  exponent: Any = mu * (projections / np.float32(noise_stddev) - mu / 2)
  if sampling_prob == 1:
    return exponent
  return jnp.logaddexp(
      np.float32(math.log1p(-sampling_prob)),
      np.float32(math.log(sampling_prob)) + exponent,
  )


def loss_scores(
    losses_fn: Callable[[Any, Any], Any],
    params: Any,
    canaries: Any,
    *,
    reference_params: Any = None,
    chunk_size: int = 256,
) -> np.ndarray:
  """Scores input-space canaries by their losses, negated.

  Args:
    losses_fn: `losses_fn(params, batch)` giving one loss per row, [rows].
    params: Parameters that the run released.
    canaries: A pytree of arrays with one row per canary, in and out.
    reference_params: Parameters that do not depend on the canaries, such as the
      initial ones: their losses are subtracted, since some canaries are harder
      than others. None subtracts nothing.
    chunk_size: Number of rows per call; the last call may have fewer.

  Returns:
    The scores, float64 [num_canaries].

  Raises:
    ValueError: If `chunk_size` is no positive integer, a loss is not finite, or
      `losses_fn` does not give one per row.
  """
  chunk_size = _validate.integer("chunk_size", chunk_size, at_least=1)
  scores = -_losses(losses_fn, params, canaries, chunk_size)
  if reference_params is not None:
    scores += _losses(losses_fn, reference_params, canaries, chunk_size)
  return scores


def _losses(losses_fn, params, canaries, chunk_size):
  num_canaries = len(jax.tree.leaves(canaries)[0])
  chunks = []
  for start in range(0, num_canaries, chunk_size):
    chunk = slice(start, start + chunk_size)
    rows = jax.tree.map(operator.itemgetter(chunk), canaries)
    losses = np.asarray(losses_fn(params, rows), np.float64)
    expected = (len(jax.tree.leaves(rows)[0]),)
    if losses.shape != expected:
      rule = f"one loss per row, of shape {expected}"
      _validate.fail("losses_fn's value", rule, losses.shape)
    chunks.append(losses)
  losses = np.concatenate(chunks)
  num_bad = int(np.sum(~np.isfinite(losses)))
  if num_bad:
    _validate.fail("losses", "finite", f"{num_bad} that are not")
  return losses
