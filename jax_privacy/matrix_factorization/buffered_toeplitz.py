"""Buffered linear Toeplitz (BLT) strategies: the names of jax-privacy.

The matrix is in `blt_matrix.py`, errors for any n in `blt_closed_forms.py`, and
optimisers in `blt_optimizers.py`.

Invariant: nothing is defined here.

Example:
  >>> import jax
  >>> from jax_privacy.matrix_factorization import buffered_toeplitz
  >>> with jax.enable_x64():
  ...   blt = buffered_toeplitz.BufferedToeplitz.build([0.9], [0.1])
  ...   print(f"{buffered_toeplitz.max_loss(blt, 10):.3f}")
  5.660
"""

from jax_privacy.matrix_factorization.blt_closed_forms import (
    geometric_sum as geometric_sum,
)
from jax_privacy.matrix_factorization.blt_closed_forms import (
    iteration_error as iteration_error,
)
from jax_privacy.matrix_factorization.blt_closed_forms import (
    limit_max_error as limit_max_error,
)
from jax_privacy.matrix_factorization.blt_closed_forms import (
    limit_max_loss as limit_max_loss,
)
from jax_privacy.matrix_factorization.blt_closed_forms import (
    max_error as max_error,
)
from jax_privacy.matrix_factorization.blt_closed_forms import (
    max_loss as max_loss,
)
from jax_privacy.matrix_factorization.blt_closed_forms import (
    sensitivity_squared as sensitivity_squared,
)
from jax_privacy.matrix_factorization.blt_matrix import (
    BufferedToeplitz as BufferedToeplitz,
)
from jax_privacy.matrix_factorization.blt_matrix import (
    blt_pair_from_theta_pair as blt_pair_from_theta_pair,
)
from jax_privacy.matrix_factorization.blt_matrix import (
    min_buf_decay_gap as min_buf_decay_gap,
)
from jax_privacy.matrix_factorization.blt_optimizers import (
    LossFn as LossFn,
)
from jax_privacy.matrix_factorization.blt_optimizers import (
    get_init_blt as get_init_blt,
)
from jax_privacy.matrix_factorization.blt_optimizers import (
    optimize as optimize,
)
from jax_privacy.matrix_factorization.blt_optimizers import (
    optimize_loss as optimize_loss,
)
