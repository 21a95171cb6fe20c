"""Ghost clipping: per-example norms without per-example gradients."""

from jax_privacy.ghost.clip import GhostSum as GhostSum

__all__ = ("GhostSum",)


def __dir__() -> list[str]:
  return list(__all__)
