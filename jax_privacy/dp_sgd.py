"""Adds privacy to an existing optax loop: sampler, gradient and optimiser.

`make_private` derives the three from one mechanism, so the run is the one that
the accountant assumes. The sampler draws the batches that the mechanism
describes. Gradients are clipped, summed and divided by the expected batch size.
Noise is added once per update, scaled to that sum. This file imports no
accountant: any object with the mechanism's fields works.

Example:
  >>> import types
  >>> import jax, jax.numpy as jnp, optax
  >>> from jax_privacy import dp_sgd
  >>> mechanism = types.SimpleNamespace(  # or accounting.Mechanism(...)
  ...     noise_multiplier=1.0, num_steps=20, sampling="poisson",
  ...     sampling_prob=0.5, num_examples=64, max_batch_size=None)
  >>> x = jax.random.normal(jax.random.key(0), (64, 2))
  >>> y = x @ jnp.array([1.0, -2.0])
  >>> loss_fn = lambda w, batch: jnp.mean((batch["x"] @ w - batch["y"]) ** 2)
  >>> private = dp_sgd.make_private(
  ...     loss_fn, optax.sgd(0.1), mechanism, l2_clip_norm=4.0,
  ...     key=jax.random.key(1))
  >>> w = jnp.zeros(2)
  >>> state = private.optimizer.init(w)
  >>> for batch in private.sampler:
  ...   examples = batch.take({"x": x, "y": y})
  ...   grads = private.grad_fn(
  ...       w, examples, is_padding_example=batch.is_padding_example)
  ...   updates, state = private.optimizer.update(grads, state, w)
  ...   w = optax.apply_updates(w, updates)
  >>> print(jnp.round(w))
  [ 1. -2.]
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Unpack, cast

import chex
import jax
import optax

from jax_privacy import (
    _validate,
    arguments,
    batch_schedule,
    batch_selection,
    clipping_functions,
    grid,
    mixing,
    noises,
    post_processing,
    quantile_clipping,
    root_key,
    samplers,
)
from jax_privacy import clipping as clipping_lib
from jax_privacy import secure_random as secure_random_lib
from jax_privacy.aggregation import AggregateState as AggregateState
from jax_privacy.aggregation import aggregate as aggregate
from jax_privacy.contracts import ClippedGradOptions as ClippedGradOptions
from jax_privacy.contracts import GradFn as GradFn
from jax_privacy.contracts import MechanismLike as MechanismLike
from jax_privacy.contracts import Noise as Noise
from jax_privacy.private_training import Plan as Plan
from jax_privacy.private_training import PrivateTraining as PrivateTraining

_FIELDS = {
    "noise_multiplier": "standard deviation of the noise over the clip norm",
    "num_steps": "number of updates",
    "sampling": 'such as "poisson"',
    "sampling_prob": "probability that an example is in a batch",
    "num_examples": "stated size of the data set",
    "max_batch_size": "where Poisson batches are truncated, or None",
}


def make_private(
    loss_fn: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    mechanism: MechanismLike | None = None,
    *,
    l2_clip_norm: Any,
    key: root_key.RootKey | chex.PRNGKey | int,
    accountant: Callable[..., MechanismLike] | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    num_examples: int | None = None,
    batch_size: float | None = None,
    num_epochs: float | None = None,
    num_steps: int | None = None,
    microbatch_size: int | None = None,
    secure_random: bool = False,
    noise: str | Noise | None = None,
    mesh: jax.sharding.Mesh | None = None,
    check_loss: bool = True,
    clipping: (
        str
        | clipping_functions.ClippingFunction
        | quantile_clipping.QuantileClipping
    ) = "standard",
    **clipped_grad_options: Unpack[ClippedGradOptions],
) -> PrivateTraining:
  """Returns the sampler, gradient function and optimiser of DP-SGD.

  Args:
    loss_fn: `loss_fn(params, batch)`; see `clipped_grad` for other signatures.
    optimizer: Optax optimiser; it sees noised gradients only. With
      `optax.MultiSteps` inside, noise is still added at every call. One that
      adds noise or clips examples by itself, or needs the loss, is refused; see
      `post_processing.check`.
    mechanism: Description of what the run releases; see `MechanismLike`. None,
      and the accountant makes one.
    l2_clip_norm: Largest L2 norm that an example may keep; see `clipped_grad`.
    key: Private randomness of the run: batches and noise are derived from it.
      `RootKey.fresh()` for a release; a JAX key has 64 bits of entropy, and an
      int in [0, 2^128) is a fixed seed, for research. Keep it secret, and use
      it for nothing else.
    accountant: Function that makes the mechanism from the arguments below that
      are given, such as `accounting.calibrated`.
    epsilon: Target epsilon, for the accountant.
    delta: Delta of the guarantee, for the accountant and
      `PrivateTraining.epsilon`.
    num_examples: Stated number of examples, for the accountant.
    batch_size: Expected batch size, for the accountant.
    num_epochs: Expected number of times that an example is seen, for the
      accountant.
    num_steps: Number of updates, in place of `num_epochs`.
    microbatch_size: Number of examples processed at a time; see `clipped_grad`.
      Batches are then padded to one size, whose unused end is skipped; else to
      one of three.
    secure_random: Whether a cipher, ChaCha20, keyed by all 128 bits of a
      `RootKey`, draws noise and batches, and not JAX's and NumPy's generators,
      which are not made to withstand an adversary. Slower; see
      docs/performance.md. Needs the extra `secure`.
    noise: Noise that is added to sums: a name of `noises.py`, an object as
      `Noise` says, or None for the mechanism's: Gaussian noise, of a cipher
      with `secure_random`, correlated where its `noise` says so. The guarantee
      takes an object of your own at its word.
    mesh: Devices over which batches are split; see `clipped_grad` and
      `sharding.py`. Padded sizes are then multiples of their number, and
      padding is spread evenly over them.
    check_loss: Whether `grad_fn`, when it is first called, refuses a loss that
      is seen to mix examples (batch norm, in-batch negatives, centring), which
      would train on nothing: it runs the loss, forward and backward, on 6 rows;
      see `mixing.py` and `testing.check_loss`.
    clipping: Name or object: what a gradient is multiplied by, as a function of
      its norm; see `clipped_grad`. "quantile", or a `QuantileClipping`, moves
      the clip norm, of which `l2_clip_norm` is then the first; `grad_fn` must
      be called with `**private.step_options(state)`.
    **clipped_grad_options: Other options of `clipped_grad`, except `nan_safe`
      and `normalize_by`, which is the expected batch size before any factor of
      a schedule (after the noise, the update is divided by the factor). A
      `prng_argnum` means one key per row (`keys_by_example`). With a
      `grid_scale`, noise is rounded to the grid too; it needs `secure_random`,
      since other draws are too coarse for a grid.

  Returns:
    A `PrivateTraining`.

  Raises:
    ValueError: If an argument, or a field of the mechanism, breaks its rule.
      From `optimizer.update`, after `num_steps` updates; where it is traced and
      cannot raise, updates are made of NaN and no gradient from then on. From
      `grad_fn`, if the loss is seen to mix examples.
    ImportError: If `secure_random` and `cryptography` is not installed.

  Guarantee: Run for steps 0 ... num_steps - 1, once each, the iterates satisfy
    what an accountant says of the mechanism, whichever generator is used: but
    against those who cannot break it. Sampler and optimiser have no further
    steps. Call `optimizer.init` once in a run: a second state would repeat the
    first one's noise, and the difference of two sums with the same noise has
    none.

  Source: Abadi et al. 2016 (arXiv 1607.00133), algorithm 1, with the sum
    divided by the expected batch size.
  """
  arguments.check_function("loss_fn", loss_fn)
  arguments.check_optimizer("optimizer", optimizer)
  mechanism = _mechanism(
      mechanism,
      accountant,
      epsilon=epsilon,
      delta=delta,
      num_examples=num_examples,
      batch_size=batch_size,
      num_epochs=num_epochs,
      num_steps=num_steps,
  )
  for name in ("normalize_by", "nan_safe"):
    if name in clipped_grad_options:
      given = clipped_grad_options[name]
      _validate.fail(name, "left to make_private, which sets it", given)
  noise_multiplier = _validate.positive(
      "noise_multiplier", mechanism.noise_multiplier
  )
  schedule = samplers.schedule_of(mechanism)
  optimizer = post_processing.checked(optimizer)
  root = root_key.RootKey.of(key)
  noise = noises.chosen(noise, secure_random=secure_random, mechanism=mechanism)
  sampler = make_sampler(
      mechanism,
      key=root,
      microbatch_size=microbatch_size,
      secure_random=noise.is_secure,
      num_devices=1 if mesh is None else mesh.size,
  )
  num_examples = _validate.integer(
      "num_examples", mechanism.num_examples, at_least=1
  )
  expected_batch_size = num_examples * mechanism.sampling_prob
  quantile, shares = _quantile(
      clipping,
      noise_multiplier=noise_multiplier,
      expected_batch_size=expected_batch_size,
  )
  options: dict[str, Any] = dict(
      microbatch_size=microbatch_size,
      mesh=mesh,
      normalize_by=expected_batch_size,
      **_with_keys_by_example(clipped_grad_options),
  )
  if quantile is None:
    grad_fn = clipping_lib.clipped_grad(
        loss_fn,
        l2_clip_norm=l2_clip_norm,
        clipping=cast(Any, clipping),
        **options,
    )
    rescale = False
  else:
    rescale = options.pop("rescale_to_unit_norm", False)
    l2_clip_norm = _validate.clip_norm("l2_clip_norm", l2_clip_norm)
    grad_fn = quantile_clipping.grad_fn(loss_fn, shares, **options)
  if check_loss:
    grad_fn = mixing.checked(grad_fn, loss_fn, clipped_grad_options)
  grad_fn = dataclasses.replace(grad_fn, fun=_with_mask(grad_fn.fun))
  # A noise multiplier is relative to one example's share of the sum, whatever
  # the neighbouring relation; the accountant knows that a replaced example
  # moves the sum by two shares.
  stddev = noise_multiplier * grad_fn.sensitivity("add_or_remove_one")
  if grad_fn.grid_step is not None:
    grid.check_range(int(grad_fn.l2_norm_bound), max(sampler.sizes))
  privatizer = noise.privatizer(
      mechanism, stddev=stddev, root=root, grid_step=grad_fn.grid_step
  )
  if schedule:
    # Behind the noise: before it, a factor would change its scale.
    rescaled = batch_schedule.rescale(schedule)
    if quantile is None:
      optimizer = optax.chain(rescaled, optimizer)
    else:  # The count is of as large a batch.
      privatizer = optax.chain(privatizer, rescaled)
  if quantile is None:
    optimizer = optax.chain(privatizer, optimizer)
  else:
    optimizer = quantile_clipping.following(
        quantile,
        shares,
        released=privatizer,
        optimizer=optimizer,
        first_clip_norm=l2_clip_norm,
        rescale_to_unit_norm=rescale,
    )
  step = 1.0 if grad_fn.grid_step is None else grad_fn.grid_step
  plan = Plan(mechanism, l2_clip_norm, stddev * step, delta, shares)
  return PrivateTraining(sampler, grad_fn, optimizer).with_plan(plan)


def make_sampler(
    mechanism: MechanismLike,
    *,
    key: root_key.RootKey | chex.PRNGKey | int,
    microbatch_size: int | None = None,
    secure_random: bool = False,
    num_devices: int = 1,
) -> batch_selection.PaddedBatches:
  """Returns the padded batches that the mechanism's accounting assumes.

  Args:
    mechanism: Description of what the run releases; see `MechanismLike`.
    key: Private randomness of the run; the same key gives `make_private` the
      same sampler.
    microbatch_size: Number of examples processed at a time.
    secure_random: Whether a cipher draws batches.
    num_devices: Number of devices over which batches are split.

  Raises:
    ValueError: If an argument, or a field of the mechanism, breaks its rule.
    ImportError: If `secure_random` and `cryptography` is not installed.
  """
  fields = {k: v for k, v in _FIELDS.items() if k != "noise_multiplier"}
  arguments.check_mechanism(mechanism, fields)
  num_examples = _validate.integer(
      "num_examples", mechanism.num_examples, at_least=1
  )
  _validate.integer("num_steps", mechanism.num_steps, at_least=1)
  _validate.probability("sampling_prob", mechanism.sampling_prob)
  strategy = samplers.of(mechanism).strategy(mechanism)
  sizes = samplers.padded_sizes(
      mechanism,
      multiple=math.lcm(microbatch_size or 1, num_devices),
      is_single=microbatch_size is not None,
  )
  root = root_key.RootKey.of(key)
  if secure_random:
    rng = secure_random_lib.SecureKey.derived(root, "secure sampler")
  else:
    rng = root.seed("sampler")
  batches = strategy.bind(num_examples, rng)
  return batch_selection.PaddedBatches(batches, sizes, num_devices)


def _mechanism(
    given: MechanismLike | None,
    accountant: Callable[..., MechanismLike] | None,
    **budget: Any,
) -> MechanismLike:
  """Returns the mechanism that is given, or that the accountant makes."""
  budget = {name: value for name, value in budget.items() if value is not None}
  if given is not None and accountant is not None:
    _validate.fail("accountant", "None where a mechanism is given", accountant)
  if given is not None:
    extra = [name for name in budget if name != "delta"]
    if extra:
      rule = "left out where a mechanism is given (it has its own)"
      _validate.fail(extra[0], rule, budget[extra[0]])
  elif accountant is not None:
    arguments.check_function("accountant", accountant)
    given = accountant(**budget)
  arguments.check_mechanism(given, _FIELDS)
  return cast(MechanismLike, given)


def _with_keys_by_example(
    options: ClippedGradOptions,
) -> ClippedGradOptions:
  """Says that keys are by example; one by position has no bound."""
  if options.get("prng_argnum") is None:
    return options
  if options.get("keys_by_example", True) is not True:
    rule = "True (removing an example would change the keys of others)"
    _validate.fail("keys_by_example", rule, options["keys_by_example"])
  return {**options, "keys_by_example": True}


def _quantile(clipping: Any, **run: float) -> tuple[Any, Any]:
  """Returns how the clip norm adapts, and its shares; None if it does not."""
  if clipping == "quantile":
    clipping = quantile_clipping.QuantileClipping()
  if not isinstance(clipping, quantile_clipping.QuantileClipping):
    return None, None
  return clipping, clipping.shares(**run)


def _with_mask(fun):
  """Returns `fun`, which refuses a call that says nothing of padding."""

  @functools.wraps(fun)
  def masked(*args, is_padding_example=None, **options):
    if is_padding_example is None:
      rule = (
          "batch.is_padding_example of the sampler's batch (all False for"
          " examples of your own): an unmarked row of padding counts as an"
          " example, and breaks the guarantee"
      )
      _validate.fail("is_padding_example", rule, None)
    return fun(*args, is_padding_example=is_padding_example, **options)

  return masked
