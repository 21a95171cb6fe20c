"""Many devices compute what one computes, and draw the same noise.

The checks are in `support/mesh_checks.py`, a program that starts with eight CPU
devices and takes meshes of 1, 2, 4 and 8 of them.
"""

import fcntl
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jax_privacy import dp_sgd, sharding

_ROOT = pathlib.Path(__file__).parents[2]
_FAST = (
    "sums",
    "padding_and_empty_batches",
    "noise_has_the_same_bits",
    "correlated_noise_has_the_same_bits",
    "noise_bits_do_not_depend_on_placement",
    "secure_noise_bits_do_not_depend_on_placement",
    "noise_is_added_once",
    "refused_generators",
    "fsdp_stores_a_part",
    "errors",
)
_SLOW = (
    "no_device_holds_all_gradients",
    "layers_stay_split",
    "memory_falls_with_devices",
    "wrong_split_is_refused",
    "sums_everywhere",
    "microbatches",
    "microbatches_everywhere",
    "optax_loop",
    "not_compiled",
    "grid_has_the_same_bits",
    "one_example_a_device_and_several_clip_norms",
    "noise_has_the_same_bits_everywhere",
    "secure_noise_has_the_same_bits",
    "refused_exactly_where_wrong",
    "refused_within_loops_and_branches",
    "layers_stay_split_everywhere",
    "memory_falls_with_devices_everywhere",
    "wide_resnet",
    "transformer",
)


def _run(names):
  """Returns what one process with eight devices finds: name to traceback."""
  done = subprocess.run(
      [sys.executable, "-m", "tests.support.mesh_checks", *names],
      capture_output=True,
      text=True,
      cwd=_ROOT,
      env={
          **os.environ,
          "PYTHONPATH": str(_ROOT),
          "JAX_PLATFORMS": "cpu",
          "JAX_NUM_CPU_DEVICES": "8",
      },
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert list(found) == list(names)
  return found


@pytest.fixture(name="found")
def _found(request, tmp_path_factory):
  """What a check's group finds: one process serves all that are selected."""
  function = request.node.originalname
  names = [
      item.callspec.params["name"]
      for item in request.session.items
      if getattr(item, "originalname", None) == function
  ]
  base = tmp_path_factory.getbasetemp()
  # Workers of one run share this folder: the first to come runs the process.
  shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
  path = shared / f"{function}.json"
  with open(shared / f"{function}.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not path.exists():
      path.write_text(json.dumps(_run(names)))
  return json.loads(path.read_text())


@pytest.mark.parametrize("name", _FAST)
def test_eight_devices_do_as_one(name, found):
  assert found[name] is None, found[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", _SLOW)
def test_meshes_and_models_do_as_one_device(name, found):
  assert found[name] is None, found[name]


@pytest.mark.parametrize(
    "shape, want",
    [
        ((3, 3, 16, 32), (None, None, None, "fsdp")),
        ((12, 5), ("fsdp",)),
        ((8, 8), ("fsdp",)),  # Of two, the first.
        ((6, 31), ()),  # 4 divides none.
        ((4,), ("fsdp",)),
        ((0, 3), ()),
        ((), ()),
    ],
)
def test_the_largest_axis_that_divides_is_split(shape, want):
  mesh = jax.sharding.AbstractMesh((2, 4), ("data", "fsdp"))
  assert sharding.spec(mesh, shape) == PartitionSpec(*want)
  copies = jax.sharding.AbstractMesh((8, 1), ("data", "fsdp"))
  assert sharding.spec(copies, shape) == PartitionSpec()
  foreign = jax.sharding.AbstractMesh((8,), ("replica",))
  assert sharding.spec(foreign, shape) == PartitionSpec()


def test_a_mesh_needs_devices():
  with pytest.raises(ValueError, match="got 64 x 64.*JAX_NUM_CPU_DEVICES=4096"):
    sharding.make_mesh(data=64, fsdp=64)


@pytest.mark.parametrize("sampling", ["poisson", "fixed_without_replacement"])
def test_a_sampler_for_many_devices_draws_the_same_batches(sampling):
  mechanism = types.SimpleNamespace(
      num_steps=20,
      sampling=sampling,
      sampling_prob=0.25,
      num_examples=100,
      max_batch_size=None,
  )
  plain = dp_sgd.make_sampler(mechanism, key=0)
  for num_devices, microbatch_size in ((8, None), (4, 12), (2, 6)):
    sampler = dp_sgd.make_sampler(
        mechanism,
        key=0,
        num_devices=num_devices,
        microbatch_size=microbatch_size,
    )
    for step in range(20):
      want, got = (s.batch(step).indices for s in (plain, sampler))
      np.testing.assert_array_equal(
          np.sort(got[got >= 0]), np.sort(want[want >= 0])
      )
      # Equal blocks, with padding last, whose real rows differ by one at most.
      assert len(got) % num_devices == 0
      blocks = got.reshape(num_devices, -1) >= 0
      counts = blocks.sum(axis=1)
      assert counts.max() - counts.min() <= 1
      for block, count in zip(blocks, counts, strict=True):
        assert block[:count].all()


@pytest.mark.slow
def test_the_example_of_the_docs_runs():
  text = (_ROOT / "docs" / "meshes.md").read_text(encoding="utf-8")
  (program, output), *rest = re.findall(
      r"```python\n(.*?)```\n\n```text\n(.*?)```", text, flags=re.DOTALL
  )
  assert not rest
  done = subprocess.run(
      [sys.executable, "-c", program],
      capture_output=True,
      text=True,
      cwd=_ROOT,
      env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"},
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == output
