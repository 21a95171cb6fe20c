"""How examples reach the devices changes no bit of a run.

Encoded images, on the devices or not, in workers or not: all runs that should
be the same run are compared by the digest of their parameters.
"""

import io

import jax
import numpy as np
import PIL.Image
import pytest

from experiments import train
from experiments.audits import canaries
from experiments.plan import experiment as experiment_lib
from experiments.plan import placement
from experiments.run import input as input_lib
from experiments.run import workdir as workdir_lib
from jax_privacy import data
from tests.support import launch


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
  """An archive of 80 encoded digits to train on, and 20 to test on."""
  source = data.load("digits", split="train")
  files, labels = [], []
  for i in range(100):
    example = source[np.array([i])]
    file = io.BytesIO()
    PIL.Image.fromarray(example["image"][0, ..., 0]).save(file, "PNG")
    files.append(file.getvalue())
    labels.append(example["label"][0])
  path = tmp_path_factory.mktemp("archive") / "digits.npz"
  np.savez(
      path,
      bytes=np.frombuffer(b"".join(files), np.uint8),
      offsets=np.cumsum([0, *map(len, files)]),
      labels=np.array(labels),
      is_test=np.arange(100) >= 80,
  )
  return path


def _config(archive, **fields):
  """A config on it, with fields set by dotted name."""
  return launch.linear(
      **{
          "data__source": "npz",
          "data__options": {"path": str(archive), "channels": 1},
          "data__num_examples": 80,
          **fields,
      }
  )


def _digest(value, path):
  return launch.run(value, path)["params_sha256"]


@pytest.fixture(scope="module")
def plain(archive, tmp_path_factory):
  """The digest of the run that decodes each image when it is drawn."""
  return _digest(_config(archive), tmp_path_factory.mktemp("plain"))


@pytest.mark.slow
def test_all_examples_on_the_device_is_the_same_run(archive, tmp_path, plain):
  config = _config(archive, data__on_device=True)
  assert _digest(config, tmp_path / "run") == plain
  # What a digest would tell: other batches.
  assert _digest(_config(archive, seed=1), tmp_path / "other") != plain


@pytest.mark.slow  # Three more runs, two of them with workers.
@pytest.mark.parametrize(
    "fields",
    [
        {"data__prefetch": 2},
        {"data__num_workers": 2, "data__prefetch": 1},
        {"data__num_workers": 1, "data__on_device": True},
    ],
)
def test_decoded_ahead_is_the_same_run(archive, tmp_path, plain, fields):
  assert _digest(_config(archive, **fields), tmp_path / "run") == plain


def _batches(config, first_step=0, build_fn=experiment_lib.build):
  """The physical batches, back on the host."""
  experiment = build_fn(config)
  return [
      jax.device_get(tuple(batch))
      for batch in input_lib.physical_batches(experiment, first_step=first_step)
      if len(batch.indices) or batch.is_last
  ]


def _sizes(config):
  return experiment_lib.build(config).dp_training.sampler.sizes


def _assert_same(got, want):
  assert len(got) == len(want)
  for (examples, indices, is_last), other in zip(got, want, strict=True):
    np.testing.assert_array_equal(indices, other[1])
    assert is_last == other[2]
    if len(indices):
      jax.tree.map(np.testing.assert_array_equal, examples, other[0])


@pytest.mark.few(1)
@pytest.mark.parametrize("size", [None, 6])
def test_every_batch_is_the_sources_own(size):
  """Digits on the device, padding and empty batches included."""
  fields = {"train__num_steps": 20, "train__expected_batch_size": 2.0}
  fields |= {"physical_batch_size": size}
  host = _batches(launch.linear(data__on_device=False, **fields))
  assert sum(is_last for *_, is_last in host) == 20
  # Each step is empty with probability 13.5%: some of 20 is, but for 5.5%, in
  # which this seed is not.
  assert any(not (indices >= 0).any() for _, indices, _ in host)
  assert size is None or any(not len(indices) for _, indices, _ in host)
  # A few sizes, and so a few programs, to which gathering adds none.
  sizes = {6, 0} if size else set(_sizes(launch.linear(**fields)))
  assert {len(indices) for _, indices, _ in host} <= sizes
  source = data.load("digits", split="train")
  for examples, indices, _ in host:
    if len(indices):
      jax.tree.map(
          np.testing.assert_array_equal, examples, source[np.array(indices)]
      )
  _assert_same(_batches(launch.linear(data__on_device=True, **fields)), host)
  ahead = launch.linear(data__on_device=False, data__prefetch=3, **fields)
  _assert_same(_batches(ahead), host)
  # From any step on, it is the rest.
  last = [i for i, (*_, is_last) in enumerate(host) if is_last]
  _assert_same(_batches(ahead, first_step=13), host[last[12] + 1 :])


@pytest.mark.few(2)
@pytest.mark.parametrize("task", launch.TASKS)
@pytest.mark.parametrize("canary", ["clipped", "input"])
def test_canaries_are_gathered_too(task, canary):
  def batches(on_device):
    config = launch.TASKS[task](
        data__on_device=on_device, train__expected_batch_size=400
    )
    config = canaries.add_to_config(config, canary=canary, num_canaries=100)
    return _batches(config, build_fn=canaries.build)

  host = batches(False)
  sizes = {"classification": 1437, "table": 455, "diffusion": 1437}
  num_examples = sizes[task]
  assert any((indices >= num_examples).any() for _, indices, _ in host)
  _assert_same(batches(True), host)


def test_reading_ahead_begins_no_step(tmp_path, monkeypatch):
  config = launch.linear(
      data__on_device=False, data__prefetch=3, train__num_steps=9, log_every=1
  )
  workdir = workdir_lib.Workdir(tmp_path / "run")
  experiment = experiment_lib.build(config)
  drawn, begun = [], []
  real = input_lib._split

  def split(experiment, step):
    drawn.append(step)
    return real(experiment, step)

  monkeypatch.setattr(input_lib, "_split", split)
  real_write = workdir_lib.Workdir.write_steps_begun

  def write(self, steps, **options):
    begun.append((steps, len(drawn)))
    real_write(self, steps, **options)

  monkeypatch.setattr(workdir_lib.Workdir, "write_steps_begun", write)
  workdir.claim(config)
  train.run(experiment, workdir)
  assert [steps for steps, _ in begun] == list(range(1, 10))
  # Batches were drawn that no step had begun.
  assert begun[1][1] > 2


@pytest.mark.slow
def test_a_run_goes_on_with_another_input(archive, tmp_path, plain):
  config = _config(archive, save_every=1)
  workdir = workdir_lib.Workdir(tmp_path / "run")
  experiment = experiment_lib.build(config)
  workdir.claim(config)

  class Stop:
    requested = True

  assert train.run(experiment, workdir, stop=Stop()) is None
  resumed = _config(
      archive, save_every=1, data__on_device=True, data__prefetch=1
  )
  assert _digest(resumed, tmp_path / "run") == plain


def test_what_does_not_fit_is_left_where_it_is(monkeypatch):
  config = launch.config(data__on_device=True)
  source = data.load("digits", split="train")
  assert placement.on_device(config.data, source)
  size = 1437 * (64 + 4)  # Of pixels and label.
  monkeypatch.setattr(placement, "limit_bytes", lambda: size)
  assert placement.on_device(config.data, source)
  monkeypatch.setattr(placement, "limit_bytes", lambda: size - 1)
  with pytest.raises(
      ValueError, match="data.on_device must be None or False .* True for 97716"
  ):
    experiment_lib.build(config)
  assert not placement.on_device(launch.config().data, source)


def test_by_itself_an_accelerator_gets_what_fits(monkeypatch):
  class Device:
    platform = "gpu"

    def memory_stats(self):
      return {"bytes_limit": 4 * 1437 * 68}

  monkeypatch.setattr(jax, "devices", lambda: [Device()])
  monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
  source = data.load("digits", split="train")
  assert placement.on_device(launch.config().data, source)
  assert not placement.on_device(
      launch.config(data__on_device=False).data, source
  )
  monkeypatch.setattr(Device, "memory_stats", lambda self: {"bytes_limit": 9})
  assert not placement.on_device(launch.config().data, source)
  monkeypatch.undo()
  assert not placement.on_device(launch.config().data, source)  # A CPU.


def test_an_example_that_cannot_be_read_is_called_private(archive):
  with np.load(archive) as stored:
    arrays = dict(stored)
  first, last = arrays["offsets"][[1, 80]]
  arrays["bytes"][first:last] = 0
  broken = archive.with_name("broken.npz")
  np.savez(broken, **arrays)
  for fields in ({}, {"data__on_device": True}, {"data__prefetch": 1}):
    with pytest.raises(data.ImageError, match="image .* not for release"):
      _batches(_config(broken, **fields))
