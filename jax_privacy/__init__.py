"""Differentially private training for JAX.

`clipped_grad` clips, `noise_addition` adds noise, `batch_selection` selects
batches. `dp_sgd.make_private` makes all three so that they fit together.
"""

from jax_privacy import agc as agc
from jax_privacy import augmult as augmult
from jax_privacy import averaging as averaging
from jax_privacy import batch_selection as batch_selection
from jax_privacy import dp_sgd as dp_sgd
from jax_privacy import noise_addition as noise_addition
from jax_privacy import post_processing as post_processing
from jax_privacy import root_key as root_key
from jax_privacy import secure_noise as secure_noise
from jax_privacy import secure_random as secure_random
from jax_privacy import sharding as sharding
from jax_privacy.augmult import example_keys as example_keys
from jax_privacy.clipping import clip_pytree as clip_pytree
from jax_privacy.clipping import clipped_grad as clipped_grad
