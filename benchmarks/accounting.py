"""Times the accountant beside dp-accounting's own calibration and PRV.

  python -m benchmarks.accounting [--repeats=5]

Prints a table of runs with a small probability and many steps, as
docs/budget.md has it: our epsilon, RDP's, and that of a contour integral, which
uses no grid. Then, for each task, the median time of ours in a cold
cache, the time of the plain route through dp-accounting
(`calibrate_dp_mechanism` with its PLD accountant, or composing an event), and
what both found. Where prv-accountant is installed, its interval is printed too.
Nothing is asserted: times belong to the machine they were measured on.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import dp_accounting as dp
from dp_accounting import pld

import accounting
from accounting import claims
from accounting.accountants import pld as pld_accountant
from accounting.numerics import pld as pld_lib
from accounting.numerics import rdp
from benchmarks import contour

# (name, sampling probability, steps, epsilon, delta)
_CALIBRATIONS = (
    ("q=.082, T=2000, eps 8", 0.082, 2000, 8.0, 1e-5),
    ("q=.082, T=2000, eps 1", 0.082, 2000, 1.0, 1e-5),
    ("q=256/60000, T=14063, eps 3", 256 / 60_000, 14_063, 3.0, 1e-5),
    ("q=.001, T=1000, eps 1, 1e-8", 0.001, 1000, 1.0, 1e-8),
    ("ImageNet, eps 8", 16_384 / 1_281_167, 71_589, 8.0, 8e-7),
)
# Noise multiplier, probability, steps, delta, epsilon by PLD before losses were
# tilted, and the oracle's largest frequency, its step, and that of the nodes.
_RARE = (
    (0.5, 1e-6, 10**6, 1e-10, "11.089", None),
    (0.5, 1e-6, 10**6, 1e-9, "0.702", None),
    (0.6, 1e-6, 10**6, 1e-9, "0.0722", None),
    (1.0, 1e-6, 10**6, 1e-8, "0.0561", (12_000, 40, 0.01)),
    (1.0, 1e-6, 10**8, 1e-8, "0.547", (2000, 4, 0.02)),
    (5.0, 1e-6, 10**8, 1e-8, "0.0229", (6000, 20, 0.25)),
)
_RUN = accounting.Mechanism(
    noise_multiplier=3.0, sampling_prob=4096 / 50_000, num_steps=20_000
)


def main() -> None:
  """Prints all timings."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--repeats", type=int, default=5)
  repeats = parser.parse_args().repeats
  _warm_up()
  _rare()
  print("calibrating noise: ours, then dp-accounting's calibrate_dp_mechanism")
  for name, prob, steps, epsilon, delta in _CALIBRATIONS:
    plan = accounting.Mechanism(
        noise_multiplier=1.0, sampling_prob=prob, num_steps=steps
    )
    ours, found = _time(
        lambda p=plan, e=epsilon, d=delta: accounting.calibrate_noise(
            p, epsilon=e, delta=d
        ),
        repeats,
    )
    reached = accounting.epsilon(found, delta=delta)
    plain, theirs = _time(
        lambda p=plan, e=epsilon, d=delta: _plain_calibration(p, e, d), 1
    )
    print(
        f"  {name:<28} {ours:6.2f} s  noise {found.noise_multiplier:<8g} "
        f"epsilon {claims.at_most(reached, decimals=5)} | {plain:6.2f} s  "
        f"noise {theirs:.6g}"
    )
    _print_prv(found, delta)
  _others(repeats)


def _rare() -> None:
  print("| noise | q | T | delta | before | RDP | PLD | exact | seconds |")
  print("|---|---|---|---|---|---|---|---|---|")
  for noise, prob, steps, delta, before, nodes in _RARE:
    run = accounting.Mechanism(
        noise_multiplier=noise, sampling_prob=prob, num_steps=steps
    )
    seconds, found = _time(
        lambda r=run, d=delta: accounting.epsilon(r, delta=d), 3
    )
    loose = accounting.epsilon(run, delta=delta, accountant="rdp")
    exact = "-"  # The integrand of rare, large losses falls too slowly.
    if nodes is not None:
      options = dict(zip(("top", "spacing", "step"), nodes, strict=True))
      value = contour.epsilon(
          delta, guess=found, noise=noise, prob=prob, steps=steps, **options
      )
      exact = f"{value:.5f}"
    print(
        f"| {noise:g} | {prob:g} | {steps:.0e} | "
        f"{claims.at_most_short(delta)} | {before} | "
        f"{claims.at_most_short(loose, digits=4)} | "
        f"{claims.at_most_short(found, digits=4)} | {exact} | "
        f"{seconds:.1f} |",
        flush=True,
    )


def _forget() -> None:
  pld_lib.compose.cache_clear()
  pld_lib._steps.cache_clear()
  pld_accountant._kept.cache_clear()
  rdp.step_divergences.cache_clear()


def _others(repeats: int) -> None:
  print("one run: q=4096/50000, noise 3, T=20000, delta 1e-5")
  tasks = {
      "epsilon, PLD": lambda: accounting.epsilon(_RUN, delta=1e-5),
      "epsilon, dp-accounting's PLD": lambda: _plain_epsilon(_RUN, 1e-5),
      "curve of 20000 steps, RDP": lambda: _curve("rdp"),
      "curve of 20000 steps, PLD": lambda: _curve("pld"),
      "most steps for epsilon 8": lambda: accounting.calibrate_num_steps(
          _RUN, epsilon=8.0, delta=1e-5
      ).num_steps,
      "profile, one PLD pass included": lambda: accounting.privacy_profile(
          _RUN
      ).gdp_mu,
      "users of 4 examples, T=1000": lambda: accounting.user_epsilon(
          accounting.Mechanism(
              noise_multiplier=3.0, sampling_prob=4096 / 50_000, num_steps=1000
          ),
          examples_per_user=4,
          delta=1e-5,
      ),
  }
  for name, task in tasks.items():
    seconds, value = _time(task, repeats)
    print(f"  {name:<34} {seconds:6.2f} s  {value:.6g}")


def _curve(accountant: str) -> float:
  steps = range(1, _RUN.num_steps + 1)
  values = accounting.epsilon_curve(
      _RUN, steps=steps, delta=1e-5, accountant=accountant
  )
  return float(values[-1])


def _time(task: Callable[[], Any], repeats: int) -> tuple[float, Any]:
  """Returns the median time, every cache emptied before each call."""
  times = []
  for _ in range(repeats):
    _forget()
    start = time.perf_counter()
    value = task()
    times.append(time.perf_counter() - start)
  return statistics.median(times), value


def _warm_up() -> None:
  """Pays for lazy imports before the clock starts."""
  small = accounting.Mechanism(
      noise_multiplier=2.0, sampling_prob=0.1, num_steps=50
  )
  accounting.calibrate_noise(small, epsilon=1.0, delta=1e-5)
  accounting.epsilon_curve(small, steps=range(1, 99), delta=1e-5)
  accounting.privacy_profile(small)


def _plain_calibration(plan, epsilon: float, delta: float) -> float:
  def event(noise: float) -> dp.DpEvent:
    step = dp.PoissonSampledDpEvent(
        plan.sampling_prob, dp.GaussianDpEvent(noise)
    )
    return dp.SelfComposedDpEvent(step, plan.num_steps)

  return dp.calibrate_dp_mechanism(
      pld.PLDAccountant,
      event,
      target_epsilon=epsilon,
      target_delta=delta,
      bracket_interval=dp.LowerEndpointAndGuess(0.3, 1.0),
      tol=1e-4,
  )


def _plain_epsilon(run, delta: float) -> float:
  return pld.PLDAccountant().compose(run.event()).get_epsilon(delta)


def _print_prv(run, delta: float) -> None:
  """Prints the interval of prv-accountant, if it is installed."""
  try:
    import prv_accountant
  except ImportError:
    return
  start = time.perf_counter()
  accountant = prv_accountant.PRVAccountant(
      prvs=prv_accountant.PoissonSubsampledGaussianMechanism(
          sampling_probability=run.sampling_prob,
          noise_multiplier=run.noise_multiplier,
      ),
      max_self_compositions=run.num_steps,
      eps_error=0.01,
      delta_error=delta / 1000,
  )
  low, _, high = accountant.compute_epsilon(
      delta=delta, num_self_compositions=run.num_steps
  )
  seconds = time.perf_counter() - start
  print(
      f"    prv-accountant {seconds:.2f} s: between "
      f"{claims.at_least(low, decimals=4)} and "
      f"{claims.at_most(high, decimals=4)}"
  )


if __name__ == "__main__":
  main()
