"""Runs of the launcher in small, for the tests."""

import importlib
import pathlib
import subprocess
import sys

import pytest

from experiments import train
from experiments.plan import experiment as experiment_lib
from experiments.run import workdir as workdir_lib

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = sorted(
    path.stem
    for path in (ROOT / "configs").glob("*.py")
    if path.stem not in ("__init__", "common", "families")
)
# To compile a step of these takes long, however small they are; `cifar10_wrn`
# has the program of the other WRNs.
LARGE = ("chexpert_nfnet", "imagenet_nf_resnet", "imagenet_nfnet")
LARGE += ("places365_nfnet", "cifar_wrn_finetune", "svhn_wrn")


def configs(*, slow=()):
  """Parameters of a test of every recipe, of which some are slow."""
  return [
      pytest.param(name, marks=[pytest.mark.slow] if name in slow else [])
      for name in CONFIGS
  ]


def config(name="digits_cnn", arg="smoke=True", **fields):
  """The config of that name, with fields set by dotted name ("_" for ".")."""
  value = importlib.import_module(f"configs.{name}").get_config(arg)
  with value.unlocked():
    value.update_from_flattened_dict(
        {key.replace("__", "."): field for key, field in fields.items()}
    )
  return value.lock()


def run(value, path):
  """Trains in this process; returns the summary."""
  workdir = workdir_lib.Workdir(pathlib.Path(path))
  experiment = experiment_lib.build(value)
  workdir.claim(value)
  return train.run(experiment, workdir)


def command(module, *flags):
  """Runs `python -m module flags` from the checkout; returns the process."""
  return subprocess.run(
      [sys.executable, "-m", module, *flags],
      capture_output=True,
      text=True,
      cwd=ROOT,
  )
