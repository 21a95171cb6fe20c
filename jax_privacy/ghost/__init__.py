"""Ghost clipping: per-example norms without per-example gradients."""

from jax_privacy.ghost.clip import ClippedSum as ClippedSum
