"""Random allocation, bins and shuffles: rounds, order, relations, words."""

import dataclasses
import math

import numpy as np
import pytest

import accounting
from accounting import budget
from accounting.numerics import pld, shuffles


def _run(sampling, *, t=8, noise=1.0, num_steps=None, **fields):
  return accounting.Mechanism(
      noise_multiplier=noise,
      num_steps=t if num_steps is None else num_steps,
      sampling_prob=1 / t,
      sampling=sampling,
      **fields,
  )


def _selected(k, t, num_steps, noise=1.0):
  return accounting.Mechanism(
      noise_multiplier=noise,
      num_steps=num_steps,
      sampling_prob=k / t,
      sampling="random_allocation",
      sampling_options={"num_selected": k},
  )


def _plain(noise, count):
  return accounting.Mechanism(
      noise_multiplier=noise, num_steps=count, sampling_prob=1.0
  )


def test_a_round_that_is_cut_short_counts_as_a_whole_one():
  values = [
      accounting.epsilon(_run("random_allocation", num_steps=steps), delta=1e-6)
      for steps in (1, 8, 9, 16)
  ]
  assert values[0] == values[1] < values[2] == values[3]


@pytest.mark.few(2)
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-2])
def test_more_steps_to_choose_from_are_more_private(delta):
  values = [
      accounting.epsilon(_run("random_allocation", t=t), delta=delta)
      for t in (2, 5, 12)
  ]
  whole = accounting.epsilon(_plain(1.0, 1), delta=delta)
  assert whole > values[0] > values[1] > values[2]


def test_several_steps_of_a_round_are_blocks():
  three = _selected(3, 12, 24)
  # Two rounds, in each three blocks of 4 steps.
  blocks = _run("random_allocation", t=4, num_steps=24)
  found = accounting.epsilon(three, delta=1e-6)
  assert found == accounting.epsilon(blocks, delta=1e-6)
  assert found < accounting.epsilon(_plain(1.0, 6), delta=1e-6)
  # No choice is left where a block is one step.
  assert accounting.epsilon(_selected(2, 3, 3), delta=1e-6) == (
      accounting.epsilon(_plain(1.0, 2), delta=1e-6)
  )


def test_bins_are_one_round_of_less_noise():
  bins = _run("balls_in_bins", noise=2.0, num_steps=32)
  once = _run("random_allocation", noise=1.0)
  assert accounting.epsilon(bins, delta=1e-6) == (
      accounting.epsilon(once, delta=1e-6)
  )
  fresh = _run("random_allocation", noise=2.0, num_steps=32)
  assert accounting.epsilon(fresh, delta=1e-6) < (
      accounting.epsilon(bins, delta=1e-6)
  )


def test_a_long_curve_of_bins_is_what_epsilon_gives():
  # Each number of epochs has a term of its own, which no grid of the last has.
  bins = _run("balls_in_bins", t=4, noise=4.0)
  found = pld.epsilons(bins, steps=[40, 57, 60, 72], delta=1e-5)
  for steps, value in zip([40, 57, 60, 72], found, strict=True):
    one = accounting.epsilon(bins.with_num_steps(steps), delta=1e-5)
    assert one * 0.995 < value < one * 1.005


@pytest.mark.parametrize("noise", [0.01, 0.049, 1e5, 1e9])
def test_extreme_noise(noise):
  for name in ("random_allocation", "balls_in_bins"):
    run = _run(name, noise=noise, num_steps=16)
    value = pld.composed(run, deltas=(1e-8,)).epsilon(1e-8)
    plain = pld.composed(_plain(noise, 2), deltas=(1e-8,)).epsilon(1e-8)
    assert 0 <= value <= plain * (1 + 1e-9)


def test_rounds_compose_with_other_releases():
  # Where a round is cut, both releases count it: the sum is never less.
  whole = _run("random_allocation", num_steps=16)
  parts = whole.with_num_steps(8) + whole.with_num_steps(3)
  assert accounting.epsilon(parts, delta=1e-6) == pytest.approx(
      accounting.epsilon(whole, delta=1e-6), rel=1e-9
  )
  with_noise = whole + accounting.Gaussian(stddev=4.0, sensitivity=1.0)
  assert accounting.epsilon(with_noise, delta=1e-6) > (
      accounting.epsilon(whole, delta=1e-6)
  )
  found = accounting.calibrate_noise(whole, epsilon=1.0, delta=1e-6)
  assert 0.99 < accounting.epsilon(found, delta=1e-6) <= 1.0
  longer = accounting.calibrate_num_steps(found, epsilon=2.0, delta=1e-6)
  assert longer.num_steps % 8 == 0 and longer.num_steps > 16


def test_a_sampling_probability_without_whole_rounds_is_refused():
  with pytest.raises(
      ValueError,
      match=r"sampling_prob must be 1 / a whole number of steps for "
      r"random_allocation, that is an expected batch size of 4166.66667 \(12 "
      r"steps\) or 3846.15385 \(13 steps\), got 0.08192",
  ):
    accounting.Mechanism.for_batch_size(
        expected_batch_size=4096,
        num_examples=50_000,
        noise_multiplier=1.0,
        num_steps=5,
        sampling="random_allocation",
    )
  with pytest.raises(ValueError, match="num_selected must be an integer"):
    dataclasses.replace(
        _selected(1, 3, 3), sampling_options={"num_selected": 0}
    )
  with pytest.raises(ValueError, match="one that takes any batch size"):
    accounting.calibrate_batch_size(
        dataclasses.replace(_run("balls_in_bins"), num_examples=80),
        epsilon=1.0,
        delta=1e-5,
    )


@pytest.mark.parametrize("name", ["random_allocation", "balls_in_bins"])
def test_relations_of_rounds(name):
  run = _run(name)
  blanked = run.with_neighboring_relation("replace_special")
  assert accounting.epsilon(run, delta=1e-5) == (
      accounting.epsilon(blanked, delta=1e-5)
  )
  with pytest.raises(ValueError, match="'replace_special' has one"):
    accounting.epsilon(run.with_neighboring_relation("replace_one"), delta=1e-5)


def _shuffle(relation="replace_special", num_steps=20, noise=1.0):
  return accounting.Mechanism.for_batch_size(
      expected_batch_size=10,
      num_examples=105,
      noise_multiplier=noise,
      num_steps=num_steps,
      sampling="shuffle",
      neighboring_relation=relation,
  )


@pytest.mark.parametrize("relation", ["replace_special", "replace_one"])
@pytest.mark.parametrize("num_steps", [3, 10, 45])
@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
def test_a_shuffle_is_between_its_attack_and_fixed_batches(
    relation, num_steps, noise
):
  run = _shuffle(relation, num_steps, noise)
  fixed = dataclasses.replace(run, sampling="deterministic")
  for delta in (1e-6, 1e-2):
    value = pld.composed(run, deltas=(delta,)).epsilon(delta)
    assert value == pld.composed(fixed, deltas=(delta,)).epsilon(delta)
    assert 0 <= run.sampler.lower_bound(run, delta=delta) <= value


def test_poissons_epsilon_does_not_hold_for_a_shuffle():
  run = _shuffle(num_steps=10)
  poisson = dataclasses.replace(run, sampling="poisson")
  assert run.sampler.lower_bound(run, delta=1e-6) > (
      1.3 * accounting.epsilon(poisson, delta=1e-6)
  )


def test_the_attack_on_a_shuffle_is_what_chance_gives():
  noise, t, in_epoch, size = 0.7, 3, 0.75, 400_000
  rng = np.random.default_rng(0)

  def below(moved, threshold):
    sums = noise * rng.standard_normal((size, t))
    present = rng.random(size) < in_epoch
    sums[np.arange(size), rng.integers(t, size=size)] += moved * present
    return np.mean(np.max(sums, axis=1) <= threshold)

  for moved, threshold in ((2.0, 1.1), (1.0, 0.4), (0.0, 0.9)):
    exact = math.exp(
        shuffles._log_below(np.array([threshold]), moved, noise, t, in_epoch)[0]
    )
    # Six standard errors of a proportion.
    assert abs(below(moved, threshold) - exact) < 3 / math.sqrt(size)


def test_a_shuffle_under_add_or_remove_is_refused():
  with pytest.raises(ValueError, match="'replace_special' or 'replace_one'"):
    accounting.epsilon(_shuffle("add_or_remove_one"), delta=1e-5)
  with pytest.raises(ValueError, match="a whole number of at least 1 for shuf"):
    dataclasses.replace(_shuffle(), sampling_prob=0.1234)


@pytest.mark.parametrize(
    "run", [_shuffle(), _run("random_allocation"), _run("balls_in_bins")]
)
def test_noise_of_bands_is_refused(run):
  # An example may be in the last step of a round and the first of the next.
  with pytest.raises(ValueError, match="strategy_coef must be at most 1 num"):
    dataclasses.replace(
        run, noise="banded", noise_options={"strategy_coef": (0.8, 0.6)}
    )


def test_statements_say_how_batches_are_drawn():
  texts = {
      _selected(
          2, 8, 16
      ): "in every 8 steps in a row, from the first on, every "
      "example is in exactly 2",
      _run("balls_in_bins"): "every example is in one of 8 bins",
      _shuffle(): "at most one of the 10 steps of an epoch",
  }
  for run, text in texts.items():
    made = accounting.make_statement(run, delta=1e-6)
    words = " ".join(p for s in made.sections for p in s.paragraphs)
    assert text in words
  assert (
      "proves that epsilon is at least 6.7" in words
  )  # Of the shuffle, the last.


def test_the_command_knows_them(capsys):
  flags = ["--noise-multiplier=1", "--num-steps=12", "--delta=1e-5"]
  flags += ["--sampling=random_allocation", "--num-selected=3"]
  assert budget.main(["epsilon", "--sampling-prob=0.25", *flags]) == 0
  value = accounting.epsilon(_selected(3, 12, 12), delta=1e-5)
  assert (
      f"epsilon {accounting.claims.at_most(value)} " in capsys.readouterr().out
  )


@pytest.mark.parametrize(
    "sampling, relation, spans",
    [
        ("random_allocation", "add_or_remove_one", True),
        ("balls_in_bins", "add_or_remove_one", True),
        ("shuffle", "replace_one", True),
        ("poisson", "add_or_remove_one", False),
    ],
)
def test_what_is_drawn_for_a_round_is_said_to_span_steps(
    sampling, relation, spans
):
  """Other versions' draws within a round would put an example in it twice."""
  run = accounting.Mechanism(
      noise_multiplier=1.0,
      num_steps=8,
      sampling_prob=0.25,
      num_examples=40,
      sampling=sampling,
      neighboring_relation=relation,
  )
  assert run.draws_span_steps is spans
