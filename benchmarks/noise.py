"""Times secure noise, and steps with it, beside the ordinary kind.

  python -m benchmarks.noise [--rounds=15] [--only=cipher,draw,batch,step]

What is compared takes turns, in one process, so that what else the machine does
falls on all alike; every other round runs backwards. Prints the median and the
quartiles, and of the ratios to the first of each group those within a round.

Invariant: nothing is asserted. Times belong to the machine they were measured
on.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cryptography.hazmat.primitives import ciphers

from accounting import Mechanism
from benchmarks import models
from jax_privacy import (
    batch_selection,
    dp_sgd,
    noise_addition,
    secure_noise,
    secure_random,
)

_KEY = secure_random.SecureKey(bytes(32))
_CIPHER_BYTES = 2**26
_SIZES = (100_000, 3_000_000, 25_000_000)
# A run that takes less is repeated, against the jitter.
_TURN_SECONDS = 0.02
_STEPS = {"cnn_small": 256, "wrn_16_4": 32}
_GRID_SCALE = 2**20


def main(argv: Sequence[str] | None = None) -> None:
  """Prints all groups."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--rounds", type=int, default=15)
  parser.add_argument("--only", default="cipher,draw,batch,step")
  parser.add_argument("--models", default=",".join(_STEPS))
  args = parser.parse_args(argv)
  chosen = args.only.split(",")
  if "cipher" in chosen:
    print(f"{_CIPHER_BYTES >> 20} MiB of key stream")
    report(_ciphers(), args.rounds)
  if "draw" in chosen:
    for size in _SIZES:
      print(f"noise for {size:,} coordinates, added")
      report(_draws(size), args.rounds)
  if "batch" in chosen:
    print("a Poisson batch, 4096 of 50,000 expected")
    report(_batches(), args.rounds)
  if "step" in chosen:
    for name in args.models.split(","):
      print(f"a private step of {name}, batch {_STEPS[name]}")
      report(_private_steps(name), args.rounds)


def report(runs: Mapping[str, Callable[[], object]], rounds: int) -> None:
  """Times functions in turns, and prints a line for each."""
  repeats = {}
  for name, run in runs.items():
    run()  # Compiles.
    repeats[name] = max(1, round(_TURN_SECONDS / _seconds(run, 1)))
  times = {name: [] for name in runs}
  for number in range(rounds):
    for name in sorted(runs, reverse=bool(number % 2)):
      times[name].append(_seconds(runs[name], repeats[name]))
  base = np.array(next(iter(times.values())))
  for name, seconds in times.items():
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75)) * 1e3
    ratio = np.median(np.array(seconds) / base)
    print(
        f"  {name:<32} {middle:9.3f} ms ({low:.3f}-{high:.3f}),"
        f" {ratio:.2f} times the first"
    )


def _seconds(run, repeats) -> float:
  start = time.perf_counter()
  for _ in range(repeats):
    result = run()
  jax.block_until_ready(result)
  return (time.perf_counter() - start) / repeats


def _ciphers():
  """ChaCha20 and AES in counter mode, in pieces as the noise takes them."""
  piece = 2**18
  data, out = bytes(piece), bytearray(piece)
  key = bytes(32)
  algorithms = {
      "ChaCha20": (ciphers.algorithms.ChaCha20(key, bytes(16)), None),
      "AES-256, counter mode": (
          ciphers.algorithms.AES(key),
          ciphers.modes.CTR(bytes(16)),
      ),
  }

  def run(algorithm, mode):
    for _ in range(_CIPHER_BYTES // piece):
      encryptor = ciphers.Cipher(algorithm, mode).encryptor()
      encryptor.update_into(data, out)

  return {
      name: lambda pair=pair: run(*pair) for name, pair in algorithms.items()
  }


def _draws(size):
  def run(noise, dtype):
    zeros = jnp.zeros(size, dtype)
    state = noise.init(zeros)
    update = jax.jit(noise.update)
    return lambda: update(zeros, state)

  make_secure = secure_noise.secure_gaussian_privatizer
  return {
      "Threefry, on the device": run(
          noise_addition.gaussian_privatizer(stddev=1.0, prng_key=0),
          jnp.float32,
      ),
      "ChaCha20, on the host": run(
          make_secure(stddev=1.0, key=_KEY), jnp.float32
      ),
      "ChaCha20, on a grid": run(
          make_secure(stddev=1e5, key=_KEY, grid_step=1e-5), jnp.int32
      ),
  }


def _batches():
  strategy = batch_selection.CyclicPoissonSampling(4096 / 50_000, 1000)
  runs = {"PCG64": strategy.bind(50_000, 0)}
  runs["ChaCha20"] = strategy.bind(50_000, _KEY)
  return {
      name: lambda batches=batches: batches.batch(7)
      for name, batches in runs.items()
  }


def _private_steps(name):
  """Gradient, noise and SGD; "no noise" is the gradient and SGD."""
  size = _STEPS[name]
  workload = models.build(name, batch_size=size)
  mechanism = Mechanism(
      noise_multiplier=1.0,
      num_steps=1000,
      num_examples=100 * size,
      sampling_prob=0.01,
  )
  is_padding = np.zeros(size, bool)

  def run(optimizer=None, **options):
    private = dp_sgd.make_private(
        workload.loss,
        optax.sgd(0.1),
        mechanism,
        l2_clip_norm=1.0,
        key=0,
        batch_argnums=(1, 2),
        **options,
    )
    optimizer = optimizer or private.optimizer
    state = optimizer.init(workload.params)

    def step(params, state, *batch):
      grads = private.grad_fn(params, *batch, is_padding_example=is_padding)
      updates, state = optimizer.update(grads, state, params)
      return optax.apply_updates(params, updates), state

    step = jax.jit(step)
    return lambda: step(workload.params, state, *workload.batch)

  return {
      "no noise": run(optax.sgd(0.1)),
      "Threefry": run(),
      "ChaCha20": run(secure_random=True),
      "vmap, ChaCha20": run(secure_random=True, method="vmap"),
      "vmap, ChaCha20 on a grid": run(
          secure_random=True, grid_scale=_GRID_SCALE
      ),
  }


if __name__ == "__main__":
  main()
