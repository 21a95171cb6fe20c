"""`calibrated`: a run from its budget and its epochs."""

import pytest

import accounting

_BUDGET = {
    "epsilon": 2.0,
    "delta": 1e-6,
    "num_examples": 10_000,
    "batch_size": 300,
}


@pytest.mark.parametrize(
    "length, num_steps",
    [
        ({"num_epochs": 3}, 100),
        ({"num_steps": 40}, 40),
        ({"num_epochs": 0.01}, 1),
    ],
)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        pytest.param(
            {"sampling": "fixed_without_replacement",
             "neighboring_relation": "replace_one", "accountant": "rdp"},
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_it_meets_the_budget(length, num_steps, fields):
  run = accounting.calibrated(**_BUDGET, **length, **fields)
  accountant = fields.get("accountant", "pld")
  epsilon = run.epsilon(delta=1e-6, accountant=accountant)
  # As `calibrate_noise` promises; rdp's epsilon may fall over that range.
  assert epsilon <= 2.0 and (accountant == "rdp" or epsilon >= 0.999 * 2.0)
  assert run.num_steps == num_steps
  assert run.expected_batch_size == 300 and run.num_examples == 10_000
  assert run.sampling == fields.get("sampling", "poisson")


@pytest.mark.parametrize("length", [{}, {"num_epochs": 1, "num_steps": 1}])
def test_one_length_is_given(length):
  with pytest.raises(ValueError, match="num_epochs must be given where num_st"):
    accounting.calibrated(**_BUDGET, **length)


def test_a_run_gives_its_epsilon():
  run = accounting.Mechanism(
      noise_multiplier=1.0, num_steps=3, sampling_prob=0.1
  )
  for accountant in ("pld", "rdp"):
    want = accounting.epsilon(run, delta=1e-5, accountant=accountant)
    assert run.epsilon(delta=1e-5, accountant=accountant) == want
