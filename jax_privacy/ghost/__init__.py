"""Ghost clipping: per-example norms without per-example gradients."""

from jax_privacy.ghost.clip import ClippedSum as ClippedSum

__all__ = ("ClippedSum",)


def __dir__() -> list[str]:
  return list(__all__)
