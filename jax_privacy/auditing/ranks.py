"""Exposure: how far a model prefers a secret string to strings like it.

A canary is a string drawn at random, and references are others drawn alike,
which no data set holds. The canary's rank is 1 if the model finds no reference
as likely. Its exposure is log2 of how much that rank is ahead of chance.

Invariant: a canary that was never trained on has an exposure of b bits or more
with probability at most 2^-b, whatever the model: it is one more draw among the
references. Its mean is at most log2(e) = 1.44 bits.

Example:
  >>> import numpy as np
  >>> from jax_privacy import auditing
  >>> others = np.arange(1.0, 8.0)  # Losses of 7 references.
  >>> auditing.exposure(np.array([0.5, 3.5, 9.0]), others).tolist()
  [3.0, 1.0, 0.0]
"""

from typing import Any

import numpy as np

from jax_privacy import _validate


def exposure(losses: Any, reference_losses: Any) -> np.ndarray:
  """Returns the exposure of canaries, in bits.

  Args:
    losses: Losses of canaries under the released model, such as their negative
      log likelihoods, [num_canaries].
    reference_losses: Losses of strings that were drawn as the canaries were,
      and never trained on, [num_references].

  Returns:
    log2(num_references + 1) - log2(rank), float64 [num_canaries], where a
    canary's rank is one more than the number of references whose loss is not
    above its own. Ties count against the canary. The values lie in
    [0, log2(num_references + 1)].

  Raises:
    ValueError: If either is not one-dimensional and finite, or there are no
      references.

  Guarantee: If training is (epsilon, delta)-private with respect to a canary's
    copies, its exposure is b bits or more with probability at most
    exp(epsilon) 2^-b + delta.

  Source: Carlini et al. 2019 (1802.08232), definition 5, estimated by sampling.
  """
  ours = _checked("losses", losses)
  others = _checked("reference_losses", reference_losses)
  if not others.size:
    _validate.fail("reference_losses", "at least one", 0)
  ranks = 1 + np.searchsorted(np.sort(others), ours, side="right")
  return np.log2(len(others) + 1) - np.log2(ranks)


def _checked(name: str, values: Any) -> np.ndarray:
  values = np.asarray(values, np.float64)
  if values.ndim != 1:
    _validate.fail(name, "one-dimensional", f"shape {values.shape}")
  if not np.isfinite(values).all():
    _validate.fail(name, "finite", "NaN or infinity")
  return values
