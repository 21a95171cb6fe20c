"""Fields of the guarantee, and of the noise that gives it."""

from configs.fields.entry import Field

DP = {
    "enabled": Field(
        True,
        "Whether gradients are clipped and noise is added. False trains on the"
        " same batches without either, to compare with: NOT PRIVATE.",
        "true or false.",
    ),
    "epsilon": Field(
        None,
        "Target epsilon. Alone, it calibrates the noise; with"
        " `dp.noise_multiplier`, it cuts the run to the steps that fit.",
        "Positive. Required unless `dp.noise_multiplier` is given.",
        float,
    ),
    "delta": Field(
        None, "Delta of the guarantee.", "In (0, 1). Required.", float
    ),
    "accountant": Field(
        "pld",
        "How epsilon is computed: by privacy loss distributions (pld) or"
        " Renyi divergences (rdp).",
        "One of pld, rdp.",
    ),
    "neighboring_relation": Field(
        "add_or_remove_one",
        "Which data sets are neighbours: one example more, one exchanged,"
        " or one blanked.",
        "One of add_or_remove_one, replace_one, replace_special.",
    ),
    "noise_multiplier": Field(
        None,
        "Standard deviation of the noise on the sum of gradients, in units"
        " of the clip norm.",
        "Positive. Required unless `dp.epsilon` is given.",
        float,
    ),
    "auto_tune": Field(
        None,
        "The one quantity to find from the budget; see docs/recipes.md.",
        "One of noise_multiplier, num_steps, batch_size, stopping_step, or"
        " None.",
        str,
    ),
    "sampling": Field(
        "poisson",
        "How batches are drawn.",
        "One of poisson, truncated_poisson, fixed_without_replacement,"
        " random_allocation, balls_in_bins, shuffle, deterministic,"
        " cyclic_poisson.",
    ),
    "max_batch_size": Field(
        None,
        "Cap on the size of a batch, in examples.",
        "At least 1 for truncated_poisson, None otherwise.",
        int,
    ),
    "sampling_options": Field(
        {},
        "Fields of the sampler's own, by name.",
        "`num_selected` of random_allocation, 1 if not given; `cycle_length`,"
        " the number of groups, of cyclic_poisson; empty for the others that"
        " `dp.sampling` lists.",
    ),
    "noise": Field(
        "independent",
        "How the noise of the steps is correlated: later noise takes some of"
        " earlier noise back. banded (BandMF), banded_inverse (BISR,"
        " lambda-CGD), blt (buffers); see docs/noise.md.",
        "One of independent, banded, banded_inverse, blt. banded needs"
        " cyclic_poisson sampling; the two others need runs in which an example"
        " is in one step, such as one epoch of shuffle. All but independent"
        " exclude `dp.secure_random`.",
    ),
    "noise_options": Field(
        {},
        "Fields of the noise's own, by name.",
        "`strategy_coef`, at most `cycle_length` numbers of norm 1, for banded;"
        " `noising_coef`, the first of them 1, for banded_inverse; `buf_decay`"
        " and `output_scale`, one of each a buffer, for blt; else empty.",
    ),
    "l2_clip_norm": Field(
        1.0,
        "L2 norm to which each example's gradient is clipped.",
        "Positive.",
    ),
    "clipping": Field(
        "standard",
        "What a gradient is multiplied by, as a function of its norm: standard"
        " cuts what is above `dp.l2_clip_norm`; automatic (AUTO-S) and psac"
        " scale every gradient to nearly that norm. With quantile, that norm is"
        " the first, and follows a quantile of the norms, of which a noised"
        " count is released with each step.",
        "One of standard, automatic, psac, quantile.",
    ),
    "clipping_options": Field(
        {},
        "Options of `dp.clipping`, by name.",
        "`stability`, a norm in [1e-6, 1e6], 0.01 if not given, for automatic"
        " and psac; `target_quantile` (0.5), `learning_rate` (0.2) and"
        " `count_noise_multiplier` (in examples) for quantile; else empty.",
    ),
    "rescale_to_unit_norm": Field(
        True,
        "Whether clipped gradients are divided by the clip norm, so that"
        " it does not change the learning rate.",
        "true or false.",
    ),
    "secure_random": Field(
        False,
        "Whether a cipher (ChaCha20) draws noise and batches.",
        "True needs the extra `secure`.",
    ),
    "grid_scale": Field(
        None,
        "Number of grid steps in the clip norm: sums of gradients are then"
        " exact integers. None sums floats.",
        "At least 1, with `dp.secure_random`; or None.",
        int,
    ),
}
