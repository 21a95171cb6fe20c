import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jax_privacy
from jax_privacy import auditing
from tests.support import toy

_NORMS = [1e-6, 0.1, 1.0, 2.3, 1e6]


def _make(kind, params, num_canaries=5, l2_norm=1.0, seed=0):
  if kind == "dirac":
    return auditing.dirac_canaries(
        params, num_canaries=num_canaries, l2_norm=l2_norm, seed=seed
    )
  return auditing.random_direction_canaries(
      params, num_canaries=num_canaries, l2_norm=l2_norm, key=seed
  )


def _flat(tree):
  leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
  return np.concatenate(leaves)


def _zeros():
  return jax.tree.map(jnp.zeros_like, toy.params())


def _each(canaries):
  """Every canary alone, float64 [num_canaries, num_params]."""
  if isinstance(canaries, auditing.DiracCanaries):
    one = canaries.insert
    rows = np.eye(canaries.num_canaries, dtype=bool)
    return np.array([_flat(one(_zeros(), row)) for row in rows])
  found = jax.vmap(canaries.direction)(jnp.arange(canaries.num_canaries))
  rows = [np.reshape(x, (len(x), -1)) for x in jax.tree.leaves(found)]
  return np.concatenate(rows, axis=1).astype(np.float64)


@pytest.mark.few(4)
@pytest.mark.parametrize("kind", ["dirac", "random"])
@pytest.mark.parametrize("l2_norm", _NORMS)
def test_norm_is_the_clip_norm_and_never_above(kind, l2_norm):
  norms = np.linalg.norm(_each(_make(kind, toy.params(), 5, l2_norm)), axis=1)
  assert (norms <= l2_norm).all()
  assert (norms >= l2_norm * (1 - 1e-5)).all()


def test_a_large_random_direction_has_the_norm_too():
  # Rounding of a float32 sum of a million squares must stay below the margin.
  params = {"a": jnp.zeros((1000, 1000)), "b": jnp.zeros(7)}
  canaries = _make("random", params, 2, 0.3)
  for j in range(2):
    norm = np.linalg.norm(_flat(canaries.direction(j)))
    assert 0.3 * (1 - 1e-5) <= norm <= 0.3


@pytest.mark.parametrize(
    "kind, jitted", [("dirac", False), ("dirac", True), ("random", True)]
)
def test_insert_adds_the_selected_ones_and_nothing_else(kind, jitted):
  canaries = _make(kind, toy.params(), 5, 2.0)
  insert = jax.jit(canaries.insert) if jitted else canaries.insert
  selected = np.array([True, False, True, True, False])
  total = insert(toy.params(), selected)
  assert jax.tree.map(jnp.shape, total) == jax.tree.map(jnp.shape, toy.params())
  expected = _flat(toy.params()) + _each(canaries)[selected].sum(axis=0)
  # Four additions of numbers below 10: 4 x 10 x 2^-24 = 2e-6.
  np.testing.assert_allclose(_flat(total), expected, rtol=1e-5, atol=1e-5)
  nothing = insert(toy.params(), np.zeros(5, bool))
  np.testing.assert_array_equal(_flat(nothing), _flat(toy.params()))


@pytest.mark.parametrize("kind", ["dirac", "random"])
def test_project_is_the_dot_product_with_unit_canaries(kind):
  canaries = _make(kind, toy.params(), 5, 2.0)
  found = jax.jit(canaries.project)(toy.params())
  expected = _each(canaries) @ _flat(toy.params()) / 2.0
  assert found.shape == (5,) and found.dtype == jnp.float32
  # Some 50 products of order 1 at most: 50 x 2^-24 = 3e-6 of each.
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


def test_dirac_canaries_have_coordinates_of_their_own():
  size = len(_flat(toy.params()))
  for num_canaries in (1, size - 1, size):
    each = _each(_make("dirac", toy.params(), num_canaries))
    np.testing.assert_array_equal(each @ each.T, np.eye(num_canaries))


def test_dirac_coordinates_are_uniform():
  # Each of 18 coordinates is one of 6 chosen with probability 1/3, in 900
  # trials: Binomial(900, 1/3) each.
  size = len(_flat(toy.params()))
  params, counts = jnp.zeros(size), np.zeros(size)
  for seed in range(900):
    (where,) = _make("dirac", params, 6, seed=seed).positions
    counts[where] += 1
  low, high = stats.binom.interval(1 - 1e-7, 900, 6 / size)
  assert ((low <= counts) & (counts <= high)).all()


def test_random_directions_are_isotropic():
  # A coordinate of a unit vector in d dimensions has mean square 1/d and, by
  # symmetry, fourth moment 3 / (d (d + 2)); 5 standard deviations.
  each = _each(_make("random", toy.params(), 2000))
  d = each.shape[1]
  variance = (3 / (d * (d + 2)) - 1 / d**2) / 2000
  error = np.abs((each**2).mean(axis=0) - 1 / d)
  assert (error < 5 * variance**0.5).all()
  assert (np.abs(each.mean(axis=0)) < 5 / np.sqrt(2000 * d)).all()
  other = _each(_make("random", toy.params(), 1, seed=1))
  assert np.abs(each @ other.T).max() < 0.999  # Another key, other directions.


def test_scalar_and_empty_leaves():
  params = {"a": jnp.zeros(()), "b": jnp.zeros((0, 3)), "c": jnp.zeros(2)}
  canaries = _make("dirac", params, 3, 2.0)
  total = canaries.insert(params, np.ones(3, bool))
  assert total["a"].shape == () and total["b"].shape == (0, 3)
  np.testing.assert_array_equal(_flat(total), [2.0, 2.0, 2.0])
  np.testing.assert_array_equal(canaries.project(total), [2.0, 2.0, 2.0])


def test_a_linear_loss_goes_through_clipping():
  # The sum of clipped gradients of canary rows equals what `insert` adds, if
  # clipping works; canaries' rows are clipped from far above.
  params = toy.params()
  canaries = _make("dirac", params, 4, 0.5)

  def loss(params, batch):
    plain = toy.loss(params, {"x": batch["x"], "y": batch["y"]})
    canary = canaries.linear_loss(params, batch["c"], gradient_norm=1e3)
    return jnp.where(batch["c"] >= 0, canary, plain)

  for method in ("vmap", "auto"):
    grad_fn = jax.jit(
        jax_privacy.clipped_grad(
            loss, l2_clip_norm=0.5, keep_batch_dim=False, method=method
        )
    )
    batch = toy.batch(5) | {"c": jnp.array([-1, 2, -1, -1, 0])}
    is_real = batch["c"] < 0
    none = jnp.zeros(5, bool)
    found = grad_fn(params, batch, is_padding_example=none)
    real = grad_fn(params, batch, is_padding_example=~is_real)
    expected = canaries.insert(real, np.array([True, False, True, False]))
    # Gradients clipped to 0.5, each right to 1e-5 of itself, as in the zoo.
    np.testing.assert_allclose(_flat(found), _flat(expected), atol=1e-5)


@pytest.mark.parametrize("kind", ["dirac", "random"])
def test_selection_and_sum_are_checked(kind):
  canaries = _make(kind, toy.params(), 5)
  for selected in (np.ones(4, bool), np.ones(5), np.ones((5, 1), bool)):
    with pytest.raises(ValueError, match=r"selected must be bool of shape \(5"):
      canaries.insert(_zeros(), selected)
  short = jax.tree.map(lambda x: x.astype(jnp.bfloat16), _zeros())
  with pytest.raises(TypeError, match="float32 or float64, got bfloat16"):
    canaries.insert(short, np.ones(5, bool))
  with pytest.raises(ValueError, match="tree must be of"):
    canaries.project({"w": jnp.zeros(2)})
  smaller = jax.tree.map(lambda x: x[:1], _zeros())
  with pytest.raises(ValueError, match="tree must be of the parameters' shap"):
    canaries.project(smaller)


@pytest.mark.parametrize("kind", ["dirac", "random"])
@pytest.mark.parametrize(
    "change, error",
    [
        (dict(l2_norm=0.0), "l2_norm must be a positive finite number"),
        (
            dict(l2_norm=np.nan),
            "l2_norm must be a positive finite number",
        ),
        (dict(num_canaries=0), "num_canaries must be an integer of at least 1"),
        (dict(num_canaries=2.0), "num_canaries must be an integer"),
        (dict(seed=None), "must be"),
    ],
)
def test_arguments_are_checked(kind, change, error):
  with pytest.raises(ValueError, match=error):
    _make(kind, toy.params(), **change)


def test_too_many_dirac_canaries_and_no_parameters():
  with pytest.raises(ValueError, match="at most the number of parameters, 18"):
    _make("dirac", toy.params(), 19)
  for kind in ("dirac", "random"):
    with pytest.raises(ValueError, match="must be"):
      _make(kind, {"a": jnp.zeros((0, 2))}, 1)
