"""Adding a sampler or an accountant is one file and one line.

Each test writes a toy of its kind, as its file would, and adds its line to the
table: all commands and functions then know it.
"""

import dataclasses
import json
import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, special

import accounting
from accounting import _validate, accountants, budget, samplers
from accounting.accountants import registry as accountant_table
from accounting.budget import compare
from accounting.numerics import terms
from accounting.samplers import registry as sampler_table
from configs import common
from experiments.plan import mechanism as mechanism_lib
from experiments.run import summary as summary_lib
from jax_privacy import dp_sgd, root_key


@dataclasses.dataclass(frozen=True)
class _EveryKth:
  """Draws example i at the steps t where i + t is a multiple of k, shifted."""

  k: int

  def usual_sizes(self, num_examples):
    return (math.ceil(num_examples / self.k),)

  def draw_fn(self, num_examples, generator):
    [shift] = generator.integers(self.k, size=1)

    def draw(step_generator, step):
      del step_generator
      return np.arange((step + shift) % self.k, num_examples, self.k)

    return draw


class _RoundRobin(samplers.Sampler):
  """An example is in every k-th step; the toy of a sampler."""

  name = "round_robin"
  sentence = "every {unit} is in each {k}th batch, of a fraction {probs}"
  options = {"k": samplers.Option(_validate.integer, int, "steps of one round")}
  amplifies = False

  def analyses(self, run):
    del run
    return ("pld",)

  def event(self, run, *, misses_replacement):
    raise NotImplementedError

  def batch_strategy(self, run):
    return _EveryKth(dict(run.sampling_options)["k"])

  def term(self, run):
    noise = run.noise_multiplier / math.sqrt(
        self.compositions(run, run.num_steps)
    )
    return terms.SampledGaussian(noise, 1.0, False), 1

  def compositions(self, run, num_steps):
    return math.ceil(num_steps / dict(run.sampling_options)["k"])


class _Gaussian(accountants.Accountant):
  """A closed form that counts on no chance; the toy of an accountant."""

  name = "toy"
  title = "a closed form"
  remark = "It counts on no chance."

  def supports(self, run):
    return run.neighboring_relation != "replace_one"

  def evaluate(self, run, *, delta, coarsening=1.0):
    del coarsening
    value = optimize.brentq(
        lambda e: self.delta(run, epsilon=e) - delta, 0, 500
    )
    return accountants.Evaluation(value, self.name, [])

  def delta(self, run, *, epsilon):
    return _gaussian_delta(
        math.sqrt(run.max_participations) / run.noise_multiplier, epsilon
    )


def _gaussian_delta(mu, epsilon):
  near = special.ndtr(-epsilon / mu + mu / 2)
  return near - math.exp(epsilon + special.log_ndtr(-epsilon / mu - mu / 2))


@pytest.fixture
def with_sampler(monkeypatch):
  monkeypatch.setattr(
      sampler_table, "_SAMPLERS", (*sampler_table._SAMPLERS, _RoundRobin())
  )


@pytest.fixture
def with_accountant(monkeypatch):
  table = (*accountant_table._ACCOUNTANTS, _Gaussian())
  monkeypatch.setattr(accountant_table, "_ACCOUNTANTS", table)


def _round_robin(**fields):
  return accounting.Mechanism.for_batch_size(
      **{
          "expected_batch_size": 5,
          "num_examples": 20,
          "noise_multiplier": 2.0,
          "num_steps": 9,
          "sampling": "round_robin",
          "sampling_options": {"k": 4},
      }
      | fields
  )


_PLAIN = {"sampling": "poisson", "sampling_options": {}}
_FLAGS = ("--num-examples=20", "--batch-size=5", "--noise-multiplier=2")
_FLAGS += ("--num-steps=9", "--delta=1e-3")
_SAMPLED = (*_FLAGS, "--sampling=round_robin", "--k=4")


def test_a_toy_sampler_is_accounted_for(with_sampler):
  run = _round_robin()
  # An example is in 3 of 9 steps at most.
  epsilon = accounting.epsilon(run, delta=1e-3)
  assert _gaussian_delta(math.sqrt(3) / 2, epsilon) == pytest.approx(
      1e-3, rel=0.01
  )
  found = accounting.calibrate_noise(run, epsilon=epsilon, delta=1e-3)
  assert found.noise_multiplier == pytest.approx(2.0, rel=1e-3)
  curve = accounting.epsilon_curve(run, steps=[4, 9], delta=1e-3)
  assert curve[0] < curve[1] == epsilon
  assert accounting.privacy_profile(run).gdp_mu == pytest.approx(
      math.sqrt(3) / 2, rel=0.01
  )


def test_a_toy_sampler_has_fields_of_its_own(with_sampler):
  run = _round_robin()
  fields = json.loads(json.dumps(run.to_dict()))
  assert fields["sampling_options"] == {"k": 4}
  assert accounting.Mechanism.from_dict(fields) == run
  assert "sampling_options" not in run.unsampled().to_dict()
  with pytest.raises(ValueError, match="k must be an integer of at least 1"):
    _round_robin(sampling_options={"k": 0})
  with pytest.raises(ValueError, match="k must be given for round_robin"):
    _round_robin(sampling_options={})
  with pytest.raises(ValueError, match="no names for 'poisson', got 'k'"):
    _round_robin(sampling="poisson")
  with pytest.raises(ValueError, match="among k for 'round_robin', got 'j'"):
    _round_robin(sampling_options={"k": 4, "j": 4})
  with pytest.raises(ValueError, match="must be a mapping of names, got 3"):
    _round_robin(sampling_options=3)
  with pytest.raises(ValueError, match="max_batch_size must be None for"):
    _round_robin(max_batch_size=5)
  with pytest.raises(ValueError, match="Accountant 'pld' has one"):
    accounting.epsilon(run, delta=1e-3, accountant="rdp")
  with pytest.raises(ValueError, match="sampling must be one of poisson, shu"):
    accounting.user_epsilon(run, examples_per_user=2, delta=1e-3)


def test_dp_budget_knows_a_toy_sampler(with_sampler, capsys):
  epsilon = accounting.epsilon(_round_robin(), delta=1e-3)
  assert budget.main(["epsilon", *_SAMPLED, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["epsilon"] == epsilon
  assert found["sampling_options"] == {"k": 4}
  assert budget.main(["statement", *_SAMPLED]) == 0
  stated = " ".join(capsys.readouterr().out.split())
  assert "every example is in each 4th batch, of a fraction 0.25" in stated
  assert budget.main(["compare", *_SAMPLED]) == 0
  assert "round_robin                add_or_" in capsys.readouterr().out
  assert budget.main(["epsilon", *_FLAGS, "--sampling=round_robin"]) == 2
  assert "k must be given for round_robin" in capsys.readouterr().err


@pytest.mark.parametrize("secure_random", [False, True])
def test_make_private_draws_a_toy_sampler(with_sampler, secure_random):
  run = _round_robin(num_examples=19, expected_batch_size=19 / 4)
  private = dp_sgd.make_private(
      lambda w, x: w * jnp.sum(x),
      optax.sgd(1.0),
      run,
      l2_clip_norm=1.0,
      key=root_key.RootKey.from_seed(0),
      secure_random=secure_random,
      check_loss=False,
  )
  assert private.sampler.sizes == (5,)
  batches = [np.sort(batch.indices) for batch in private.sampler]
  assert len(batches) == 9
  drawn = np.concatenate([b[b >= 0] for b in batches[:4]])
  np.testing.assert_array_equal(np.sort(drawn), np.arange(19))
  np.testing.assert_array_equal(batches[8], batches[0])


def test_a_config_and_a_report_keep_a_samplers_own_fields(with_sampler):
  config = common.base()
  config.dp.update(sampling="round_robin", delta=1e-3)
  common.set_options(config.dp.sampling_options, k=4)
  config.dp.noise_multiplier = 2.0
  config.train.update(expected_batch_size=5.0, num_steps=9)
  run = mechanism_lib.build_plan(config.dp, config.train, 20).mechanism
  assert run == _round_robin()
  stated = summary_lib.privacy(config, run)
  assert stated["sampling_options"] == {"k": 4}
  written = json.loads(json.dumps(stated | {"num_steps": 9, "seed": None}))
  same = lambda k: compare._with_config(
      {"dp": {"sampling_options": {"k": k}}, "train": {"num_steps": 9}},
      written,
  )
  assert same(4)["sampling_options"] is None
  with pytest.raises(ValueError, match="sampling_options must be as in the r"):
    same(5)
  # A run whose sampler has none says nothing of them.
  plain = summary_lib.privacy(config, _round_robin(**_PLAIN))
  assert "sampling_options" not in plain


def test_dp_budget_knows_a_toy_accountant(with_accountant, capsys):
  # 9 steps of batches of a quarter: 3 times at most.
  mu = math.sqrt(3) / 2
  command = ["epsilon", *_FLAGS, "--accountant=toy", "--json"]
  assert budget.main(command) == 0
  epsilon = json.loads(capsys.readouterr().out)["epsilon"]
  assert _gaussian_delta(mu, epsilon) == pytest.approx(1e-3, rel=1e-6)
  assert budget.main(["curve", *_FLAGS, "--accountant=toy", "--json"]) == 0
  curve = json.loads(capsys.readouterr().out)["epsilon"]
  assert len(curve) == 9 and curve == sorted(curve) and curve[-1] == epsilon
  command = ["delta", *_FLAGS[:4], f"--epsilon={epsilon!r}"]
  assert budget.main([*command, "--accountant=toy", "--json"]) == 0
  delta = json.loads(capsys.readouterr().out)["delta"]
  assert delta == pytest.approx(1e-3, rel=1e-6)
  assert budget.main(["statement", *_FLAGS, "--accountant=toy"]) == 0
  stated = " ".join(capsys.readouterr().out.split())
  assert "Accountant: a closed form. It counts on no chance." in stated
  assert budget.main(["compare", *_FLAGS]) == 0
  assert "deterministic              replace_special       toy" in (
      capsys.readouterr().out
  )
  command = ["epsilon", *_FLAGS, "--accountant=toy", "--neighboring=replace"]
  assert budget.main(command) == 2
  assert "under 'replace_one', got 'toy'" in capsys.readouterr().err


def test_calibration_knows_a_toy_accountant(with_accountant):
  run = _round_robin(sampling="poisson", sampling_options={})
  epsilon = accounting.epsilon(run, delta=1e-3, accountant="toy")
  found = accounting.calibrate_num_steps(
      run, epsilon=epsilon * (1 + 1e-9), delta=1e-3, accountant="toy"
  )
  assert found.num_steps == 12  # As many as have 3 participations.
