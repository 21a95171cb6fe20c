"""Text of one's own, from training to new text, with what it guarantees."""

import csv
import json

import pytest

from accounting import budget
from tests.support import launch

# Six commands. In `make test` the smallest recipe, `copying`, runs in small.
pytestmark = pytest.mark.slow
_RECIPE = """
from configs import common, families

def get_config(arg=None):
  config = families.language(epsilon=8.0)
  config.name = "notes"
  config.seed = 0
  config.data.source = "text"
  common.set_options(config.data.options, path=PATH, length=8, packing="split")
  config.data.unit, config.data.max_rows_per_unit = "who", 3
  common.set_options(config.data.options, split_by="who")
  config.data.num_examples = NUMBER
  config.model.name = "lru"
  config.model.options = {"width": 4, "num_layers": 1}
  config.dp.delta = 1e-3
  config.train.expected_batch_size = 10
  config.train.num_steps = 2
  config.train.learning_rate = 1e-3
  config.train.ema_decays = (0.5,)
  return config
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run on notes of persons, protected as persons."""
  folder = tmp_path_factory.mktemp("run")
  rows = [
      {"text": f"note {i} of person {i % 30}", "who": f"person {i % 30}"}
      for i in range(60)
  ]
  path = folder / "notes.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  recipe = folder / "recipe.py"
  text = _RECIPE.replace("PATH", repr(str(path)))
  arguments = (f"--config={recipe}", f"--workdir={folder / 'run'}")
  recipe.write_text(text.replace("NUMBER", "None"))
  asked = launch.command("experiments.train", *arguments)
  assert asked.returncode == 2
  number = asked.stderr.split("this split has ")[1].split()[0]
  recipe.write_text(text.replace("NUMBER", number))
  done = launch.command("experiments.train", *arguments)
  assert done.returncode == 0, done.stderr
  return folder, done.stdout


def test_the_result_is_in_bits_and_the_unit_is_stated(finished):
  folder, printed = finished
  summary = json.loads((folder / "run" / "summary.json").read_text())
  assert "test bits a byte" in printed
  assert "for add or remove one who" in printed
  assert "All rows of one who were one example" in printed
  assert "An example is a sequence of at most 8 tokens" not in printed
  # Of logits of variance 1 or some more over 257 tokens: exp(0.5) x 257 = 424,
  # and 8.7 bits a byte, with those of the ends.
  assert 8 < summary["test_bits_per_byte"]["last"] < 12
  assert 200 < summary["test_perplexity"]["last"] < 1000
  assert budget.main(["report", str(folder / "run")]) == 0


def test_it_is_evaluated_and_writes_and_scores_text(finished):
  folder, _ = finished
  run = f"--workdir={folder / 'run'}"
  done = launch.command("experiments.evaluate", run)
  assert done.returncode == 0, done.stderr
  for name in ("bits a byte", "perplexity of a token", "next-token accuracy"):
    assert name in done.stdout
  done = launch.command(
      "experiments.generate", run, "--prompt=note", "--num_tokens=5", "--seed=1"
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("note") and "differentially" in done.stdout
  texts = folder / "new.txt"
  texts.write_text("note 3\nanother\n")
  done = launch.command(
      "experiments.predict", run, f"--input={texts}",
      f"--output={folder / 'new.csv'}",
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  rows = list(csv.DictReader((folder / "new.csv").open()))
  assert len(rows) == 2 and all(float(row["bits"]) > 0 for row in rows)
  done = launch.command("experiments.generate", run, "--top_p=0")
  assert done.returncode == 2 and "top_p must be in (0, 1]" in done.stderr
