"""Builds `dp-budget`, by the version and bounds of the whole project."""

import pathlib
import re
import tomllib

import setuptools

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_NEEDED = ("dp-accounting", "numpy", "scipy")

_project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))[
    "project"
]
setuptools.setup(
    version=_project["version"],
    install_requires=[
        text
        for text in _project["dependencies"]
        if re.match(r"[\w-]+", text)[0] in _NEEDED
    ],
    extras_require={
        name: _project["optional-dependencies"][name]
        for name in ("page", "plots")
    },
    package_dir={"accounting": "../../accounting"},
    packages=setuptools.find_packages(
        str(_ROOT), include=["accounting", "accounting.*"]
    ),
    package_data={"accounting": ["py.typed", "budget/page/static/*"]},
)
