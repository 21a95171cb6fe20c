"""A table's model outside of its run: from the folder alone, by `jax` alone."""

import csv
import json
import re
import zipfile

import numpy as np
import pytest

import experiments
from configs import table
from experiments.plan import fields
from experiments.release import model as model_lib
from experiments.release import predictions, program
from experiments.tasks import registry
from tests.support import alone, launch

_SCHEMA = """
missing_texts = ["", "NA"]
[columns.age]
kind = "number"
bounds = [0, 99]
outside = "clamp"
missing = "indicator"
[columns.joined]
kind = "date"
bounds = [2020-01-01, 2024-12-31]
[columns.year]
kind = "number"
bounds = [2000, 2010]
[columns.job]
kind = "category"
values = ["clerk", "nurse"]
outside = "other"
missing = "indicator"
[columns.rich]
kind = "category"
values = ["no", "yes"]
"""
_HEADER = "age,joined,year,job,rich"
# Clamped, missing, unlisted; the last is refused by training.
_INPUTS = """age,joined,year,job
30,2020-05-06,2003,clerk
-5,2024-12-31,2010,nurse
,2021-01-01,2001.5,pilot
NA,2023-07-09,2009,NA
120,2020-01-01,2000,
"""
_REFUSED = "50,2020-01-02,1999,clerk\n"
_PAGE = (launch.ROOT / "docs" / "export.md").read_text(encoding="utf-8")
_RECIPE = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)[-1]
_ALONE = """
import csv, json, zipfile
import jax
metadata = zipfile.ZipFile("m.stablehlo").read("metadata.json")
interface = json.loads(metadata)["interface"]
model = jax.export.deserialize(bytearray(open("m.stablehlo", "rb").read()))
rows = list(csv.DictReader(open("inputs.csv", newline="")))
{recipe}
outputs = model.call({{"numbers": numbers, "categories": categories}})
print(json.dumps(np.asarray(outputs).ravel().tolist()))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A folder with a run, whose table and schema are gone."""
  folder = tmp_path_factory.mktemp("table")
  lines = [_HEADER]
  for i in range(60):
    job = ("clerk", "nurse", "")[i % 3]
    lines.append(
        f"{i if i % 7 else ''},202{i % 5}-03-0{1 + i % 9},20{i % 11:02d},{job},"
        f"{('no', 'yes')[i % 5 > 2]}"
    )
  rows, schema = folder / "people.csv", folder / "people.schema.toml"
  rows.write_text("\n".join(lines) + "\n")
  schema.write_text(_SCHEMA)
  config = table.get_config(
      f"path={rows},target=rich,steps=2,num_examples=48,batch_size=16"
  )
  config.seed = 0
  task = registry.build(**fields.task_sections(config))
  config.data.num_examples = len(task.load("train"))
  launch.run(config, folder / "run")
  rows.unlink()
  schema.unlink()
  (folder / "inputs.csv").write_text(_INPUTS)
  return folder


def test_rows_are_predicted_by_the_folder_alone(finished, tmp_path):
  model = model_lib.load(finished / "run", inputs=str(finished / "inputs.csv"))
  assert model.metadata() == experiments.load(finished / "run").metadata()
  assert [note.split(":")[0] for note in model.source.notes] == [
      "column 'age'",
      "column 'job'",
  ]
  path = tmp_path / "p.csv"
  assert predictions.write(model, path, batch_size=2) == 5
  rows = list(csv.DictReader(path.open()))
  assert [row["input"] for row in rows] == ["1", "2", "3", "4", "5"]


def test_a_file_and_a_frame_are_predicted_in_python(finished):
  model = experiments.load(finished / "run")
  path = finished / "inputs.csv"
  found = model.predict_inputs(path)
  assert list(found)[0] == "rich" and len(found["rich"]) == 5
  frame = pytest.importorskip("pandas").read_csv(path, dtype={"job": str})
  of_frame = model.predict_inputs(frame)
  for name, column in found.items():
    np.testing.assert_array_equal(of_frame[name], column)
  with pytest.raises(ValueError, match="column 'year' must be in the frame"):
    model.predict_inputs(frame.drop(columns="year"))


@pytest.mark.slow
def test_jax_alone_encodes_a_row_by_three_lines(finished, tmp_path):
  model = experiments.load(finished / "run")
  made = program.lower(model.program_signature, model.params, platforms=["cpu"])
  content = program.to_bytes(made, model.metadata(of_program=True))
  (tmp_path / "m.stablehlo").write_bytes(content)
  (tmp_path / "inputs.csv").write_text(_INPUTS + _REFUSED)
  assert len(_RECIPE.splitlines()) == 3
  printed = alone.run(tmp_path, _ALONE.format(recipe=_RECIPE))
  *found, refused = json.loads(printed)
  assert np.isnan(refused)  # json has written NaN.
  read = model_lib.load(finished / "run", inputs=str(finished / "inputs.csv"))
  wanted = read.outputs(read.signature.read(read.source[np.arange(5)]))
  # A few roundings of sums of some ten terms of order 1.
  np.testing.assert_allclose(found, wanted[:, 0], atol=1e-5)
  with zipfile.ZipFile(tmp_path / "m.stablehlo") as archive:
    metadata = json.loads(archive.read("metadata.json"))
  assert metadata["interface"]["outputs"]["class_names"] == ["no", "yes"]
  offsets = [x["offset"] for x in metadata["interface"]["numbers"]]
  assert offsets == [0, 0, 2000]
  assert metadata["inputs"]["numbers"]["shape"] == [3]


def test_a_file_of_parameters_says_what_the_model_itself_takes(finished):
  metadata = experiments.load(finished / "run").metadata()
  assert metadata["inputs"]["numbers"]["shape"] == [4]  # And an indicator.
  assert metadata["interface"]["numbers"][-1]["becomes"] == "is_missing"
