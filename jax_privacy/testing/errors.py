"""Errors of failed checks; their texts name the evidence.

Example:
  >>> from jax_privacy.testing import errors
  >>> issubclass(errors.SensitivityError, AssertionError)
  True
"""


class SensitivityError(AssertionError):
  """One example can do more than was claimed."""


class NoiseError(AssertionError):
  """The noise is not what was claimed."""


class LossError(AssertionError):
  """The loss means something else for one example than for a batch."""
