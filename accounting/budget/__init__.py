"""The `dp-budget` command: plan a private training run, or defend one."""

from accounting.budget.command_line import COMMANDS as COMMANDS
from accounting.budget.command_line import main as main

__all__ = (
    "COMMANDS",
    "main",
)


def __dir__() -> list[str]:
  return list(__all__)
