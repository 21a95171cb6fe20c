"""Rules: the weight gradients of primitives as sums of outer products.

One file for each primitive (`dense.py`, `convolution.py`, `embedding.py`), and
the table that they are registered in (`forms.py`).
"""

from jax_privacy.ghost.rules import convolution as convolution
from jax_privacy.ghost.rules import dense as dense
from jax_privacy.ghost.rules import embedding as embedding
from jax_privacy.ghost.rules.forms import Form as Form
from jax_privacy.ghost.rules.forms import find as find
from jax_privacy.ghost.rules.forms import generic_gradient as generic_gradient
from jax_privacy.ghost.rules.forms import in_dtype as in_dtype
from jax_privacy.ghost.rules.forms import norm_dtype as norm_dtype
from jax_privacy.ghost.rules.forms import register as register
from jax_privacy.ghost.rules.forms import why_none as why_none

__all__ = (
    "Form",
    "convolution",
    "dense",
    "embedding",
    "find",
    "generic_gradient",
    "in_dtype",
    "norm_dtype",
    "register",
    "why_none",
)


def __dir__() -> list[str]:
  return list(__all__)
