"""A run's model outside of the run: in Python, by commands, by `jax` alone."""

import json
import re
import shlex
import shutil
import zipfile

import jax
import numpy as np
import PIL.Image
import pytest

import accounting
import experiments
from experiments.evaluation import saved
from experiments.plan import experiment as experiment_lib
from experiments.release import model as model_lib
from experiments.release import predictions, program
from experiments.run import workdir as workdir_lib
from jax_privacy import data
from tests.support import alone, fuzz, launch


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  path = tmp_path_factory.mktemp("run") / "digits"
  launch.run(launch.linear(save_every=1), path)
  return path


@pytest.fixture(scope="module")
def model(workdir):
  return experiments.load(workdir)


@pytest.fixture(scope="module")
def images():
  return data.load("digits", split="test")[np.arange(7)]["image"]


@pytest.fixture(scope="module")
def logits(workdir, images):
  """By evaluation's own predictor."""
  run = saved.load(workdir)
  batch = {"image": images, "label": np.zeros(len(images), np.int32)}
  return np.asarray(run.predictor.predict_fn(run.params["ema"], batch))


def test_a_model_predicts_what_was_evaluated(model, images, logits):
  # Compiled and not, sums round otherwise: 64 products, all below 4.
  np.testing.assert_allclose(model.outputs(images), logits, atol=1e-4)
  columns = model.predict(images)
  assert tuple(columns) == model.class_names == tuple("0123456789")
  found = np.stack(list(columns.values()), axis=1)
  np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-4)


def test_neither_a_prediction_nor_an_export_needs_the_data(
    workdir, tmp_path, images, logits, monkeypatch
):
  def gone(*args, **options):
    raise AssertionError("the data were read")

  monkeypatch.setattr(data, "load", gone)
  folder = _written(tmp_path / "in", images)["folder"]
  read = model_lib.load(workdir, inputs=str(folder))
  found = read.outputs(read.signature.read(read.source[np.arange(7)]))
  np.testing.assert_allclose(found, logits, atol=1e-4)
  bare = experiments.load(workdir)
  assert bare.class_names == read.class_names
  assert bare.metadata()["data"]["image_shape"] == [8, 8, 1]
  program.lower(bare.program_signature, bare.params, platforms=["cpu"])


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"label_names": ["a"], "image_shape": [8, 8]}']
    + ['{"label_names": 3, "image_shape": [8, 8, 1]}']
    + ['{"label_names": ["a", "b"], "image_shape": [8, 8, 1000000000]}'],
)
def test_a_damaged_description_is_named(workdir, tmp_path, text):
  shutil.copytree(workdir, tmp_path / "run")
  (tmp_path / "run" / "inputs.json").write_text(text)
  with pytest.raises(ValueError, match="inputs.json"):
    experiments.load(tmp_path / "run")


def test_a_run_of_before_descriptions_reads_its_test_split(workdir, tmp_path):
  shutil.copytree(workdir, tmp_path / "run")
  (tmp_path / "run" / "inputs.json").unlink()
  older = experiments.load(tmp_path / "run")
  assert older.metadata() == experiments.load(workdir).metadata()


def test_other_parameters_are_chosen_by_name(workdir, images, logits):
  last = experiments.load(workdir, params="last")
  assert np.abs(last.outputs(images) - logits).max() > 1e-2
  with pytest.raises(ValueError, match="params must be one of last, ema, got"):
    experiments.load(workdir, params="best")


def test_the_statement_is_the_runs(workdir, model):
  summary = workdir_lib.Workdir(workdir).read_summary()
  told = model.guarantee
  assert told["private"] is True and told["unit"] == "example"
  assert told["epsilon"] == pytest.approx(summary["epsilon"], rel=1e-9)
  # Rounded up.
  assert model.statement.startswith("(3.000, 0.0001)-differentially private")
  assert "of 3 steps" in model.statement
  assert "post-processing" in model.statement
  assert "The seed was fixed" in model.statement
  text = json.dumps(model.metadata())
  assert str(workdir) not in text  # Nothing of the machine.


@pytest.mark.parametrize(
    "change, wanted",
    [
        (
            lambda x: x.astype(np.float32),
            "inputs must have image of uint8 [n, ",
        ),
        (lambda x: x[:, :4], "got uint8 [7, 4, 8, 1]"),
        (lambda x: x[0], "got uint8 [8, 8, 1]"),
        (lambda x: x[0, 0, 0, 0], "got uint8 []"),
        (lambda x: "a", "inputs must have image of uint8 [n, 8, 8, 1]"),
    ],
)
def test_other_inputs_are_refused(model, images, change, wanted):
  with pytest.raises(ValueError) as raised:
    model.predict(change(images))
  fuzz.assert_clear(raised.value, wanted)


def test_an_unfinished_run_is_refused_unless_told(workdir, tmp_path):
  path = tmp_path / "run"
  shutil.copytree(workdir, path)
  (path / "summary.json").unlink()
  with pytest.raises(ValueError, match="must hold a finished run, got .* step"):
    experiments.load(path)
  shutil.rmtree(path / "checkpoints" / "3")
  begun = json.loads((path / "steps_begun.json").read_text())
  for steps in (3, 2):
    # Its epsilon is that of the steps it has begun, not of those it has saved.
    text = json.dumps(begun | {"steps_begun": steps})
    (path / "steps_begun.json").write_text(text)
    model = experiments.load(path, unfinished=True)
    assert (model.step, model.num_steps) == (2, 3)
    run = accounting.Mechanism.from_dict(model.guarantee["mechanism"])
    assert run.num_steps == steps
    assert model.guarantee["epsilon"] == accounting.epsilon(run, delta=1e-4)


@pytest.mark.parametrize("kind", ["nothing", "audit"])
def test_what_holds_no_run_is_refused(workdir, tmp_path, kind):
  if kind == "audit":
    config = workdir_lib.Workdir(workdir).read_config()
    (tmp_path / "config.json").write_text(json.dumps(config | {"audit": {}}))
  with pytest.raises(ValueError, match="workdir must hold a run"):
    experiments.load(tmp_path)


def _written(folder, images):
  """The same images in each kind of input."""
  folder.mkdir()
  for i, image in enumerate(images):
    PIL.Image.fromarray(image[..., 0]).save(folder / f"{i}.png")
  (folder / "notes.txt").write_text("no image")
  np.savez(folder / "all.npz", images=images)
  return {"folder": folder, "file": folder / "0.png", "npz": folder / "all.npz"}


def test_inputs_are_read_from_a_folder_a_file_or_an_archive(
    workdir, tmp_path, images, logits
):
  paths = _written(tmp_path / "in", images)
  for kind, number in {"folder": 7, "file": 1, "npz": 7}.items():
    model = experiments.load(workdir, inputs=str(paths[kind]))
    source = model.source
    assert len(source) == number
    assert source.names[0] == ("1" if kind == "npz" else "0.png")
    batch = source[np.arange(number)]
    np.testing.assert_array_equal(batch["image"], images[:number])
    found = model.outputs(model.signature.read(batch))
    np.testing.assert_allclose(found, logits[:number], atol=1e-4)


@pytest.mark.parametrize(
    "make, wanted",
    [
        (lambda path: None, "input must be an image"),
        (lambda path: path.mkdir(), "input must be a folder with images"),
        (lambda path: path.write_text("a"), "input must be an image"),
    ],
)
def test_an_input_that_is_none_is_refused(workdir, tmp_path, make, wanted):
  make(tmp_path / "in")
  with pytest.raises(ValueError) as raised:
    experiments.load(workdir, inputs=str(tmp_path / "in"))
  fuzz.assert_clear(raised.value, wanted, str(tmp_path))


@pytest.mark.parametrize(
    "arrays, wanted",
    [
        (
            {"images": np.zeros((2, 9, 8), np.uint8)},
            "of shape [8, 8, 1], as th",
        ),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "at least one image"),
        ({"images": np.zeros((2, 8, 8))}, "must be of kind u"),
        ({"x": np.zeros((2, 8, 8), np.uint8)}, "must hold one array, 'images'"),
    ],
)
def test_another_archive_is_refused(workdir, tmp_path, arrays, wanted):
  np.savez(tmp_path / "in.npz", **arrays)
  with pytest.raises(ValueError) as raised:
    experiments.load(workdir, inputs=str(tmp_path / "in.npz"))
  fuzz.assert_clear(raised.value, wanted, "in.npz")


def _export(workdir, kind, path, *flags):
  return launch.command(
      "experiments.export",
      f"--workdir={workdir}",
      f"--format={kind}",
      f"--output={path}",
      *flags,
  )


def test_arrays_by_name_are_exported_and_taken_over(workdir, tmp_path):
  path = tmp_path / "m.npz"
  process = _export(workdir, "npz", path)
  assert process.returncode == 0, process.stderr
  assert "(3.000, 0.0001)-differentially private" in process.stdout
  wanted = saved.load(workdir).params["ema"]["linear"]
  with np.load(path) as file:
    np.testing.assert_array_equal(file["linear.kernel"], wanted["kernel"])
    metadata = json.loads(file["metadata.json"])
  assert metadata["class_names"] == list("0123456789")
  assert metadata["privacy"]["epsilon"] == pytest.approx(3.0, rel=1e-2)
  assert metadata["inputs"] == {"image": {"dtype": "uint8", "shape": [8, 8, 1]}}
  again = _export(workdir, "npz", path)
  assert again.returncode == 2 and "must be a new file" in again.stderr
  other = launch.linear(model__restore__path=str(path))
  experiment = experiment_lib.build(other)
  assert experiment.restored_from["path"] == "m.npz"


_ALONE = """
images = np.load("images.npy")
{three_lines}
np.save("outputs.npy", outputs)
print(*model.platforms, len(model.call(images[:2])))
"""
_PAGE = (launch.ROOT / "docs" / "export.md").read_text(encoding="utf-8")
_IN_PYTHON, _THREE_LINES, _ = re.findall(
    r"```python\n(.*?)```", _PAGE, re.DOTALL
)


def test_jax_alone_runs_an_exported_model(workdir, tmp_path, images, logits):
  process = _documented("export", workdir, tmp_path)
  assert process.returncode == 0, process.stderr
  with zipfile.ZipFile(tmp_path / "digits.stablehlo") as archive:
    metadata = json.loads(archive.read("metadata.json"))
  assert "(3.000, 0.0001)-diff" in metadata["privacy"]["statement"]
  np.save(tmp_path / "images.npy", images)
  assert len(_THREE_LINES.splitlines()) == 3
  printed = alone.run(tmp_path, _ALONE.format(three_lines=_THREE_LINES))
  assert printed.split() == [*metadata["platforms"], "2"]
  assert metadata["platforms"] == ["cpu", "cuda", "tpu"]
  outputs = np.load(tmp_path / "outputs.npy")
  np.testing.assert_allclose(outputs, logits, atol=1e-4)


def _documented(name, workdir, folder):
  """Runs a command of docs/export.md; what it names lies in the folder."""
  (text,) = re.findall(rf"python -m experiments.{name} (.*)", _PAGE)
  flags = text.replace("runs/digits", str(workdir))
  flags = re.sub("--(input|output)=", rf"--\1={folder}/", flags)
  return launch.command(f"experiments.{name}", *shlex.split(flags))


def test_the_pages_python_runs(workdir, images, capsys):
  text = _IN_PYTHON.replace("runs/digits", str(workdir))
  namespace = {"images": images}
  exec(text, namespace)
  assert "differentially private" in capsys.readouterr().out
  assert len(namespace["columns"]["0"]) == len(images)


def test_predictions_are_written_by_a_command(
    workdir, tmp_path, images, logits
):
  folder = _written(tmp_path / "scans", images)["folder"]
  PIL.Image.fromarray(images[0, ..., 0]).save(folder / "=cmd.png")
  output = tmp_path / "predictions.csv"
  process = _documented("predict", workdir, tmp_path)
  assert process.returncode == 0, process.stderr
  assert "8 predictions" in process.stdout
  assert "differentially private" in process.stdout
  lines = output.read_text().splitlines()
  assert lines[0] == "input,0,1,2,3,4,5,6,7,8,9" and len(lines) == 9
  assert lines[-1].startswith("'=cmd.png,")
  found = np.array([line.split(",")[1:] for line in lines[1:8]], float)
  np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-4)
  assert output.stat().st_mode & 0o777 == 0o600
  again = _documented("predict", workdir, tmp_path)
  assert again.returncode == 2 and again.stderr.count("\n") == 1
  assert re.search("output must be a new file", again.stderr)


def test_a_broken_input_leaves_no_file(model, tmp_path, workdir):
  (tmp_path / "in").mkdir()
  images = np.zeros((1, 8, 8), np.uint8)
  PIL.Image.fromarray(images[0]).save(tmp_path / "in" / "a.png")
  (tmp_path / "in" / "b.png").write_bytes(b"no image")
  broken = model_lib.load(workdir, inputs=str(tmp_path / "in"))
  with pytest.raises(ValueError, match="b.png must be a JPEG or PNG image"):
    predictions.write(broken, tmp_path / "p.csv", batch_size=1)
  assert not [p for p in tmp_path.iterdir() if "p.csv" in p.name]


@pytest.mark.slow
def test_a_model_of_tables_says_how_its_inputs_are_made(tmp_path):
  config = launch.config("breast_cancer", arg="smoke=True")
  launch.run(config, tmp_path / "run")
  model = experiments.load(tmp_path / "run")
  assert len(model.class_names) == 2
  metadata = json.loads(json.dumps(model.metadata()))
  assert metadata["class_names"] == list(model.class_names)
  assert metadata["data"] == json.loads(
      json.dumps(model.task.describe(model.source))
  )
  made = program.lower(model.signature, model.params, platforms=["cpu"])
  batch = model.signature.read(model.source[np.full(3, -1)])
  # Its sums are of 30 products, each below 1.
  np.testing.assert_allclose(
      jax.tree.leaves(made.call(batch))[0],
      jax.tree.leaves(model.outputs(batch))[0],
      atol=1e-5,
  )
  columns = model.predict(batch)
  assert all(len(column) == 3 for column in columns.values())
