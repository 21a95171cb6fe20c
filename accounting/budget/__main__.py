"""Runs `dp-budget` as `python -m accounting.budget`."""

import sys

from accounting.budget import main

if __name__ == "__main__":
  sys.exit(main())
