"""Measures the noise that an optax pipeline adds to a sum.

The invariant: of sound noise, independent N(0, stddev^2) of every coordinate
and step, a check fails with probability at most `significance`, by bounds that
hold for any number of draws. The power is not promised, but stated: the report
gives the interval that the measured standard deviation must be in.

Example:
  >>> import jax, jax.numpy as jnp, optax
  >>> from jax_privacy import noise_addition, testing
  >>> noise = noise_addition.gaussian_privatizer(
  ...     stddev=2.0, prng_key=jax.random.key(0))
  >>> optimizer = optax.chain(noise, optax.sgd(0.1, momentum=0.9))
  >>> report = testing.check_noise(optimizer, jnp.zeros(1000), stddev=2.0)
  >>> print(round(report.measured_stddev, 2), report.num_draws)
  2.0 128000
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from jax_privacy import _validate, arguments, precision
from jax_privacy.testing import noise_path
from jax_privacy.testing.errors import NoiseError

_MIN_STEPS, _MIN_DRAWS = 128, 512
_NUM_LAGS = 8
# Coordinates kept of an array: the first ones, and as many spread over it.
_NUM_KEPT = 4096
# Coordinates of an array that are compared with those of others.
_NUM_HEAD = 64


@dataclasses.dataclass(frozen=True)
class NoiseReport:
  """Result of a noise check that passed: functions of noise, not of data.

  Attributes:
    stddev: Claimed standard deviation, in the units of the incoming sum.
    measured_stddev: Standard deviation of all draws together.
    stddev_interval: Interval that the measured one must be in.
    num_steps: Number of updates that were run.
    num_draws: Number of coordinates of noise that were looked at.
  """

  stddev: float
  measured_stddev: float
  stddev_interval: tuple[float, float]
  num_steps: int
  num_draws: int


def check_noise(
    optimizer: optax.GradientTransformation,
    params: Any,
    *,
    stddev: float,
    num_steps: int | None = None,
    significance: float = 1e-9,
    same_noise: Sequence[optax.GradientTransformation] = (),
    on_grid: bool = False,
    strategy_coef: Sequence[float] = (1.0,),
    sums: Any = None,
) -> NoiseReport:
  """Checks the noise that a pipeline adds: scale, mean and independence.

  The update is traced, and the gradient followed to where noise meets it, so
  any optimiser may come after (see `noise_path.py`). Noise that is added to the
  sum times a factor counts as noise divided by that factor.

  Args:
    optimizer: Any optax transformation that adds noise, drawn by JAX or in a
      callback to the host.
    params: Pytree of floating-point arrays, as for `optimizer.init`.
    stddev: Claimed standard deviation: noise multiplier x L2 sensitivity.
    num_steps: Number of updates to run; None for 128, more where there are
      fewer than 4 parameters. With fewer, less is found.
    significance: Probability that sound noise fails, over all tests together.
    same_noise: Pipelines that are the same but for microbatch sizes or devices:
      they must draw the same noise, bit for bit.
    on_grid: Whether the sum is int32, in steps of a grid, and `stddev` too.
      Rounding to steps adds 1 / 12 to the variance: below ten steps, that is
      seen.
    strategy_coef: Coefficients of the Toeplitz strategy C of correlated noise
      C^-1 Z. Then Z, which is C times the noise, must be as described, with
      `stddev` its standard deviation.
    sums: Pytree of the shapes of what the pipeline is given in place of a
      gradient; None where that is like `params`. Noise must be on all of it.

  Returns:
    A `NoiseReport`.

  Raises:
    NoiseError: If any gradient gets past the noise, or the noise of an array, a
      step or all has another standard deviation (chi-square, two-sided), has a
      mean other than zero (normal, two-sided), or is correlated: two arrays' at
      up to 7 steps' distance, two steps', or neighbours' in an array.
    ValueError: If an argument breaks its rule.

  Guarantee: Passing proves that no gradient reaches the update or the state
    but through a sum with something drawn at random. Of the noise it is
    statistical evidence, from up to 8192 coordinates of an array; that it is
    Gaussian, or its key secret, is not tested. What is done to a sum before it
    reaches `optimizer`, as dividing it by a batch size, is `stddev`'s business.
  """
  arguments.check_optimizer("optimizer", optimizer)
  stddev = _validate.positive("stddev", stddev)
  significance = _validate.probability("significance", significance)
  sums = params if sums is None else sums
  num_params = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
  if num_params == 0:
    _validate.fail("params", "arrays with at least one entry", params)
  if num_steps is None:
    num_steps = max(_MIN_STEPS, math.ceil(_MIN_DRAWS / num_params))
  _validate.integer("num_steps", num_steps, at_least=2)
  coef = np.asarray(strategy_coef, np.float64)
  sample = _Sample(optimizer, params, sums, num_steps, stddev, on_grid, coef)
  for other in same_noise:
    other = _Sample(other, params, sums, num_steps, stddev, on_grid, coef)
    if not _same_bits(sample.noise, other.noise):
      raise NoiseError(
          "The noise depends on the layout: two pipelines that must draw the"
          " same noise do not."
      )
  tests = _Tests(sample, significance)
  interval = tests.check_scale()
  tests.check_mean()
  tests.check_arrays()
  tests.check_steps()
  tests.check_neighbours()
  return NoiseReport(
      stddev=stddev,
      measured_stddev=stddev * float(np.sqrt(np.mean(sample.steps**2))),
      stddev_interval=(stddev * interval[0], stddev * interval[1]),
      num_steps=num_steps,
      num_draws=sample.steps.size,
  )


class _Sample:
  """The noise of some steps.

  Attributes:
    names: Of the arrays of noise.
    sizes: Their numbers of entries.
    noise: Per array, kept coordinates of Z over the claimed stddev, where the
      noise is C^-1 Z: [steps, kept].
    steps: All arrays together: [steps, all kept].
  """

  def __init__(self, optimizer, params, sums, num_steps, stddev, on_grid, coef):
    self._optimizer, self._sums = optimizer, sums
    self._stddev, self._on_grid = stddev, on_grid
    flat = jax.tree_util.tree_leaves_with_path(sums)
    self._leaf_names = [jax.tree_util.keystr(p) or "params" for p, _ in flat]
    self._grads = self._probe()
    run, state = jax.jit(self._run), optimizer.init(params)
    rows = []
    for _ in range(num_steps):
      noise, state = run(self._grads, state, params)
      rows.append([np.asarray(x, np.float64) for x in noise])
    self.noise = [
        _convolved(np.stack(column), coef) for column in zip(*rows, strict=True)
    ]
    self.steps = np.concatenate(self.noise, axis=1)
    if not np.isfinite(self.steps).all():
      raise NoiseError("The noise must be finite.")

  def _probe(self):
    """A gradient of the noise's size, with which gains are measured."""
    leaves, treedef = jax.tree.flatten(self._sums)
    rng = np.random.default_rng(0)

    def probe(x):
      values = self._stddev * rng.uniform(0.5, 1.5, np.shape(x))
      if self._on_grid:
        return jnp.asarray(np.ceil(values), jnp.int32)
      dtype = precision.at_least_float32(jnp.asarray(x).dtype)
      return jnp.asarray(values, dtype)

    return treedef.unflatten([probe(x) for x in leaves])

  def _run(self, grads, state, params):
    """Returns kept noise over the claimed stddev, and the new state."""
    draws, state = noise_path.run(self._optimizer, grads, state, params)
    if not draws:
      raise NoiseError("No noise is added to the gradient.")
    self.names = [
        ", ".join(self._leaf_names[i] for i in draw.leaves) for draw in draws
    ]
    self.sizes = [draw.noise.size for draw in draws]
    gain = _norm([d.signal for d in draws]) / _norm(jax.tree.leaves(grads))
    scale = 1.0 / (gain * self._stddev)
    noise = [draw.noise.ravel()[_kept(draw.noise.size)] for draw in draws]
    if self._on_grid:
      noise = [x.astype(jnp.float32) for x in noise]
    return [x * scale.astype(x.dtype) for x in noise], state


class _Tests:
  """Tests of a sample's unit-variance noise, sharing one significance."""

  def __init__(self, sample, significance):
    self._names, self._noise = sample.names, sample.noise
    self._steps = sample.steps
    num_arrays, num_steps = len(self._noise), len(self._steps)
    # Bonferroni: scale and mean of each array, each step, and all; pairs of
    # arrays at each lag, pairs of steps, and neighbours in each array.
    num_tests = 2 * (num_arrays + num_steps + 1)
    num_tests += _NUM_LAGS * num_arrays**2 + num_steps**2 + num_arrays
    self._level = significance / num_tests

  def _groups(self):
    yield "all noise", self._steps
    for name, noise in zip(self._names, self._noise, strict=True):
      yield f"the noise of {name}", noise
    for step, noise in enumerate(self._steps):
      yield f"the noise of step {step}", noise

  def check_scale(self):
    """The sum of n draws' squares is chi-square, n degrees of freedom."""
    intervals = []
    for name, noise in self._groups():
      measured = np.sqrt(np.mean(noise**2))
      law = stats.chi2(noise.size)
      low = math.sqrt(law.ppf(self._level / 2) / noise.size)
      high = math.sqrt(law.isf(self._level / 2) / noise.size)
      if not low <= measured <= high:
        raise NoiseError(
            f"The standard deviation of {name} is {measured:.4g} times what is"
            f" claimed; {noise.size} sound draws have it in [{low:.4g},"
            f" {high:.4g}]."
        )
      intervals.append((low, high))
    return intervals[0]

  def check_mean(self):
    """The mean of n draws is N(0, 1 / n)."""
    for name, noise in self._groups():
      mean = float(np.mean(noise))
      limit = float(stats.norm.isf(self._level / 2)) / math.sqrt(noise.size)
      if not abs(mean) <= limit:
        raise NoiseError(
            f"The mean of {name} is {mean:.4g} times its claimed standard"
            f" deviation; of {noise.size} sound draws it is within {limit:.4g}."
        )

  def check_arrays(self):
    """Compares each array with each, at 0 to 7 steps' distance.

    Equal keys give equal first entries whatever the shapes, so the first ones
    are compared; shorter arrays are filled up with zeros.
    """
    sizes = [min(x.shape[1], _NUM_HEAD) for x in self._noise]
    heads = np.zeros((len(sizes), len(self._steps), max(sizes)))
    present = np.zeros_like(heads)
    for i, (noise, size) in enumerate(zip(self._noise, sizes, strict=True)):
      heads[i, :, :size], present[i, :, :size] = noise[:, :size], 1.0
    num_steps = len(self._steps)
    for lag in range(min(_NUM_LAGS, num_steps)):
      early, late = heads[:, : num_steps - lag], heads[:, lag:]
      shared = _gram(present[:, : num_steps - lag], present[:, lag:])
      squares = _gram(early**2, present[:, lag:])
      faulty = self._too_large(_gram(early, late), squares, shared)
      if lag == 0:
        faulty &= ~np.eye(len(sizes), dtype=bool)
      for i, j in np.argwhere(faulty):
        raise NoiseError(
            f"The noise of {self._names[i]} and of {self._names[j]}"
            f" {lag} steps later are correlated: a key was used twice."
        )

  def check_steps(self):
    """Compares each step with each."""
    products = self._steps @ self._steps.T
    squares = np.diag(products)[:, None] * np.ones_like(products)
    faulty = self._too_large(products, squares, self._steps.shape[1])
    for i, j in np.argwhere(faulty & ~np.eye(len(products), dtype=bool)):
      raise NoiseError(
          f"The noise of steps {i} and {j} is correlated: a key was used twice."
      )

  def check_neighbours(self):
    """Compares each entry with the next one."""
    for name, noise in zip(self._names, self._noise, strict=True):
      early, late = noise[:, :-1], noise[:, 1:]
      product, squares = np.sum(early * late), np.sum(early**2)
      if early.size and self._too_large(product, squares, early.size):
        raise NoiseError(
            f"Neighbouring entries of the noise of {name} are correlated."
        )

  def _too_large(self, products, squares, num_terms):
    """Whether sums of products x y of independent noise are improbable.

    With y ~ N(0, 1) given x and all before, E exp(l S - l^2 V / 2) <= 1 for
    S = sum of x y and V = sum of x^2. Mixed over l ~ N(0, 1 / n), Markov's
    inequality gives P(|S| >= sqrt((V + n) log((V + n) / (n a^2)))) <= a, for
    any n: no approximation, and it holds for a sequence's own lags too.

    Source: Robbins 1970, statistical methods related to the law of the
      iterated logarithm.
    """
    num_terms = np.maximum(num_terms, 1.0)
    total = squares + num_terms
    logarithm = np.log(total / num_terms) - 2 * math.log(self._level)
    return ~(np.abs(products) <= np.sqrt(total * logarithm))


def _convolved(noise, coef):
  """C times noise [steps, kept], with the coefficients of C."""
  found = coef[0] * noise
  for lag, factor in enumerate(coef[1 : len(noise)], 1):
    found[lag:] += factor * noise[:-lag]
  return found


def _kept(size):
  """Positions in a flat array: its first entries, and some of the others."""
  spread = np.linspace(0, size - 1, min(size, _NUM_KEPT)).astype(np.int64)
  return np.union1d(np.arange(min(size, _NUM_KEPT)), spread)


def _norm(arrays):
  squares = [jnp.sum(jnp.square(x.astype(jnp.float32))) for x in arrays]
  return jnp.sqrt(sum(squares))


def _gram(a, b):
  return a.reshape(len(a), -1) @ b.reshape(len(b), -1).T


def _same_bits(a, b):
  pairs = zip(a, b, strict=False)
  return len(a) == len(b) and all(np.array_equal(x, y) for x, y in pairs)
