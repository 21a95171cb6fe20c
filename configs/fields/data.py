"""Fields of where examples come from, and of their views."""

from configs.fields.entry import Field

DATA = {
    "source": Field(
        "",
        "Where examples come from.",
        "A name of `data.names()`; of `data.tables.names()` for task table, of"
        " `data.text.names()` for task language.",
    ),
    "options": Field({}, "Options of the source.", "See docs/data.md."),
    "train_split": Field(
        "train", "Split to train on.", "A split of the source."
    ),
    "test_split": Field(
        "test",
        "Split to evaluate on.",
        "A split that shares no example with `data.train_split`.",
    ),
    "test_options": Field(
        {},
        "Options that differ for the test split, such as `image_size`;"
        " `crop_size` is the centre that evaluation sees, in pixels.",
        "As `data.options`.",
    ),
    "num_examples": Field(
        None,
        "Stated number of training examples, which accounting uses. None"
        " takes the source's published number.",
        "The number of examples that the split holds (of units, with"
        " `data.unit`), or None.",
        int,
    ),
    "unit": Field(
        "",
        "Column that says whose each row is, such as the patient's id. All rows"
        " of one are then one example: user-level privacy; see"
        " docs/user_level.md.",
        'A column of the source, or "" where each row is an example.',
    ),
    "max_rows_per_unit": Field(
        None,
        "Number of rows of one unit that are used, and that its example is"
        " padded to.",
        "In [1, 65536] with `data.unit`; None without.",
        int,
    ),
    "mean": Field(
        (0.0,),
        "Mean that is subtracted from each channel, in units of pixel /"
        " 255. A public constant: never compute it from private data.",
        "One number, or one a channel.",
    ),
    "std": Field(
        (1.0,),
        "Standard deviation by which each channel is divided, in units of"
        " pixel / 255. A public constant.",
        "Positive: one number, or one a channel.",
    ),
    "features": {
        "name": Field(
            "",
            "Fixed features that replace the images.",
            'A name of `data.feature_names()`, or "" for pixels.',
        ),
        "options": Field(
            {},
            "Options of the features.",
            "See docs/data.md. Empty without a name.",
        ),
    },
    "on_device": Field(
        None,
        "Whether the devices hold all training examples; None decides by"
        " their size. Changes no bit of the run.",
        "True only for one process, and if the examples fit.",
        bool,
    ),
    "num_workers": Field(
        0,
        "Number of processes that decode examples; 0 decodes in the main"
        " one. Changes no bit of the run.",
        "In [0, 1024].",
    ),
    "prefetch": Field(
        0,
        "Number of batches to read ahead. Changes no bit of the run.",
        "In [0, 1024].",
    ),
}

AUGMENT = {
    "names": Field((), "Augmentations, in order.", "Names of `data.augment`."),
    "options": Field(
        {}, "Options of the augmentations.", "Options of those named."
    ),
    "num_views": Field(
        1,
        "Number of augmented views of each example (augmentation"
        " multiplicity).",
        "At least 1; 1 without augmentations, but for task diffusion, whose"
        " views are draws of noise.",
    ),
}
