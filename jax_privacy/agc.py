"""Adaptive gradient clipping (AGC) of a gradient that is already private.

AGC scales the gradient of each unit of a parameter to at most `clipping` times
the unit's own norm. A unit is an output channel of a convolution, a column of a
linear layer, or a whole vector. AGC reads the noised gradient and the
parameters, which are private already. So it is post-processing: it costs no
privacy and changes no sensitivity.

The invariant: AGC comes after the noise. It does not replace the clipping of
examples, because it bounds no single example.

An optimiser given to `dp_sgd.make_private` comes after the noise:

Example:
  >>> import jax.numpy as jnp, optax
  >>> from jax_privacy import agc
  >>> optimizer = optax.chain(agc.adaptive_grad_clip(), optax.sgd(1.0))
  >>> params = {"conv": jnp.ones((4, 2)), "linear": {"bias": jnp.ones(3)}}
  >>> grads = {"conv": jnp.ones((4, 2)), "linear": {"bias": jnp.ones(3)}}
  >>> state = optimizer.init(params)
  >>> updates, state = optimizer.update(grads, state, params)
  >>> print(updates["conv"][0], updates["linear"]["bias"])
  [-0.01 -0.01] [-1. -1. -1.]
"""

import re
from typing import Any

import jax
import optax

from jax_privacy import _validate

# The classifier of every model of `jax_privacy.models` with residual blocks.
FINAL_LAYER = r"^linear\."


def adaptive_grad_clip(
    *,
    clipping: float = 0.01,
    eps: float = 1e-3,
    exclude: str | None = FINAL_LAYER,
) -> optax.GradientTransformation:
  r"""Scales each unit's gradient G to a norm of `clipping` * max(|W|, eps).

  Args:
    clipping: Largest ratio of a unit's gradient to its parameters, in L2 norm.
    eps: Least norm of parameters to count with, so that parameters that start
      at 0 can move.
    exclude: Regular expression, searched for in each parameter's path (its keys
      with dots between, "blocks.0.conv_0.kernel"); what matches is left alone.
      None clips everything. The paper leaves out the final linear layer
      (its code the weight alone: there, r"^linear\.kernel$").

  Returns:
    An optax transformation that needs `params` in `update`. Units are the
    paper's, by `optax.adaptive_grad_clip`: parameters of one axis (biases,
    gains, scalars) are one unit; of two or three, a unit is a slice along axis
    0; of four, along axes 0, 1 and 2.

  Raises:
    ValueError: If an argument breaks its rule; from `init` and `update`, if
      `exclude` matches no parameter, since the final layer then has another
      name, or if a parameter has more axes than `optax` knows.

  Guarantee: Post-processing of its inputs. A gradient that is not finite stays
    so.

  Source: Brock et al. 2021 (arXiv 2102.06171), section 4.1, equation 3.
  """
  clipping = _validate.positive("clipping", clipping)
  eps = _validate.positive("eps", eps)
  clip = optax.adaptive_grad_clip(clipping, eps)
  if exclude is None:
    return clip
  try:
    pattern = re.compile(exclude)
  except (TypeError, re.error):
    _validate.fail("exclude", "a regular expression or None", exclude)
  return optax.masked(clip, lambda params: _clipped(pattern, params))


def _clipped(pattern: re.Pattern[str], params: Any) -> Any:
  """Says for each parameter whether it is clipped, in a pytree of bools."""
  clipped = jax.tree_util.tree_map_with_path(
      lambda path, _: pattern.search(_dotted(path)) is None, params
  )
  if all(jax.tree.leaves(clipped)):
    rule = "None or match some parameter's path"
    _validate.fail("exclude", rule, pattern.pattern)
  return clipped


def _dotted(path: tuple[Any, ...]) -> str:
  return jax.tree_util.keystr(path, simple=True, separator=".")
