r"""A table of your own, by arguments alone: a linear model, trained privately.

  python -m experiments.schema --rows=PUBLIC.csv --out=people.schema.toml
  python -m experiments.train --workdir=runs/people \
    --config=configs/table.py:path=people.csv,target=income,num_examples=800

The schema states the bounds and categories of the columns, which are never read
off the private rows: docs/tables.md has its form, and the first command drafts
one from rows that are PUBLIC. One row in five is held out to test on, by a hash
of the row; num_examples is the number of the others, which you make public by
stating it (leave it out, and the error has it).

With unit=COLUMN, whose cells say whose each row is, persons are protected and
not rows, and held out; num_examples is then the number of persons to train on:
docs/user_level.md.

Measured on the two bundled tables alone, with these settings or half as many
steps: see configs/breast_cancer.py and configs/wine.py.

Arguments: path; target (a column); schema (default: path with .schema.toml at
its end); test_path (a file to test on); num_examples; unit (a column; default:
each row is an example) and max_rows_per_unit; epsilon (default 3.0); delta
(default: a power of ten below 1 / num_examples); features and groups (columns,
joined by "+"; default: all, none); loss (softmax for classes; squared, absolute
or poisson for numbers); model (table_linear, table_mlp or table_resnet);
batch_size (default: a quarter of num_examples, at most 4096); steps (default
100); smoke (a few steps, for tests).
"""

import math

import ml_collections

from configs import common, families

_MAX_BATCH_SIZE = 4096


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(
      arg,
      path="people.csv",
      target="income",
      schema="",
      test_path="",
      unit="",
      max_rows_per_unit=0,
      num_examples=0,
      epsilon=3.0,
      delta=0.0,
      features="",
      groups="",
      loss="softmax",
      model="table_linear",
      batch_size=0,
      steps=100,
      smoke=False,
  )
  num_examples = args["num_examples"]
  config = families.table(epsilon=args["epsilon"])
  config.name = "table"
  config.data.source = "table"
  common.set_options(
      config.data.options,
      path=args["path"],
      target=args["target"],
      schema=args["schema"] or _beside(args["path"]),
      test_path=args["test_path"],
      # No person is on both sides.
      split_by="" if args["test_path"] else args["unit"],
      features=_names(args["features"]),
      groups=_names(args["groups"]),
  )
  config.data.unit = args["unit"]
  config.data.max_rows_per_unit = args["max_rows_per_unit"] or None
  config.data.num_examples = num_examples or None
  config.loss.name = args["loss"]
  config.model.name = args["model"]
  config.dp.delta = args["delta"] or _delta(num_examples)
  config.train.expected_batch_size = args["batch_size"] or min(
      max(num_examples // 4, 1), _MAX_BATCH_SIZE
  )
  config.train.num_steps = args["steps"]
  config.train.learning_rate = 2.0
  config.train.ema_decays = (0.9,)
  if args["smoke"]:
    families.make_table_smoke(config)
  return config


def _beside(path: str) -> str:
  """people.csv.gz to people.schema.toml."""
  folder, slash, name = path.rpartition("/")
  return f"{folder}{slash}{name.split('.')[0]}.schema.toml"


def _names(text: str) -> tuple[str, ...]:
  return tuple(filter(None, text.split("+")))


def _delta(num_examples: int) -> float:
  """The power of ten below 1 / num_examples, by a factor of 3 at least."""
  return 10.0 ** -math.ceil(math.log10(max(num_examples, 1)) + 0.5)
