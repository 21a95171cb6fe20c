"""`check_private`: what `make_private` returns passes, and mismatches fail."""

import types

import jax
import optax
import pytest

import jax_privacy
from jax_privacy import dp_sgd, testing
from tests.support import toy

# The noise's half takes half a minute of draws.
pytestmark = pytest.mark.slow

_MECHANISM = types.SimpleNamespace(
    noise_multiplier=1.5,
    num_steps=6,
    sampling="poisson",
    sampling_prob=0.25,
    num_examples=64,
    max_batch_size=None,
)


def _private(**options):
  return dp_sgd.make_private(
      toy.loss,
      optax.sgd(0.1, momentum=0.9),
      _MECHANISM,
      key=jax.random.key(0),
      **{"l2_clip_norm": 0.5, **options},
  )


def _check(private, mechanism=_MECHANISM):
  return testing.check_private(
      private, toy.params(), toy.batch(5), mechanism=mechanism
  )


@pytest.mark.parametrize("method", ["ghost", "vmap"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rescale_to_unit_norm": True},
        {"microbatch_size": 2, "return_values": True},
    ],
    ids=["plain", "unit norm", "microbatches"],
)
def test_make_private_passes_in_one_line(method, options):
  report = _check(_private(method=method, **options))
  bound = report.sensitivity.bounds["add_or_remove_one"]
  assert bound == (1.0 if "rescale_to_unit_norm" in options else 0.5) / 16
  assert report.noise.stddev == 1.5 * bound


def test_microbatch_sizes_draw_the_same_noise():
  private = [_private(microbatch_size=m).optimizer for m in (None, 2, 4)]
  testing.check_noise(
      private[0], toy.params(), stddev=1.5 * 0.5 / 16, same_noise=private[1:]
  )


def test_parts_that_do_not_belong_together_are_caught():
  private = _private()
  # Noise for the mean's sensitivity, on a gradient that is a sum.
  as_sum = private._replace(
      grad_fn=jax_privacy.clipped_grad(toy.loss, l2_clip_norm=0.5)
  )
  with pytest.raises(testing.NoiseError, match="all noise is 0.06"):
    _check(as_sum)
  louder = types.SimpleNamespace(noise_multiplier=2.0)
  with pytest.raises(testing.NoiseError, match="all noise is 0.7"):
    _check(private, mechanism=louder)
  unclipped = private._replace(grad_fn=_Unclipped(private.grad_fn))
  with pytest.raises(testing.SensitivityError, match="add_or_remove_one"):
    _check(unclipped)


class _Unclipped:
  """Twice the sum, claimed as once."""

  def __init__(self, grad_fn):
    self._grad_fn = grad_fn

  def __call__(self, *args, **kwargs):
    return jax.tree.map(lambda g: 2 * g, self._grad_fn(*args, **kwargs))

  def sensitivity(self, relation):
    return self._grad_fn.sensitivity(relation)
