r"""GPT-2 (124M) on E2E, tables to text, as Li et al. fine-tune it.

  python -m experiments.train --config=configs/gpt2_e2e.py:restore=gpt2.npz \
    --workdir=runs/gpt2_e2e

A line of the file has a `context`, the table in words, and a `text`, which is
learnt; an example is one line, cut at 100 tokens. 42,061 examples, batch 1,024,
10 epochs, learning rate 2e-3, clip norm 0.1 and delta 8e-6 are the paper's. Its
batches were shuffled, and accounted as Poisson's; here they are Poisson's.
`models.from_safetensors` reads the published parameters, which
`model.restore.path` takes as an .npz file of their dotted names.

Measured: not run; the tests build it by shapes. With rank=8 low-rank adapters
of queries and values are trained alone.

Arguments: epsilon (default 8.0); path (default e2e.jsonl); tokeniser (a file of
`tokenizers`, default tokenizer.json); restore (an .npz file of PUBLIC
parameters); rank (default 0: all parameters); smoke (a few steps, for tests).
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
      path="e2e.jsonl",
      tokeniser="tokenizer.json",
      restore="",
      rank=0,
      smoke=False,
  )
  config = families.language(epsilon=args["epsilon"])
  config.name = "gpt2_e2e"
  config.data.source = "text"
  common.set_options(
      config.data.options,
      path=args["path"],
      context_column="context",
      tokeniser=args["tokeniser"],
      boundary="<|endoftext|>",
      length=100,
      packing="truncate",
  )
  config.data.num_examples = 42_061
  config.model.options = {
      "width": 768,
      "num_layers": 12,
      "num_heads": 12,
      "num_kv_heads": None,
      "norm": "layer",
      "is_gated": False,
      "use_bias": True,
      "rotary": False,
      "num_positions": 1024,
      "scale_embedding": False,
  }
  config.model.restore.path = args["restore"] or None
  if args["rank"]:
    families.set_lora(config, rank=args["rank"])
  config.dp.l2_clip_norm = 0.1
  config.dp.delta = 8e-6
  config.train.expected_batch_size = 1024
  config.train.num_epochs = 10.0
  config.train.learning_rate = 2e-3
  config.physical_batch_size = 16
  if args["smoke"]:
    families.make_language_smoke(config)
  return config
