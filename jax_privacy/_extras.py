"""Names the extra that an optional package comes with, where it is missing.

Invariant: the core imports NumPy, SciPy, JAX, optax, chex and absl-py alone.
Every other package is imported inside `needed`, and only where it is used.

>>> with needed("models"):
...   import no_such_package
Traceback (most recent call last):
  ...
ImportError: No module named 'no_such_package': pip install
"jax-privacy-toolkit[models]", or ".[models]" in a checkout.
"""

import contextlib
from collections.abc import Generator


@contextlib.contextmanager
def needed(extra: str) -> Generator[None, None, None]:
  """Adds to an import's error the command that installs what it lacks.

  Args:
    extra: The extra of this distribution that has what is imported inside.

  Raises:
    ImportError: If a package is missing, or does not fit the others.
  """
  try:
    yield
  except ImportError as error:
    raise ImportError(
        f'{error}: pip install "jax-privacy-toolkit[{extra}]", or'
        f' ".[{extra}]" in a checkout.'
    ) from error
