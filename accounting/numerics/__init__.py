"""How it is computed: loss distributions, Renyi divergences, searches.

Internal: nothing here is public.
"""

__all__ = ()


def __dir__() -> list[str]:
  return list(__all__)
