"""A user's program, for type checkers: it calls most of the public API.

`tests/test_types.py` checks that pyrefly finds nothing in it with its default
settings, that no public name is missing, and, as a slow test, that it runs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import accounting
import jax_privacy
from accounting import budget, claims
from jax_privacy import (
    agc,
    averaging,
    batch_schedule,
    batch_selection,
    checkpoint,
    clipping_functions,
    data,
    dp_sgd,
    losses,
    matrix_factorization,
    mixing,
    models,
    noise_addition,
    padded_batch,
    post_processing,
    privacy_unit,
    root_key,
    secure_noise,
    secure_random,
    sharding,
    testing,
    views,
)


def loss_fn(params: dict[str, jax.Array], batch: dict[str, jax.Array]):
  return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)


def keyed_loss_fn(
    params: dict[str, jax.Array], batch: dict[str, jax.Array], key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  noise = jax.random.normal(key, jnp.shape(batch["y"]))
  return jnp.mean(batch["x"] @ params["w"] * noise), noise


def mechanisms() -> list[accounting.Mechanism]:
  run = accounting.Mechanism(
      noise_multiplier=1.0,
      num_steps=accounting.steps_for_epochs(num_epochs=2, sampling_prob=0.1),
      sampling_prob=0.1,
      num_examples=1000,
      batch_size_schedule=[(0, 0.5), (10, 1.0)],
  )
  truncated = accounting.Mechanism.for_batch_size(
      expected_batch_size=100,
      num_examples=1000,
      noise_multiplier=1,
      num_steps=20,
      sampling="truncated_poisson",
      max_batch_size=200,
  )
  read = accounting.Mechanism.from_dict(run.to_dict())
  size: float = run.expected_batch_size
  epochs: float = run.expected_epochs
  assert size and epochs and run.num_examples and read.sampling_prob_at(3)
  return [run, truncated, run.with_num_steps(30), run.unsampled()]


def questions(run: accounting.Mechanism) -> None:
  value: float = accounting.epsilon(run, delta=1e-5, accountant="rdp")
  chance: float = accounting.delta(run, epsilon=value)
  curve = accounting.epsilon_curve(run, delta=1e-5, steps=[5, 10])
  assert len(curve) == 2 and chance < 1
  for found in (
      accounting.calibrate_noise(run, epsilon=3.0, delta=1e-5),
      accounting.calibrate_num_steps(run, epsilon=3.0, delta=1e-5),
      accounting.calibrate_batch_size(run, epsilon=3.0, delta=1e-5),
  ):
    assert found.num_steps > 0 and found.noise_multiplier > 0
  cost: accounting.TuningCost = accounting.tuning_cost(
      run, delta=1e-5, num_trials_mean=10, distribution="poisson"
  )
  print(cost, accounting.user_epsilon(run, examples_per_user=2, delta=1e-5))
  print(accounting.user_epsilons(run, examples_per_user=[2, 4], delta=1e-5))
  profile: accounting.PrivacyProfile = accounting.privacy_profile(run)
  print(profile.gdp_mu, profile.epsilons.shape, profile.tpr_at_fpr)
  statement: accounting.Statement = accounting.make_statement(
      run, delta=1e-5, batches="poisson", unit="patient"
  )
  print(statement, claims.at_most(value))
  arguments = ["epsilon", "--noise-multiplier=1", "--sampling-prob=0.1"]
  assert budget.main([*arguments, "--num-steps=5", "--delta=1e-5"]) == 0


def by_chance(run: accounting.Mechanism) -> float:
  allocated = accounting.Mechanism(
      noise_multiplier=run.noise_multiplier,
      num_steps=20,
      sampling_prob=0.1,
      sampling="random_allocation",
      sampling_options={"num_selected": 2},
  )
  found: accounting.MonteCarloDelta = accounting.monte_carlo_delta(
      allocated, epsilon=1.0, num_samples=100
  )
  assert found.estimate <= found.upper
  return accounting.monte_carlo_epsilon(
      allocated, delta=1e-4, num_samples=100, confidence=1 - 1e-6, seed=0
  )


def compositions(run: accounting.Mechanism) -> accounting.Composition:
  releases = [
      accounting.Laplace(scale=2.0, sensitivity=1.0),
      accounting.DiscreteLaplace(scale=2.0, sensitivity=1),
      accounting.Gaussian(stddev=2.0, sensitivity=1.0),
      accounting.DiscreteGaussian(stddev=2.0, sensitivity=1),
      accounting.Exponential(epsilon=0.1),
      accounting.ApproximateDp(epsilon=0.1, delta=1e-7),
  ]
  total = run + 3 * run + releases[0] + sum([run, run])
  stated = accounting.Composition([run, (run, 2), *releases], unit="patient")
  read = accounting.Composition.from_dict(stated.to_dict())
  for each in (total, stated, read, 2 * stated):
    print(accounting.epsilon(each, delta=1e-5), each.num_examples)
  answer = accounting.RandomizedResponse(epsilon=0.1, num_answers=4)
  print(accounting.epsilon(2 * answer, delta=1e-5))
  concentrated = accounting.ZeroConcentratedDp(rho=0.1)
  print(accounting.epsilon(run + concentrated, delta=1e-5, accountant="rdp"))
  for mechanism, count in stated.releases:
    print(mechanism.neighboring_relation, count)
  return total


def composed(run: accounting.Mechanism, folder: str) -> accounting.Ledger:
  shards = accounting.Disjoint(by="shard", of={"a": run, "b": 2 * run})
  public = accounting.Public(what="tokens of public text")
  count = accounting.Gaussian(stddev=4.0, sensitivity=1.0)
  found = accounting.calibrate_release(
      count,
      free="stddev",
      epsilon=9.0,
      delta=1e-5,
      others=shards + public,
  )
  book = accounting.Ledger.create(
      f"{folder}-ledger.toml",
      unit="patient",
      num_examples=1000,
      epsilon=1.0,
      delta=1e-5,
      what="a year of visits",
  )
  try:
    book.append(found, what="a count", visible_to="all")
  except accounting.BudgetError as error:
    print(error, book.left)
  return book


def warned_of() -> tuple[type[accounting.AccountingWarning], ...]:
  return (
      accounting.LargeDeltaWarning,
      accounting.OrderGridWarning,
      accounting.TinyDeltaWarning,
      accounting.VacuousGuaranteeWarning,
      accounting.WideBoundWarning,
  )


def train(
    run: accounting.Mechanism, examples: dict[str, np.ndarray], folder: str
) -> None:
  params = {"w": jnp.zeros(5)}
  private = dp_sgd.make_private(
      loss_fn, optax.adam(0.1), run, l2_clip_norm=1.0, key=jax.random.key(0)
  )
  state = private.optimizer.init(params)
  average = averaging.ema(0.99)
  averaged = average.init(params)
  for batch in private.sampler:
    grads = private.grad_fn(
        params,
        batch.take(examples),
        is_padding_example=batch.is_padding_example,
    )
    updates, state = private.optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  print(averaged, private.grad_fn.sensitivity("replace_one"))
  batch = private.sampler.batch(0)
  print(private.grad_fn.explain(params, batch.take(examples)))
  testing.check_sensitivity(private.grad_fn, params, batch.take(examples))
  testing.check_private(
      private, params, batch.take(examples), mechanism=run, num_steps=2
  )
  with checkpoint.Checkpoints(folder) as kept:
    print(kept)


def every_option(run: accounting.Mechanism) -> list[dp_sgd.PrivateTraining]:
  mesh = sharding.make_mesh(data=1)
  root = root_key.RootKey.fresh()
  optimizer = optax.chain(agc.adaptive_grad_clip(clipping=0.01), optax.sgd(0.1))
  one = dp_sgd.make_private(
      keyed_loss_fn,
      optimizer,
      run,
      l2_clip_norm={"w": 1.0},
      key=root,
      microbatch_size=16,
      secure_random=True,
      mesh=mesh,
      check_loss=False,
      argnums=0,
      has_aux=True,
      rescale_to_unit_norm=True,
      batch_argnums=1,
      keep_batch_dim=True,
      return_values=True,
      return_grad_norms=True,
      pre_clipping_transform=None,
      dtype=jnp.float32,
      prng_argnum=2,
      spmd_axis_name=None,
      method="ghost",
      passes=1,
      grid_scale=None,
      keys_by_example=True,
      clipping=clipping_functions.Automatic(stability=0.1),
  )
  other = dp_sgd.make_private(
      privacy_unit.over_rows(loss_fn),
      optax.sgd(optax.cosine_decay_schedule(0.1, 100)),
      run,
      l2_clip_norm=1,
      key=7,
      noise=noise_addition.Gaussian(),
      dtype="float32",
      clipping="psac",
      method="vmap",
      pre_clipping_transform=lambda grads: grads,
  )
  third = dp_sgd.make_private(
      loss_fn,
      optax.adam(0.1),
      run,
      l2_clip_norm=1.0,
      key=0,
      noise="secure_gaussian",
  )
  fourth = dp_sgd.make_private(
      loss_fn,
      optax.adam(0.1),
      accountant=accounting.calibrated,
      epsilon=3,
      delta=1e-5,
      num_examples=1000,
      batch_size=100,
      num_epochs=2.5,
      num_steps=None,
      l2_clip_norm=1.0,
      key=0,
  )
  spent: float = fourth.epsilon(10) + fourth.epsilon(delta=1e-6)
  plan: dp_sgd.Plan | None = fourth.plan
  print(spent, plan, fourth.mechanism, fourth.with_plan(None))
  return [one, other, third, fourth]


def by_hand(params: dict[str, jax.Array], batch: dict[str, jax.Array]) -> None:
  grad_fn = jax_privacy.clipped_grad(
      loss_fn, l2_clip_norm=1.0, return_grad_norms=True, normalize_by=100.0
  )
  grads, aux = grad_fn(params, batch)
  print(aux.grad_norms, grad_fn.sensitivity(), grad_fn.explain(params, batch))
  moments = jax_privacy.clipped_fun(
      lambda rows: rows, batch_argnums=0, l2_clip_norm=1.0, return_norms=True
  )
  print(moments(batch["x"]), moments.sensitivity())
  clipped, norm = jax_privacy.clip_pytree(grads, clip_norm=1.0)
  noise = noise_addition.gaussian_privatizer(
      stddev=2.0, prng_key=jax.random.key(0), num_steps=10
  )
  updates, _ = noise.update(clipped, noise.init(params))
  print(norm, updates)
  per_example = dp_sgd.aggregate(
      l2_clip_norm=1.0,
      noise_multiplier=1.0,
      expected_batch_size=100,
      key=0,
      num_steps=10,
  )
  print(dp_sgd.AggregateState, optax.chain(per_example, optax.sgd(0.1)))
  secure = secure_noise.secure_gaussian_privatizer(
      stddev=2.0, key=secure_random.SecureKey.fresh()
  )
  post_processing.check(optax.adam(0.1), params)
  print(secure, mixing, batch_schedule.factor_at(((0, 1.0),), 3))
  strategy = batch_selection.CyclicPoissonSampling(
      sampling_prob=0.1, iterations=10
  )
  rested = batch_selection.BMinSepSampling(0.1, iterations=10, min_sep=3)
  persons = batch_selection.UserSelectionStrategy(strategy, 2)
  several = batch_selection.RandomAllocationSampling(
      total_participations=2, iterations=10
  )
  print(rested.bind(1000, np.random.SeedSequence(0)), several)
  for rows in persons.batch_iterator(["al", "bo"], np.random.default_rng(0)):
    print(batch_selection.split_and_pad_global_batch(rows, 4))
  for indices in strategy.batch_iterator(1000, rng=0):
    padded = padded_batch.PaddedBatch(np.asarray(indices))
    print(padded.is_padding_example)


def correlated_noise() -> None:
  toeplitz = matrix_factorization.toeplitz
  strategy = toeplitz.optimal_max_error_strategy_coefs(8)
  squared = toeplitz.minsep_sensitivity_squared(strategy, 4, n=16)
  error = toeplitz.mean_error(strategy_coef=strategy, n=16)
  matrix: matrix_factorization.StreamingMatrix = (
      toeplitz.inverse_as_streaming_matrix(strategy)
  )
  noise = noise_addition.matrix_factorization_privatizer(
      matrix, stddev=2.0, prng_key=jax.random.key(0), num_steps=16
  )
  print(squared * error, noise.init(jnp.zeros(3)))


def views_of_images(key: jax.Array) -> None:
  keys = views.example_keys(key, step=0, indices=jnp.arange(3))
  again = jax_privacy.example_keys(key, step=0, indices=jnp.arange(3))
  view_loss_fn = jax_privacy.augmult(
      lambda params, images: images @ params,
      views.mean_over_views(losses.over_views("softmax")),
      augment_fn=lambda key, image: image,
      num_views=2,
  )
  source = data.load("digits", split="train")
  print(keys, again, view_loss_fn, source[np.arange(2)]["image"].shape)
  print(data.names(), models.names(), models.denoiser_names())
  examples = {"x": jnp.ones((8, 5)), "y": jnp.arange(8.0)}
  testing.check_loss(loss_fn, {"w": jnp.zeros(5)}, examples)


def main(folder: str) -> None:
  run, *_ = mechanisms()
  questions(run)
  by_chance(run)
  compositions(run)
  composed(run, folder)
  warned_of()
  rng = np.random.default_rng(0)
  examples = {"x": rng.normal(size=(1000, 5)), "y": rng.normal(size=1000)}
  examples = {name: x.astype(np.float32) for name, x in examples.items()}
  train(run, examples, folder)
  every_option(run)
  by_hand(
      {"w": jnp.zeros(5)},
      {name: jnp.asarray(x[:4]) for name, x in examples.items()},
  )
  correlated_noise()
  views_of_images(jax.random.key(0))
