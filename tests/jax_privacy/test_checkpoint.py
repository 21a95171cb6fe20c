import functools
import gc
import logging
import os
import resource
import shutil
import stat

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_privacy import checkpoint, noise_addition

# Orbax reads arrays at the same time: when a damaged one stops it, it drops
# what it was to read of the others, and closes the loop that they ran in.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings(
        r"ignore:coroutine '\w+\._get_array_metadatas' was never:RuntimeWarning"
    ),
]


@functools.cache  # Nobody changes it: it is made once for each scale.
def _state(scale=1.0):
  params = {
      "w": scale * jnp.arange(6.0).reshape(2, 3),
      "b": jnp.bfloat16(scale),
  }
  optimizer = optax.chain(
      noise_addition.gaussian_privatizer(stddev=1.0, prng_key=3),
      optax.adam(1e-3),
  )
  return {
      "params": params,
      "opt_state": optimizer.init(params),
      "step": jnp.int32(4),
      "key": jax.random.key(5),
  }


def _bits(tree):
  def data(x):
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)

  return [(data(x).dtype, data(x).tobytes()) for x in jax.tree.leaves(tree)]


def test_comes_back_to_the_bit(tmp_path):
  state = _state()
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore_latest(state) is None
    checkpoints.save(1, _state(0.5))
    checkpoints.save(7, state)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    step, restored, _, damaged = checkpoints.restore_latest(
        jax.eval_shape(_state)
    )
  assert step == 7 and not damaged
  assert _bits(restored) == _bits(state)
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  assert jnp.issubdtype(restored["key"].dtype, jax.dtypes.prng_key)


def test_a_part_can_be_read(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(7, _state())
    part = checkpoints.restore_latest({"params": _state()["params"]})
  assert set(part.state) == {"params"}


def test_only_the_newest_are_kept(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in range(1, 6):
      checkpoints.save(step, {"step": jnp.int32(step)})
    assert checkpoints.restore_latest({"step": jnp.int32(0)}).step == 5
  assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["4", "5"]


def test_another_structure_is_refused(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {"params": {"w": jnp.ones(3)}})
    for like in ({"w": jnp.ones(3), "extra": jnp.ones(1)}, {"v": jnp.ones(3)}):
      with pytest.raises(ValueError, match="checkpoint must hold params"):
        checkpoints.restore_latest({"params": like})
    with pytest.raises(ValueError, match=r"params\['w'\] as \[\[4\], 'flo"):
      checkpoints.restore_latest({"params": {"w": jnp.ones(4)}})
    # It is another model's, not damaged: it stays where it is.
    assert (tmp_path / "1").is_dir()


def _flip(file):
  data = bytearray(file.read_bytes())
  for i in range(len(data)):  # Every byte: a middle one may be of no account.
    data[i] ^= 0xFF
  file.write_bytes(bytes(data))


def _halve(file):
  data = file.read_bytes()
  file.write_bytes(data[: len(data) // 2])


_DAMAGES = {"flip": _flip, "halve": _halve, "remove": lambda f: f.unlink()}


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory):
  path = tmp_path_factory.mktemp("saved")
  with checkpoint.Checkpoints(path) as checkpoints:
    checkpoints.save(1, _state(0.5))
    checkpoints.save(7, _state())
  return path


@pytest.mark.few(1)
@pytest.mark.parametrize(
    # A file that is cut has other bytes, as one that is flipped has.
    "damage",
    ["flip", pytest.param("halve", marks=pytest.mark.slow), "remove"],
)
def test_no_damage_to_any_file_gives_other_bits(tmp_path, damage):
  # All the files of the newest checkpoint, one at a time. Orbax alone returns
  # flipped bits of an array as if they were right.
  def small(scale):  # One item has all kinds of files.
    state = _state(scale)
    return {"all": {"params": state["params"], "key": state["key"]}}

  with checkpoint.Checkpoints(tmp_path / "saved") as checkpoints:
    for step, scale in ((1, 0.5), (7, 1.0)):
      checkpoints.save(step, small(scale))
  saved = {1: _bits(small(0.5)), 7: _bits(small(1.0))}
  files = [p for p in (tmp_path / "saved" / "7").rglob("*") if p.is_file()]
  steps = []
  for i, file in enumerate(files):
    copy = shutil.copytree(tmp_path / "saved", tmp_path / str(i))
    _DAMAGES[damage](copy / file.relative_to(tmp_path / "saved"))
    with checkpoint.Checkpoints(copy) as checkpoints:
      restored = checkpoints.restore_latest(small(1.0))
    assert _bits(restored.state) == saved[restored.step], file
    assert len(restored.damaged) == (restored.step == 1)
    steps.append(restored.step)
  assert 1 in steps  # Some damage was noticed, so the loop tests something.
  gc.collect()  # What Orbax dropped warns when it is freed: now, not later.


def test_flipped_bits_of_an_array_are_noticed(two_saved, tmp_path):
  # The largest file of an item holds its arrays' bytes.
  copy = shutil.copytree(two_saved, tmp_path / "copy")
  for file in (copy / "7" / "params" / "d").iterdir():
    _flip(file)
  with checkpoint.Checkpoints(copy) as checkpoints:
    assert checkpoints.restore_latest(_state()).step == 1
  gc.collect()


def test_arrays_of_another_checkpoint_are_noticed(two_saved, tmp_path):
  # Orbax finds no fault in them: they are whole, and of the same shapes.
  copy = shutil.copytree(two_saved, tmp_path / "copy")
  with checkpoint.Checkpoints(tmp_path / "other") as checkpoints:
    checkpoints.save(7, _state(0.25))
  shutil.rmtree(copy / "7" / "params")
  shutil.copytree(tmp_path / "other" / "7" / "params", copy / "7" / "params")
  with checkpoint.Checkpoints(copy) as checkpoints:
    with pytest.raises(checkpoint.CheckpointError, match="bits of params"):
      checkpoints.read_latest("params")
    restored = checkpoints.restore_latest(_state())
  assert restored.step == 1
  assert [text for text in restored.damaged if "bits of params" in text]


def test_a_changed_fact_is_noticed(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {"x": jnp.ones(2)}, facts={"epsilon": 1.0})
    checkpoints.save(2, {"x": jnp.ones(2)}, facts={"epsilon": 3.0})
  record = tmp_path / "2" / "record" / "metadata"
  record.write_text(record.read_text().replace("3.0", "0.1"))
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    restored = checkpoints.restore_latest({"x": jnp.ones(2)})
  assert restored.facts == {"epsilon": 1.0}
  (line,) = restored.damaged
  assert "its record is not what was saved" in line


def test_a_damaged_step_is_set_aside_and_can_be_saved_again(
    two_saved, tmp_path
):
  copy = shutil.copytree(two_saved, tmp_path / "copy")
  for name in ("7.damaged1", "7.damaged2"):
    shutil.rmtree(copy / "7" / "params")
    with checkpoint.Checkpoints(copy) as checkpoints:
      restored = checkpoints.restore_latest(_state())
      assert restored.step == 1 and "7: " in restored.damaged[0]
      assert (copy / name).is_dir() and not (copy / "7").exists()
      checkpoints.save(7, _state(2.0))
  with checkpoint.Checkpoints(copy) as checkpoints:
    restored = checkpoints.restore_latest(_state())
  assert restored.step == 7 and _bits(restored.state) == _bits(_state(2.0))


def test_nothing_left_to_read_is_an_error(two_saved, tmp_path):
  copy = shutil.copytree(two_saved, tmp_path / "copy")
  for step in ("1", "7"):
    shutil.rmtree(copy / step / "opt_state")
  with checkpoint.Checkpoints(copy) as checkpoints:
    with pytest.raises(checkpoint.CheckpointError, match="only damaged ones"):
      checkpoints.restore_latest(_state())


def test_reading_only_touches_nothing(two_saved, tmp_path):
  copy = shutil.copytree(two_saved, tmp_path / "copy")
  shutil.rmtree(copy / "7" / "params")
  before = sorted(copy.rglob("*"))
  with checkpoint.Checkpoints(copy, read_only=True) as checkpoints:
    assert checkpoints.restore_latest(_state()).step == 1
  assert sorted(copy.rglob("*")) == before
  with checkpoint.Checkpoints(tmp_path / "none", read_only=True) as nothing:
    assert nothing.restore_latest(_state()) is None
  assert not (tmp_path / "none").exists()


def test_nothing_is_saved_with_read_only(two_saved):
  with checkpoint.Checkpoints(two_saved, read_only=True) as checkpoints:
    with pytest.raises(ValueError, match="read_only must be False to save"):
      checkpoints.save(9, _state())


def test_reading_only_warns_of_nothing(two_saved, caplog):
  with checkpoint.Checkpoints(two_saved, read_only=True) as checkpoints:
    assert checkpoints.restore_latest(_state()).step == 7
  assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_nobody_else_can_read_it(tmp_path):
  path = tmp_path / "made" / "here"
  before = os.umask(0)
  try:
    with checkpoint.Checkpoints(path) as checkpoints:
      checkpoints.save(1, {"x": jnp.zeros(3)})
  finally:
    os.umask(before)
  entries = [path.parent, *path.parent.rglob("*")]
  assert len(entries) > 10
  for entry in entries:
    mode = stat.S_IMODE(entry.stat().st_mode)
    assert mode == (0o700 if entry.is_dir() else 0o600), f"{entry} {mode:o}"


def test_half_a_save_is_no_checkpoint(two_saved, tmp_path):
  # What a kill leaves: a folder that was not renamed.
  copy = shutil.copytree(two_saved, tmp_path / "copy")
  shutil.copytree(copy / "7", copy / "9.orbax-checkpoint-tmp")
  with checkpoint.Checkpoints(copy) as checkpoints:
    assert checkpoints.restore_latest(_state()).step == 7
    checkpoints.save(9, _state())
  assert sorted(p.name for p in copy.iterdir()) == ["7", "9"]


def test_the_state_may_be_donated_at_once(tmp_path):
  # 40 MB take longer to write than a step: a save that kept the buffer and not
  # a copy would write the later values.
  add = jax.jit(lambda x: x + 1, donate_argnums=0)
  x = jnp.zeros(10_000_000)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {"x": x})
    for _ in range(10):
      x = add(x)
    x.block_until_ready()
    restored = checkpoints.restore_latest({"x": x})
  assert not np.any(restored.state["x"]) and np.all(x == 10)


def test_a_full_disk_is_told_and_the_one_before_stays(tmp_path):
  # The system refuses to let a file grow beyond 300 kB, as a full disk would.
  small = {"x": jnp.zeros(10)}
  large = {"x": jax.random.normal(jax.random.key(0), (250_000,))}
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  checkpoints = checkpoint.Checkpoints(tmp_path)
  checkpoints.save(1, small)
  checkpoints.wait()
  resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
  try:
    with pytest.raises(checkpoint.CheckpointError, match="of step 2 must be"):
      checkpoints.save(2, large)
      checkpoints.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.restore_latest(small).step == 1


@pytest.mark.parametrize("step", [6, 7])
def test_a_step_is_saved_once_and_in_order(two_saved, tmp_path, step):
  copy = shutil.copytree(two_saved, tmp_path / "copy")
  with checkpoint.Checkpoints(copy) as checkpoints:
    with pytest.raises(ValueError, match="above the newest checkpoint's, 7"):
      checkpoints.save(step, _state())


def test_digest_sees_names_shapes_types_and_bits():
  base = {"a": np.zeros((2, 3), np.float32)}
  others = [
      {"b": np.zeros((2, 3), np.float32)},
      {"a": np.zeros((3, 2), np.float32)},
      {"a": np.zeros((2, 3), np.float16)},
      {"a": np.full((2, 3), -0.0, np.float32)},
  ]
  digests = {checkpoint.tree_sha256(x) for x in [base, *others]}
  assert len(digests) == 5
  again = {"a": np.zeros((2, 3), np.float32)}
  assert checkpoint.tree_sha256(base) == checkpoint.tree_sha256(again)


def test_bad_keep(tmp_path):
  with pytest.raises(ValueError, match="keep must be an integer"):
    checkpoint.Checkpoints(tmp_path, keep=0)
