"""Metadata of the distribution `jax-privacy-toolkit`.

The wheel holds `jax_privacy` and `accounting` and nothing else at its top
level; experiments and configs run from a checkout. The exact versions that the
tests run with are in `requirements.lock`.
"""

import pathlib

import setuptools

_HERE = pathlib.Path(__file__).parent

_PACKAGES = [
    "accounting",
    "accounting.budget",
    "accounting.numerics",
    "jax_privacy",
    "jax_privacy.auditing",
    "jax_privacy.data",
    "jax_privacy.ghost",
    "jax_privacy.models",
    "jax_privacy.testing",
]

_REQUIRED = [
    "absl-py>=2.1",
    "chex>=0.1.90",
    "dp-accounting>=0.6.0,<0.7",  # Parts that are not public are used.
    "flax>=0.12",
    "jax>=0.10",
    "matplotlib>=3.9.2",
    "ml-collections>=1.0",
    "numpy>=2.0; python_version<'3.13'",
    "numpy>=2.1; python_version>='3.13'",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.25",
    "pillow>=11",
    "rich>=13",
    "scikit-learn>=1.5.2",
    "scipy>=1.14.1",
]

_SECURE = ["cryptography>=43"]

# Reads what is prepared: neither imports TensorFlow.
_TFDS = ["array-record>=0.8.1", "tensorflow-datasets>=4.9.10"]
# TFDS 4.9.10 imports importlib_resources, and does not ask for it.
_TFDS_PREPARE = [*_TFDS, "importlib_resources>=6", "tensorflow>=2.20"]

# Reads ahead, in worker processes.
_WORKERS = ["grain>=0.2.18"]

_TEST = [
    *_SECURE,
    *_TFDS,
    *_WORKERS,
    "build>=1.2.1",
    "dm-haiku>=0.0.16",
    "equinox>=0.13",
    "hypothesis>=6.100",
    "pyink>=25.12",
    "pytest>=8.2",
    "pytest-xdist>=3.6.1",
    "ruff>=0.9",
    "setuptools>=77.0.3",
]

setuptools.setup(
    name="jax-privacy-toolkit",
    version="0.1.0",
    description="Train with differential privacy in JAX, and account for it.",
    long_description=(_HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=_PACKAGES,
    python_requires=">=3.11",
    install_requires=_REQUIRED,
    extras_require={
        "secure": _SECURE,
        "test": _TEST,
        "docs": ["mkdocs>=1.6"],
        "tfds": _TFDS,
        "tfds-prepare": _TFDS_PREPARE,
        "workers": _WORKERS,
        "cuda": ["jax[cuda12]>=0.10"],
    },
    entry_points={"console_scripts": ["dp-budget = accounting.budget:main"]},
)
