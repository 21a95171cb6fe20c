"""A run of the usual numbers, for the tests of the accountants."""

from accounting import Mechanism


def run(noise=3.0, prob=4096 / 50_000, steps=1000, **fields):
  return Mechanism(
      noise_multiplier=noise, sampling_prob=prob, num_steps=steps, **fields
  )
