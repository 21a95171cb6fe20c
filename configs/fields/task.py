"""Fields of what is learnt."""

from configs.fields.entry import Field

TASK = {
    "name": Field(
        "classification",
        "What is learnt. The task reads the sections `data`, `model`,"
        " `augment` and `loss`, and `eval.labels`.",
        "One of classification, diffusion, language, multi_label, table.",
    ),
    "options": Field(
        {},
        "Options of the task.",
        "Empty, but for diffusion: parameterisation, sigma_data, noise_law,"
        " noise_law_options, label_dropout; see docs/tasks.md.",
    ),
}
