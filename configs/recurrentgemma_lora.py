r"""RecurrentGemma 2B, fine-tuned by low-rank adapters of its maps.

  python -m experiments.train --workdir=runs/notes \
    --config=configs/recurrentgemma_lora.py:num_examples=9876

The frozen parameters are not among those that are differentiated: they cost no
gradient, no norm and no noise. An example is a document, cut at 512 tokens. The
published parameters have no loader here yet: restore an .npz file of ours.

Measured: not run; the tests build it by shapes.

Arguments: epsilon (default 8.0); path (default notes.jsonl); tokeniser (a file
of `tokenizers`, default tokenizer.json);
num_examples; restore (an .npz file of PUBLIC parameters); rank (default 16);
smoke (a few steps, for tests).
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
      path="notes.jsonl",
      tokeniser="tokenizer.json",
      num_examples=10_000,
      restore="",
      rank=16,
      smoke=False,
  )
  config = families.language(epsilon=args["epsilon"])
  config.name = "recurrentgemma_lora"
  config.data.source = "text"
  common.set_options(
      config.data.options,
      path=args["path"],
      tokeniser=args["tokeniser"],
      boundary="<eos>",
      length=512,
      packing="truncate",
  )
  config.data.num_examples = args["num_examples"]
  config.model.name = "griffin"
  config.model.options = {
      "width": 2560,
      "num_layers": 26,
      "num_heads": 10,
      "window": 2048,
      "logit_cap": 30.0,
      "stack_layers": True,
      "remat": True,
      "compute_dtype": "bfloat16",
  }
  config.model.restore.path = args["restore"] or None
  families.set_lora(config, rank=args["rank"])
  config.dp.delta = 1e-5
  config.train.expected_batch_size = 512
  config.train.num_steps = 200
  config.train.learning_rate = 5e-4
  config.physical_batch_size = 8
  if args["smoke"]:
    families.make_language_smoke(config)
    families.set_lora(config, rank=2)
  return config
