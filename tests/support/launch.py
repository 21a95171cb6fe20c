"""Runs of the launcher in small, for the tests."""

import atexit
import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import pytest

from experiments import train
from experiments.plan import experiment as experiment_lib
from experiments.run import loop
from experiments.run import workdir as workdir_lib

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = sorted(
    path.stem
    for path in (ROOT / "configs").glob("*.py")
    if path.stem not in ("__init__", "common", "denoisers", "families")
)
# Of tables and of text; all others are of images.
TABLES = ("breast_cancer", "table", "wine")
TEXTS = ("copying", "gpt2_e2e", "listops", "recurrentgemma_lora")
TEXTS += ("shakespeare", "shakespeare_lora", "vaultgemma")
# Of images that are drawn, and not classified.
DIFFUSIONS = ("camelyon17_diffusion_finetune", "cifar10_diffusion_finetune")
DIFFUSIONS += ("cifar10_dpdm", "digits_diffusion", "fashion_mnist_dpdm")
DIFFUSIONS += ("mnist_diffusion_small", "mnist_dpdm")
DIFFUSIONS += ("mnist_finetune_diffusion",)
# To compile a step of these takes long, however small they are. Of what they
# have, `fashion_mnist_cnn` has views, and the tests of models and of ghost
# clipping the networks.
LARGE = ("chexpert_nfnet", "imagenet_nf_resnet", "imagenet_nfnet")
LARGE += ("places365_nfnet", "cifar10_wrn", "cifar_wrn_finetune", "svhn_wrn")
# In small they are `digits_diffusion`, or have a U-Net to compile.
LARGE += DIFFUSIONS[:3] + DIFFUSIONS[4:]
LARGE += TEXTS[1:]  # In small it is `copying`.
_SERVER = "tests.support.command_server"
_LINEAR = """
from configs import digits_cnn

def get_config(arg=None):
  config = digits_cnn.get_config(arg)
  config.model.name = "linear"
  config.model.options = {}
  config.save_every = 10
  return config
"""


def configs(*, slow=(), but=()):
  """Parameters of a test of every recipe but some, of which some are slow."""
  return [
      pytest.param(name, marks=[pytest.mark.slow] if name in slow else [])
      for name in CONFIGS
      if name not in but
  ]


def config(name="digits_cnn", arg="smoke=True", **fields):
  """The config of that name, with fields set by dotted name ("_" for ".")."""
  value = importlib.import_module(f"configs.{name}").get_config(arg)
  with value.unlocked():
    value.update_from_flattened_dict(
        {key.replace("__", "."): field for key, field in fields.items()}
    )
  return value.lock()


def linear(**fields):
  """The smoke config with logistic regression, for what any model would show.

  Its step is traced and compiled in a third of the time; and it saves as it
  begins and as it ends, unless the test is about what is between.
  """
  own = {"model__name": "linear", "model__options": {}, "save_every": 10}
  return config(**own | fields)


def table(**fields):
  """The smoke config of a table, as `linear` is of images."""
  return config("breast_cancer", **fields)


def diffusion(**fields):
  """The smoke config of a denoiser."""
  return config("digits_diffusion", **fields)


# What makes a small run of each kind of data, by task.
TASKS = {"classification": linear, "table": table, "diffusion": diffusion}
# For tests of what no task decides: the others repeat the first.
EACH_TASK = [
    "classification",
    *(pytest.param(t, marks=pytest.mark.slow) for t in ("table", "diffusion")),
]


def linear_recipe(folder):
  """Writes a recipe of `linear()`; returns the flag that names it."""
  path = folder / "linear.py"
  path.write_text(_LINEAR)
  return f"--config={path}:smoke=True"


def run(value, path):
  """Trains in this process; returns the summary."""
  workdir = workdir_lib.Workdir(pathlib.Path(path))
  # Some of optax's optimisers promote integers to floats.
  promotion = "strict" if value.train.optimizer == "sgd" else "standard"
  with jax.numpy_dtype_promotion(promotion):
    experiment = experiment_lib.build(value)
    workdir.claim(value, imported=experiment.imported)
    return train.run(experiment, workdir)


class KilledError(Exception):
  """In place of SIGKILL, which ends Python at once."""


def stop_after(monkeypatch, num_steps, act):
  """Lets `act` happen once so many steps are done, before the next."""
  real_train = loop.train

  def stopped(experiment, state, **options):
    for i, item in enumerate(real_train(experiment, state, **options)):
      if i == num_steps:
        act()
      yield item

  monkeypatch.setattr(loop, "train", stopped)


def kill_after(num_steps, value, path):
  """Trains in this process, and is killed behind so many steps."""

  def kill():
    raise KilledError

  with pytest.MonkeyPatch.context() as patched:
    stop_after(patched, num_steps, kill)
    with pytest.raises(KilledError):
      run(value, path)


def wait_for(process, text):
  """Reads what a process prints, up to the line that holds the text."""
  for line in process.stdout:
    if text in line:
      return
  raise AssertionError(f"no line with {text!r}: {process.stderr.read()}")


def command(module, *flags):
  """Runs a command as `python -m module flags`; returns the process.

  One of this project's is forked from a process that has imported JAX, which
  saves seconds; `process` starts Python itself.
  """
  server = _server()
  ours = module.startswith(("experiments.", "examples."))
  if not ours or server.environ != _environ():
    return process(module, *flags)
  os.umask(umask := os.umask(0))
  with tempfile.TemporaryDirectory() as folder:
    files = [pathlib.Path(folder) / name for name in ("stdout", "stderr")]
    for file in files:
      file.touch(0o600)
    code = server.ask(
        module=module, flags=flags, umask=umask, files=[*map(str, files)]
    )
    told = [file.read_text(encoding="utf-8") for file in files]
  return subprocess.CompletedProcess([module, *flags], code, *told)


def process(module, *flags):
  """Runs `python -m module flags` from the checkout; returns the process."""
  return subprocess.run(
      [sys.executable, "-m", module, *flags],
      capture_output=True,
      text=True,
      cwd=ROOT,
  )


def _environ():
  """What a command would inherit, but for what pytest and OpenMP note there."""
  return {
      k: v
      for k, v in os.environ.items()
      if k != "PYTEST_CURRENT_TEST" and not k.startswith("KMP_")
  }


class _Server:
  """See `command_server.py`."""

  def __init__(self):
    self.environ = _environ()
    self._process = subprocess.Popen(
        [sys.executable, "-m", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    atexit.register(self._close)

  def ask(self, **request):
    """Returns the exit code."""
    print(json.dumps(request), file=self._process.stdin, flush=True)
    return int(self._process.stdout.readline())

  def _close(self):
    self._process.communicate()  # Its input ends, and so does it.


@functools.cache
def _server():
  return _Server()
