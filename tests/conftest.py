"""Settings every test runs under.

Strict promotion makes an unintended broadcast or a silent change of dtype an
error here, so that none can hide in the library.
"""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
