"""For tools that look for this file: all metadata is in pyproject.toml."""

import setuptools

setuptools.setup()
