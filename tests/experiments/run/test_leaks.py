"""What a run tells, but for what is marked private, is a function of public
numbers: the realised batch sizes and the examples do not show in it.

Two runs are compared. They have the same config, and hence the same public
numbers; their data sets are neighbours (one example replaced, label and all),
and the sizes of their batches are set by the test and differ at every step. So
do their parameters, of course: these are what the noise is for.
"""

import io
import json
import logging
import re

import jax
import numpy as np
import PIL.Image
import pytest

from experiments.run import input as input_lib
from experiments.run import summary as summary_lib
from experiments.run import workdir as workdir_lib
from jax_privacy import batch_selection, data
from tests.support import launch

_NUM_EXAMPLES = 64
# Expected 16; padded to 20, 27, 37 or, truncated at 24, to 20, 24.
_SIZES = {"a": [3, 17, 0, 11, 5, 19], "b": [16, 2, 20, 1, 13, 0]}
# Of the released parameters; of time and memory, see docs/trust.md.
_RELEASED = {"params_sha256", "test_accuracy", "test_accuracy_ema"}
_RELEASED |= {"test_accuracies", "test_top5_accuracy", "headline"}
_MEASURED = {"train_seconds", "examples_per_second", "peak_memory_bytes"}


@pytest.fixture
def neighbours(tmp_path):
  """Paths of two archives that differ in one training example."""
  source = data.load("digits").as_arrays()
  images, labels = source["image"][:96], source["label"][:96]
  paths = {}
  for name in "ab":
    images, labels = images.copy(), labels.copy()
    if name == "b":
      images[7], labels[7] = 255 - images[7], (labels[7] + 1) % 10
    paths[name] = tmp_path / f"{name}.npz"
    np.savez(
        paths[name],
        x_train=images[:_NUM_EXAMPLES],
        y_train=labels[:_NUM_EXAMPLES],
        x_test=images[_NUM_EXAMPLES:],
        y_test=labels[_NUM_EXAMPLES:],
    )
  return paths


def _told(path, sizes, config, monkeypatch, capfd):
  """Trains with batches of these sizes; returns all that the run tells."""
  logged = io.StringIO()
  handler = logging.StreamHandler(logged)
  logger = logging.getLogger("jax")
  with monkeypatch.context() as patched:
    patched.setattr(
        batch_selection.Batches,
        "batch",
        lambda self, step: np.arange(sizes[step], dtype=np.int8),
    )
    logger.addHandler(handler)
    try:
      with jax.log_compiles():
        capfd.readouterr()
        summary_lib.show(launch.run(config, path))
    finally:
      logger.removeHandler(handler)
  out, err = capfd.readouterr()
  return {
      "stdout": out,
      "stderr": err,
      "summary": json.loads((path / "summary.json").read_text()),
      "metrics": (path / "metrics.jsonl").read_text().splitlines(),
      "names": sorted(
          str(entry.relative_to(path))
          for entry in path.rglob("*")
          if "ocdbt" not in str(entry) and "/d/" not in str(entry)
      ),
      "metadata": sorted(
          entry.read_text()
          for entry in path.rglob("*METADATA*")
          if entry.is_file()
      ),
      "compiled": sorted(set(_compilations(logged.getvalue()))),
  }


def _compilations(text):
  """The halves of a step and the evaluation, with their arguments' shapes.

  Not what JAX compiles once for a process, whichever run is the first.
  """
  names = r"jit\((?:add|predict_fn)\) .*uint8\[|jit\(update\)"
  return re.findall(rf"Compiling ((?:{names}).*)", text)


def _public(told, path):
  """What is told, without what is marked private, released or measured."""

  def without_times(text):
    text = text.replace(str(path), "")
    text = re.sub(r"loss \S+ \(private, not for release\)", "", text)
    text = re.sub(r"compiling for .* private, not for release\)\n", "", text)
    text = re.sub(r"\d+ examples/s", "", text)
    text = re.sub(r"[\d.]+ s of training", "", text)
    return re.sub(r"[\d.]+%", "", text)  # Accuracies.

  metrics = [json.loads(line) for line in told["metrics"]]
  return {
      "stdout": without_times(told["stdout"]),
      "stderr": without_times(told["stderr"]),
      "summary": _drop(told["summary"], _RELEASED | _MEASURED),
      "metrics": [
          _drop(m, _MEASURED | {workdir_lib.UNRELEASED_METRICS})
          for m in metrics
      ],
      "names": told["names"],
      # Times in nanoseconds.
      "metadata": [re.sub(r"\d{12,}", "", text) for text in told["metadata"]],
      "compiled": told["compiled"],
  }


def _drop(fields, names):
  return {key: value for key, value in fields.items() if key not in names}


def _config(path, sampling, physical_batch_size):
  return launch.config(
      data__source="npz",
      data__options={"path": str(path)},
      data__num_examples=_NUM_EXAMPLES,
      dp__epsilon=None,
      dp__noise_multiplier=2.0,
      dp__accountant="pld" if sampling == "truncated_poisson" else "rdp",
      dp__sampling=sampling,
      dp__max_batch_size=24 if sampling == "truncated_poisson" else None,
      dp__delta=1e-3,
      train__num_steps=6,
      physical_batch_size=physical_batch_size,
      eval__batch_size=32,
      log_every=1,
      save_every=2,
  )


def _both(tmp_path, neighbours, monkeypatch, capfd, **options):
  """What the two runs told; the path to the data is the same for both."""
  told, link = {}, tmp_path / "set.npz"
  for name, sizes in _SIZES.items():
    link.unlink(missing_ok=True)
    link.symlink_to(neighbours[name])
    path = tmp_path / name
    told[name] = _told(
        path, sizes, _config(link, **options), monkeypatch, capfd
    )
    told[name]["public"] = _public(told[name], path)
  return told["a"], told["b"]


# Each case compiles a run twice, some 10 s: one of them in every run of tests.
_CASES = [("poisson", None)]
_MORE = [
    ("poisson", 8),
    ("truncated_poisson", None),
    ("truncated_poisson", 8),
]


@pytest.mark.parametrize(
    "sampling, physical_batch_size",
    _CASES + [pytest.param(*case, marks=pytest.mark.slow) for case in _MORE],
)
def test_nothing_public_tells_of_batches_or_examples(
    tmp_path, neighbours, monkeypatch, capfd, sampling, physical_batch_size
):
  a, b = _both(
      tmp_path,
      neighbours,
      monkeypatch,
      capfd,
      sampling=sampling,
      physical_batch_size=physical_batch_size,
  )
  for name in a["public"]:
    assert a["public"][name] == b["public"][name], name
  # The comparison is not one of nothing with nothing, nor of equal runs.
  assert a["public"]["stdout"].count("step ") >= 6
  assert len(a["public"]["metrics"]) == 6 and a["public"]["metadata"]
  assert a["metrics"] != b["metrics"]
  assert a["summary"]["params_sha256"] != b["summary"]["params_sha256"]
  # One shape of a batch is compiled, and it is a public size: the smallest of
  # `poisson_sizes`, or the physical batch.
  size = physical_batch_size or 20
  assert len(a["compiled"]) >= 3
  steps = [text for text in a["compiled"] if text.startswith("jit(add)")]
  assert len(steps) == 1, a["compiled"]
  assert f"uint8[{size},8,8,1]" in steps[0]


@pytest.mark.slow
def test_compiled_sizes_are_those_of_public_numbers(
    tmp_path, neighbours, monkeypatch, capfd
):
  """Which of them a batch takes tells of its size; no other number shows."""
  config = _config(
      neighbours["a"], sampling="poisson", physical_batch_size=None
  )
  sizes = [1, 21, 27, 36, 37, 0]
  told = _told(tmp_path / "run", sizes, config, monkeypatch, capfd)
  steps = [text for text in told["compiled"] if text.startswith("jit(add)")]
  compiled = {int(re.search(r"uint8\[(\d+),8,8,1\]", x)[1]) for x in steps}
  allowed = batch_selection.poisson_sizes(
      num_examples=_NUM_EXAMPLES, sampling_prob=16 / _NUM_EXAMPLES
  )
  assert compiled == set(allowed) and len(allowed) == 3


@pytest.mark.slow
def test_a_leak_is_seen(tmp_path, neighbours, monkeypatch, capfd):
  """Planted: a line that tells the realised batch size."""
  real = input_lib._split

  def leaking(experiment, step):
    pieces = real(experiment, step)
    num_real = sum(int((piece >= 0).sum()) for piece in pieces)
    print(f"step {step}: batch of {num_real}")
    return pieces

  monkeypatch.setattr(input_lib, "_split", leaking)
  a, b = _both(
      tmp_path,
      neighbours,
      monkeypatch,
      capfd,
      sampling="poisson",
      physical_batch_size=8,
  )
  assert a["public"]["stdout"] != b["public"]["stdout"]


def _png(image):
  file = io.BytesIO()
  PIL.Image.fromarray(image).save(file, "PNG")
  return file.getvalue()


def test_a_damaged_example_is_named_and_that_is_marked_private(tmp_path):
  """That it was drawn is private; without its name nobody could mend it."""
  arrays = data.load("digits").as_arrays()
  files = [_png(image[..., 0]) for image in arrays["image"][:40]]
  files[1:20] = [b"no image"] * 19
  np.savez(
      tmp_path / "set.npz",
      bytes=np.frombuffer(b"".join(files), np.uint8),
      offsets=np.cumsum([0] + [len(file) for file in files]),
      labels=arrays["label"][:40],
      is_test=np.arange(40) >= 20,
  )
  config = launch.config(
      data__source="npz",
      data__options={"path": str(tmp_path / "set.npz"), "channels": 1},
      data__num_examples=20,
      dp__delta=1e-2,
      train__expected_batch_size=15,
  )
  with pytest.raises(
      data.ImageError, match="image .* must be a JPEG or PNG"
  ) as e:
    launch.run(config, tmp_path / "run")
  assert str(e.value).endswith("(private, not for release)")
  assert "\n" not in str(e.value)
