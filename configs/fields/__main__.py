"""Prints docs/config.md."""

from configs import fields

if __name__ == "__main__":
  print(fields.page(), end="")
