"""Fields of the network, its first parameters, and its loss."""

from configs.fields.entry import Field

MODEL = {
    "name": Field(
        "",
        "The network.",
        "A name of `models.names()`; of `models.table_names()` for task table,"
        " of `models.sequence_names()` for task language, of"
        " `models.denoiser_names()` for task diffusion.",
    ),
    "options": Field({}, "Options of the network.", "See docs/models.md."),
    "restore": {
        "path": Field(
            None,
            "PUBLIC parameters to start from: a run's folder or an .npz"
            " file. The guarantee does not cover them.",
            "An existing path, or None for fresh parameters.",
            str,
        ),
        "params": Field(
            "ema",
            "Which parameters of a run to read.",
            '"last", or an average that the run kept.',
        ),
        "reset": Field(
            (),
            "Regular expressions: a parameter whose whole path matches one"
            " stays fresh.",
            "Each matches some parameter.",
        ),
        "format": Field(
            "auto",
            'What the path holds: a run ("run"), arrays by our names'
            ' ("npz") or by Haiku\'s ("haiku").',
            "One of auto, run, npz, haiku.",
        ),
        "same_data": Field(
            False,
            "Whether the run at the path was trained on this run's data. Its"
            " parameters are then not public, and both guarantees compose.",
            "True only for the folder of a private run on the same data, of"
            " another seed.",
        ),
    },
}

LOSS = {
    "name": Field(
        "softmax",
        "Loss of one example: one class an example (softmax), several labels"
        " (sigmoid), or a number (squared, absolute, poisson).",
        "One of softmax, sigmoid, squared, absolute, poisson, or your own,"
        " module:name; sigmoid for task multi_label, the last three for a"
        " number of task table.",
    ),
    "label_smoothing": Field(
        0.0,
        "Share of the label's weight that is spread over all classes.",
        "In [0, 1); 0 for sigmoid.",
    ),
    "invariance_weight": Field(
        0.0,
        "Weight of the term that makes predictions for the views alike"
        " (Botev et al. 2022).",
        "At least 0; 0 for one view.",
    ),
}
