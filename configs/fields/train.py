"""Fields of updates: batches, optimiser, learning rate, averages."""

from configs.fields.entry import Field

TRAIN = {
    "expected_batch_size": Field(
        0.0,
        "Expected number of examples in a batch.",
        "Positive, and at most the number of examples; 0 only where"
        " `dp.auto_tune` finds it.",
    ),
    "batch_size_schedule": Field(
        (),
        "Pairs (fraction of the run, factor): from that fraction on, the"
        " expected batch size is multiplied by the factor.",
        "Ascending fractions in [0, 1), the first of them 0; positive"
        " factors; poisson only.",
    ),
    "num_steps": Field(
        None,
        "Number of updates.",
        "At least 1. Exactly one of this and `train.num_epochs`.",
        int,
    ),
    "num_epochs": Field(
        None,
        "Number of epochs. The run has num_epochs x num_examples /"
        " expected_batch_size updates, rounded up.",
        "Positive. Exactly one of this and `train.num_steps`.",
        float,
    ),
    "optimizer": Field(
        "sgd",
        "The optimiser; it sees noised gradients only.",
        "The name of an optax optimiser.",
    ),
    "optimizer_options": Field(
        {}, "Options of the optimiser.", "Arguments of the optimiser."
    ),
    "learning_rate": Field(
        0.0,
        "Learning rate from which the schedule starts, after any warm-up.",
        "Positive.",
    ),
    "schedule": Field(
        "constant",
        "How the learning rate changes over the run.",
        "One of constant, cosine, linear, polynomial, exponential, step,"
        ' each also after "warmup_".',
    ),
    "schedule_options": Field(
        {},
        "Options of the schedule; lengths are fractions of the run.",
        "See docs/recipes.md.",
    ),
    "weight_decay": Field(
        0.0,
        "Decoupled weight decay, as in AdamW: an update subtracts learning"
        " rate x weight_decay x parameters.",
        "At least 0.",
    ),
    "weight_decay_on": Field(
        "all",
        "Parameters that decay: all, or those of two axes or more"
        " (matrices).",
        "One of all, matrices.",
    ),
    "agc_clipping": Field(
        None,
        "Largest ratio of a unit's noised gradient to its parameters, in"
        " L2 norm (adaptive gradient clipping). None clips nothing.",
        "Positive, or None.",
        float,
    ),
    "train_only": Field(
        None,
        "Regular expression for the whole path of the parameters to train;"
        " the others are frozen. None trains all.",
        "Matches some parameter, or None.",
        str,
    ),
    "ema_decays": Field(
        (0.999,),
        'Decays of the moving averages to keep: "ema" has the first,'
        ' "ema_DECAY" any other.',
        "At least one, all different, each in [0, 1).",
    ),
    "polyak_start": Field(
        None,
        'Fraction of the run from which the uniform mean "polyak" is taken.'
        " None keeps none.",
        "In [0, 1), or None.",
        float,
    ),
}
