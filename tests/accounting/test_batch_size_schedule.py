"""Batch-size schedules: the accountant sees every step's own probability."""

import collections
import dataclasses
import json
import math

import dp_accounting
import hypothesis
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import strategies as st
from scipy import stats

import accounting
from accounting import Mechanism, budget
from accounting.numerics import schedule as schedule_lib
from tests.support import mechanisms

_DELTA = 1e-5
_SCHEDULE = ((0, 1.0), (30, 4.0), (70, 0.5), (80, 4.0))


def _run(schedule=_SCHEDULE, **fields):
  fields = {"noise": 2.0, "prob": 0.05, "steps": 120} | fields
  return mechanisms.run(**fields, batch_size_schedule=schedule)


def _by_library(run, accountant):
  """dp-accounting's own answer, from the probability of each step."""
  relation = dp_accounting.NeighboringRelation[run.neighboring_relation.upper()]
  made = {
      "pld": dp_accounting.pld.PLDAccountant,
      "rdp": lambda r: dp_accounting.rdp.RdpAccountant(neighboring_relation=r),
  }[accountant](relation)
  probs = [run.sampling_prob_at(t) for t in range(run.num_steps)]
  for prob, count in collections.Counter(probs).items():
    event = dp_accounting.GaussianDpEvent(run.noise_multiplier)
    if prob < 1:
      event = dp_accounting.PoissonSampledDpEvent(prob, event)
    made.compose(event, count)
  return made.get_epsilon(_DELTA)


# Of the third, the last steps sample everyone; of the fourth, the first do.
_RUNS = [
    (_SCHEDULE, 0.05), (((0, 0.5), (100, 2.0)), 0.01),
    (((0, 1.0), (118, 5.0)), 0.2), (((0, 10.0), (3, 1.0)), 0.1),
]  # fmt: skip


@pytest.mark.few(3)
@pytest.mark.parametrize("relation", ["add_or_remove_one", "replace_special"])
@pytest.mark.parametrize("schedule, prob", _RUNS)
def test_rdp_epsilon_is_that_of_the_steps_composed(schedule, prob, relation):
  run = _run(schedule, prob=prob, neighboring_relation=relation)
  rdp = accounting.epsilon(run, delta=_DELTA, accountant="rdp")
  assert rdp == pytest.approx(_by_library(run, "rdp"), rel=1e-9)


@pytest.mark.parametrize(
    "schedule, prob",
    [pytest.param(*run, marks=pytest.mark.slow) for run in _RUNS]
    + [(((0, 0.5), (60, 2.0), (100, 1.0)), 0.01)],
)
def test_pld_epsilon_is_that_of_the_steps_composed(schedule, prob):
  """To a thousandth, for the library's bins are others than ours."""
  run = _run(schedule, prob=prob, noise=4.0)
  pld = accounting.epsilon(run, delta=_DELTA)
  assert pld == pytest.approx(_by_library(run, "pld"), rel=1e-3)


def test_the_event_is_the_steps_one_by_one():
  """Given to dp-accounting, which knows nothing of schedules."""
  run = _run(((0, 1.0), (3, 4.0), (5, 0.5)), steps=8)
  accountant = dp_accounting.rdp.RdpAccountant()
  accountant.compose(run.event(accountant="rdp"))
  want = pytest.approx(_by_library(run, "rdp"), rel=1e-9)
  assert accountant.get_epsilon(_DELTA) == want
  counts = [event.count for event in run.event().events]
  assert counts == [3, 2, 3]


@pytest.mark.parametrize(
    "schedule", [((0, 1.0),), ((0, 1.0), (50, 1.0)), ((0, 1), (7, 1), (9, 1))]
)
def test_a_constant_schedule_is_none_exactly(schedule):
  run, plain = _run(schedule), _run(())
  assert run.phases == (plain,)
  for accountant in ("pld", "rdp"):
    fields = {"delta": _DELTA, "accountant": accountant}
    assert accounting.epsilon(run, **fields) == accounting.epsilon(
        plain, **fields
    )
  assert run.event() == plain.event()
  assert run.expected_epochs == plain.expected_epochs
  user = {"examples_per_user": 3, "delta": _DELTA}
  assert accounting.user_epsilon(run, **user) == accounting.user_epsilon(
      plain, **user
  )


def test_a_factor_throughout_is_another_sampling_probability():
  run, plain = _run(((0, 2.0),)), _run((), prob=0.1)
  want = accounting.epsilon(plain, delta=_DELTA)
  assert accounting.epsilon(run, delta=_DELTA) == want


def test_an_accountant_told_the_base_size_would_be_caught():
  """The fault that a schedule invites, and how much it would hide."""
  told = accounting.epsilon(_run(()), delta=_DELTA)
  assert accounting.epsilon(_run(), delta=_DELTA) > 2 * told


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_delta_and_epsilon_are_inverse(accountant):
  run = _run()
  value = accounting.epsilon(run, delta=_DELTA, accountant=accountant)
  back = accounting.delta(run, epsilon=value, accountant=accountant)
  assert back == pytest.approx(_DELTA, rel=1e-3)


@pytest.mark.few(1)
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_the_curve_is_epsilon_of_the_first_steps(accountant):
  """With phases at their own steps, whatever the run's length was."""
  steps = [1, 29, 30, 31, 70, 80, 81, 120, 400]
  curve = accounting.epsilon_curve(
      _run(steps=100), steps=steps, delta=_DELTA, accountant=accountant
  )
  want = [
      accounting.epsilon(
          _run().with_num_steps(t), delta=_DELTA, accountant=accountant
      )
      for t in steps
  ]
  np.testing.assert_allclose(curve, want, rtol=1e-12)


@pytest.mark.slow
def test_an_interpolated_curve_is_right_around_a_change():
  """More points than have a grid of their own: within a thousandth."""
  run = _run(((0, 1.0), (400, 4.0)), steps=800)
  steps = np.arange(1, 801, 19)
  assert len(steps) > 40
  curve = accounting.epsilon_curve(run, steps=steps, delta=_DELTA)
  for i in (8, 20, 21, 22, 23, 25, 30, 41):
    want = accounting.epsilon(run.with_num_steps(int(steps[i])), delta=_DELTA)
    assert curve[i] == pytest.approx(want, rel=1e-3)


@pytest.mark.slow
def test_the_whole_guarantee_is_of_the_schedule():
  """delta at epsilon 0 is the advantage; users of one example are examples."""
  run = _run()
  profile = accounting.privacy_profile(run)
  want = accounting.delta(run, epsilon=0.0)
  assert profile.advantage == pytest.approx(want, rel=1e-9)
  one = accounting.user_epsilon(run, examples_per_user=1, delta=_DELTA)
  assert one == accounting.epsilon(run, delta=_DELTA)
  cost = accounting.tuning_cost(
      run, num_trials_mean=5, distribution="geometric", delta=_DELTA
  )
  assert cost.epsilon_single == pytest.approx(
      accounting.epsilon(run, delta=_DELTA), rel=1e-12
  )


def test_users_compose_their_phases():
  """Between the same run at its least and at its largest probability."""
  user = {"examples_per_user": 3, "delta": _DELTA}
  schedule = ((0, 1.0), (3, 2.0), (5, 20.0))  # The last samples everyone.
  mixed = accounting.user_epsilon(_run(schedule, steps=6), **user)
  low = accounting.user_epsilon(_run((), steps=6), **user)
  alone = accounting.user_epsilon(_run((), prob=1.0, steps=1), **user)
  high = accounting.user_epsilon(_run((), prob=1.0, steps=6), **user)
  assert max(low, alone) < mixed < high


@pytest.mark.slow
def test_users_of_two_phases_equal_the_library():
  """Three examples of a user: mixtures composed by dp-accounting's own code."""
  run = _run(((0, 1.0), (4, 3.0)), prob=0.1, steps=9)
  first, second = [
      privacy_loss_distribution.from_mixture_gaussian_mechanism(
          standard_deviation=2.0,
          sensitivities=[0.0, 1.0, 2.0, 3.0],
          sampling_probs=stats.binom.pmf(range(4), 3, prob),
          value_discretization_interval=1e-2,  # 4e-5 off, by narrower ones.
      ).self_compose(times)
      for times, prob in ((4, 0.1), (5, 0.3))
  ]
  want = first.compose(second).get_epsilon_for_delta(_DELTA)
  value = accounting.user_epsilon(run, examples_per_user=3, delta=_DELTA)
  assert value == pytest.approx(want, rel=1e-3)


@pytest.mark.slow
@hypothesis.settings(max_examples=3, deadline=None)
@hypothesis.given(
    target=st.floats(0.3, 8.0),
    first=st.integers(1, 60),
    factor=st.sampled_from([0.25, 2.0, 8.0]),
    accountant=st.sampled_from(["pld", "rdp"]),
)
def test_what_is_calibrated_fits_and_the_next_does_not(
    target, first, factor, accountant
):
  schedule = ((0, 1.0), (first, factor))
  run = _run(schedule, num_examples=1000, noise=3.0)
  fields = {"delta": _DELTA, "accountant": accountant}

  def epsilon(mechanism):
    return accounting.epsilon(mechanism, **fields)

  noise = accounting.calibrate_noise(run, epsilon=target, **fields)
  assert epsilon(noise) <= target
  assert epsilon(noise) >= 0.999 * target or accountant == "rdp"
  assert noise.batch_size_schedule == schedule
  steps = accounting.calibrate_num_steps(run, epsilon=target, **fields)
  more = run.with_num_steps(steps.num_steps + 1)
  assert epsilon(steps) <= target < epsilon(more)
  batch = accounting.calibrate_batch_size(run, epsilon=target, **fields)
  size = round(batch.expected_batch_size)
  assert epsilon(batch) <= target
  if (size + 1) / 1000 * max(1.0, factor) <= 1:
    next_ = dataclasses.replace(batch, sampling_prob=(size + 1) / 1000)
    assert epsilon(next_) > target


def test_a_batch_is_never_larger_than_the_data_set():
  run = _run(((0, 1.0), (50, 7.0)), num_examples=1000, noise=1e4)
  found = accounting.calibrate_batch_size(run, epsilon=8.0, delta=_DELTA)
  assert found.expected_batch_size == 142  # 7 x 143 would be 1001.


def test_a_schedule_survives_json():
  run = _run()
  stored = json.loads(json.dumps(run.to_dict()))
  assert stored == run.to_dict()
  assert Mechanism.from_dict(stored) == run
  assert hash(Mechanism.from_dict(stored)) == hash(run)
  del stored["batch_size_schedule"]  # As of an older version.
  assert Mechanism.from_dict(stored) == _run(())


def test_steps_know_their_phase():
  run = _run()
  probs = [run.sampling_prob_at(t) for t in range(run.num_steps)]
  want = 30 * [0.05] + 40 * [0.2] + 10 * [0.025] + 40 * [0.2]
  np.testing.assert_allclose(probs, want, rtol=1e-15)
  assert run.expected_epochs == pytest.approx(sum(probs), rel=1e-12)
  with pytest.raises(ValueError, match="step must be below num_steps"):
    run.sampling_prob_at(120)


def test_without_sampling_participations_add_up_over_phases():
  """2, 8, 1 and 8 epochs begun: ceil(30/20), 40/5, ceil(10/40) and 40/5."""
  run = _run()
  assert run.max_participations == 2 + 8 + 1 + 8
  facts = accounting.make_statement(run, delta=_DELTA).facts
  plain = _run((), prob=1.0, steps=19)
  assert facts["epsilon_deterministic"] == accounting.epsilon(
      plain, delta=_DELTA
  )


def test_the_statement_says_every_phase():
  run = _run(((0, 1.0), (60, 2.5)), num_examples=1000)
  made = accounting.make_statement(run, delta=_DELTA)
  text = " ".join(p for s in made.sections for p in s.paragraphs)
  assert "probability 0.05, and 0.125 from step 61 on" in text
  rows = dict(row for s in made.sections for row in s.rows)
  assert rows["expected batch size"] == "50, and 125 from step 61 on"
  epochs = next(v for k, v in rows.items() if "passes" in k or "epochs" in k)
  assert float(epochs) == pytest.approx(60 * 0.05 + 60 * 0.125)
  assert json.loads(json.dumps(made.facts))["batch_size_schedule"] == [
      [0, 1.0],
      [60, 2.5],
  ]


@pytest.mark.parametrize(
    "schedule, rule",
    [
        (((1, 1.0),), "pairs that begin at step 0"),
        (((0, 1.0), (0, 2.0)), "pairs of ascending first steps"),
        (((0, 1.0), (9, 2.0), (5, 1.0)), "pairs of ascending first steps"),
        (((0, 1.0), (120, 2.0)), "begin before the last of 120 steps"),
        (((0, 1.0), (9, 20.1)), r"sampling_prob x factor is in \(0, 1\]"),
        (((0, 5e-324), (9, 1e-5)), r"factor must be a number in \[1e-30, 1e"),
        (((0, 0.0),), r"factor must be a number in \[1e-30, 1e\+30\]"),
        (((0, -1.0),), r"factor must be a number in \[1e-30, 1e\+30\]"),
        (((0, math.nan),), r"factor must be a number in \[1e-30, 1e\+30\]"),
        (((0, True),), r"factor must be a number in \[1e-30, 1e\+30\]"),
        (((0.0, 1.0),), "step must be an integer of at least 0"),
        (((True, 1.0),), "step must be an integer of at least 0"),
        ((0, 1.0), "pairs of a first step and a factor"),
        (((0, 1.0, 2.0),), "pairs of a first step and a factor"),
        ({"0": 1.0}, "pairs of a first step and a factor"),
        ("01", "pairs of a first step and a factor"),
        (None, "pairs of a first step and a factor"),
        (tuple((i, 1.0) for i in range(33)), "at most 32 pairs"),
    ],
)
def test_a_bad_schedule_is_refused(schedule, rule):
  with pytest.raises(ValueError, match=f"batch_size_schedule.* {rule}"):
    _run(schedule)


@pytest.mark.parametrize(
    "fields",
    [
        {"sampling": "truncated_poisson", "max_batch_size": 90},
        {"sampling": "deterministic"},
        {"sampling": "fixed_without_replacement"},
    ],
    ids=lambda fields: fields["sampling"],
)
def test_other_samplers_refuse_a_schedule(fields):
  with pytest.raises(ValueError, match=r"batch_size_schedule must be \(\) for"):
    _run(num_examples=1000, **fields)


def test_replacing_an_example_has_no_rdp_unless_all_are_in_every_batch():
  run = _run(neighboring_relation="replace_one")
  with pytest.raises(ValueError, match="accountant"):
    accounting.epsilon(run, delta=_DELTA, accountant="rdp")
  schedule = ((0, 1.0), (1, 0.5))
  mixed = _run(schedule, prob=1.0, neighboring_relation="replace_one")
  with pytest.raises(ValueError, match="accountant"):
    accounting.epsilon(mixed, delta=_DELTA, accountant="rdp")


def test_phases_that_would_begin_later_are_left_out():
  assert schedule_lib.phases(_SCHEDULE, num_steps=31) == [(30, 1.0), (1, 4.0)]
  assert _run().with_num_steps(30).batch_size_schedule == ((0, 1.0),)
  longer = _run().with_num_steps(1000)
  assert longer.phases[-1].num_steps == 920


_RUN = "--num-examples=1000 --batch-size=50 --num-steps=120 --delta=1e-5"


@pytest.mark.parametrize(
    "command, more",
    [("epsilon", "--noise-multiplier=2"), ("noise", "--epsilon=2")],
)
def test_the_command_reads_a_schedule(command, more, capsys):
  text = f"{command} {_RUN} {more} --batch-size-schedule=0:1,30:4 --json"
  assert budget.main(text.split()) == 0
  answer = json.loads(capsys.readouterr().out)
  assert answer["batch_size_schedule"] == [[0, 1.0], [30, 4.0]]
  run = Mechanism.from_dict(
      {k: answer[k] for k in _run().to_dict() if k in answer}
  )
  assert answer["epsilon"] == accounting.epsilon(run, delta=_DELTA)


def test_the_command_finds_steps_under_a_schedule(capsys):
  text = (
      "steps --num-examples=1000 --batch-size=50 --delta=1e-5 --epsilon=2"
      " --noise-multiplier=2 --batch-size-schedule=0:1,30:4 --json"
  )
  assert budget.main(text.split()) == 0
  answer = json.loads(capsys.readouterr().out)
  run = _run(((0, 1.0), (30, 4.0)), num_examples=1000)
  found = accounting.calibrate_num_steps(run, epsilon=2.0, delta=_DELTA)
  assert answer["num_steps"] == found.num_steps > 30


@pytest.mark.parametrize(
    "more, rule",
    [
        ("--batch-size-schedule=0:1,x", "pairs such as 0:1,500:2"),
        ("--batch-size-schedule=0:1,130:2", "before the last of 120 steps"),
        ("--batch-size-schedule=0:1 --sampling=deterministic", "must be ()"),
    ],
)
def test_the_command_refuses_a_bad_schedule(more, rule, capsys):
  text = f"epsilon {_RUN} --noise-multiplier=2 {more}"
  assert budget.main(text.split()) == 2
  assert rule in capsys.readouterr().err


def test_epochs_of_a_schedule_are_not_guessed(capsys):
  text = (
      "epsilon --sampling-prob=0.1 --epochs=3 --delta=1e-5"
      " --noise-multiplier=2 --batch-size-schedule=0:1,5:2"
  )
  assert budget.main(text.split()) == 2
  assert "--num-steps must be given" in capsys.readouterr().err


def test_comparing_leaves_out_samplers_without_schedules(capsys):
  text = f"compare {_RUN} --noise-multiplier=2 --batch-size-schedule=0:1,30:4"
  assert budget.main([*text.split(), "--json"]) == 0
  rows = json.loads(capsys.readouterr().out)["rows"]
  assert {row["sampling"] for row in rows} == {"poisson"}
