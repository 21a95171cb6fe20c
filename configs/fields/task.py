"""Fields of what is learnt."""

from configs.fields.entry import Field

TASK = {
    "name": Field(
        "classification",
        "What is learnt. The task reads the sections `data`, `model`,"
        " `augment` and `loss`, and `eval.labels`.",
        "One of classification, language, multi_label, table.",
    ),
    "options": Field(
        {},
        "Options of the task.",
        "Empty for every task of these.",
    ),
}
