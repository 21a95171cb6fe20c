"""What a failed check raises: the text names the evidence.

Example:
  >>> from jax_privacy.testing import errors
  >>> issubclass(errors.SensitivityError, AssertionError)
  True
"""


class SensitivityError(AssertionError):
  """One example can do more than was claimed of it."""


class NoiseError(AssertionError):
  """The noise is not what was claimed of it."""


class LossError(AssertionError):
  """A loss means something else for one example than for a batch."""
