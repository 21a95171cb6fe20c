"""Fields of a run as a whole, of its evaluation and of its devices."""

from configs.fields.entry import Field

EVAL = {
    "batch_size": Field(
        500, "Number of images to predict at a time.", "At least 1."
    ),
    "num_examples": Field(
        None,
        "Number of test examples to evaluate, evenly spaced. None takes"
        " all.",
        "At least 1, or None.",
        int,
    ),
    "params": Field(
        "ema",
        "Which parameters the result is reported of. Choose before"
        " training.",
        '"last", or an average of `train`.',
    ),
    "metrics": Field(
        (),
        "Metrics of your own to evaluate, besides the task's.",
        'Names "package.module:name"; see docs/own_code.md.',
    ),
    "labels": Field(
        (),
        "Labels to report, where an example has several; empty for all.",
        "Names of the source's labels; empty for one class an example.",
    ),
}

MESH = {
    "data": Field(
        1,
        "Number of parts into which a batch is split, over data x fsdp"
        " devices in all. Changes no draw of the run.",
        "At least 1.",
    ),
    "fsdp": Field(
        1,
        "Number of devices over which parameters are split too; see"
        " docs/meshes.md.",
        "At least 1.",
    ),
}

TOP = {
    "name": Field("", "Title of the run in its summary.", "Any text."),
    "seed": Field(
        None,
        "Seed of parameters, batches, noise and augmentations. None takes 128"
        " bits from the operating system and writes them nowhere but the"
        " checkpoint. A fixed seed is for research: whoever knows it can"
        " subtract the noise.",
        "In [0, 2^128), or None.",
        int,
    ),
    "physical_batch_size": Field(
        None,
        "Number of examples to compute at a time: less memory, the same"
        " numbers, noise once. None takes whole batches.",
        "At least 1, at most the number of examples, and a multiple of the"
        " number of devices; or None.",
        int,
    ),
    "train_metrics": Field(
        False,
        "Whether metrics.jsonl also gets gradient norms and clipped shares."
        " They are PRIVATE; see docs/recipes.md.",
        "True only on one device.",
    ),
    "log_every": Field(
        None,
        "Number of steps between lines of the log. None gives about 20 lines.",
        "At least 1, or None.",
        int,
    ),
    "save_every": Field(
        None,
        "Number of steps between checkpoints. None gives about 10.",
        "At least 1, or None.",
        int,
    ),
}
