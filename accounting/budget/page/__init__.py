"""The page of `dp-budget serve`: a run is moved, and its privacy follows.

Invariant: the page is answered to this machine alone, to whoever has the token
of its address; it opens no connection, and writes nothing.
"""

from accounting.budget.page.serving import run as run

__all__ = ("run",)


def __dir__() -> list[str]:
  return list(__all__)
