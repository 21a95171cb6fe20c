"""No two of these tests compile the same program: few are kept for another.

To compress and write each was a thirtieth of the time.
"""

import jax
import pytest

_LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"


@pytest.fixture(autouse=True, scope="package")
def _only_what_took_long_is_kept():
  before = getattr(jax.config, _LEAST_SECONDS)
  jax.config.update(_LEAST_SECONDS, 1.0)
  yield
  jax.config.update(_LEAST_SECONDS, before)
