"""The digits recipe reaches what it claims, by training: about two minutes."""

import launch
import numpy as np
import pytest

# Least mean test accuracy of the EMA parameters over five seeds. The recipe's
# docstring has the means that were measured: 91.3, 95.3 and 95.9.
_LEAST = {1.0: 0.84, 3.0: 0.92, 8.0: 0.935}


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", sorted(_LEAST))
def test_digits(epsilon, tmp_path):
  summaries = [
      launch.run(
          launch.config("digits_cnn", f"epsilon={epsilon}", seed=seed),
          tmp_path / str(seed),
      )
      for seed in range(5)
  ]
  assert all(s["epsilon"] <= epsilon for s in summaries)
  assert np.mean([s["test_accuracy_ema"] for s in summaries]) >= _LEAST[epsilon]
