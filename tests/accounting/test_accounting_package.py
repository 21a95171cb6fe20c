"""The package as a whole: quick to import, and free of JAX."""

import subprocess
import sys


def test_import_loads_neither_jax_nor_dp_accounting():
  # dp-accounting takes most of a second, which `--help` should not wait for.
  code = (
      "import sys, accounting, accounting.calibrate;"
      "print({'jax', 'dp_accounting', 'scipy', 'matplotlib'} &"
      " {m.split('.')[0] for m in sys.modules})"
  )
  result = subprocess.run(
      [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == "set()"


def test_a_calculation_never_loads_jax():
  code = (
      "import sys, accounting as a;"
      "m = a.Mechanism(noise_multiplier=2., num_steps=10, sampling_prob=.1);"
      "a.calibrate_noise(m, epsilon=1., delta=1e-5);"
      "a.calibrate_noise(m, epsilon=1., delta=1e-5, accountant='rdp');"
      "print([m for m in sys.modules if m.split('.')[0] == 'jax'])"
  )
  result = subprocess.run(
      [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == "[]"
