"""One recipe a file; each opens with what it gives and the command."""

try:
  import ml_collections as _ml_collections  # noqa: F401
except ImportError as error:
  raise ImportError(
      f'{error}: pip install "jax-privacy-toolkit[experiments]".'
  ) from error
