"""Losses over an example's views: closed forms, safety, and sensitivity."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_privacy
from jax_privacy import losses, testing
from jax_privacy import views as views_lib
from tests.support import oracle

_LOGITS = 3 * jax.random.normal(jax.random.key(0), (5, 4))
_SEVERAL = jnp.array([1, 0, -1, 1])
# Between the norms of `_problem`'s gradients.
_CLIP_NORMS = {"softmax": 3.0, "sigmoid": 1.5}
_CASES = {"softmax": jnp.int32(2), "sigmoid": _SEVERAL}


def _log_softmax64(logits):
  logits = np.asarray(logits, np.float64)
  logits = logits - logits.max(axis=-1, keepdims=True)
  return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _mean_kl64(log_probs):
  """Mean KL over ordered pairs of different views [K, ..., outcomes]."""
  num_views = len(log_probs)
  total = 0.0
  for j in range(num_views):
    for k in range(num_views):
      kl = np.exp(log_probs[j]) * (log_probs[j] - log_probs[k])
      total = total + kl.sum(axis=-1)
  return total / (num_views * (num_views - 1))


def _bernoulli64(logits):
  """[..., labels] to [..., labels, 2]: log of present and absent."""
  logits = np.asarray(logits, np.float64)[..., None]
  signs = np.array([1.0, -1.0])
  return -np.logaddexp(0.0, -logits * signs)


def test_softmax_is_the_mean_over_views_of_minus_log_likelihood():
  got = losses.over_views("softmax")(_LOGITS, jnp.int32(2))
  want = -_log_softmax64(_LOGITS)[:, 2].mean()
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_label_smoothing_spreads_weight_over_all_classes():
  loss_fn = losses.over_views("softmax", label_smoothing=0.2)
  log_probs = _log_softmax64(_LOGITS)
  # 0.8 + 0.2 / 4 on the label, 0.2 / 4 on each of the others.
  weights = np.full(4, 0.05)
  weights[2] += 0.8
  want = -(log_probs * weights).sum(axis=-1).mean()
  np.testing.assert_allclose(loss_fn(_LOGITS, jnp.int32(2)), want, rtol=1e-6)


def test_sigmoid_is_the_mean_over_views_and_labels_that_count():
  got = losses.over_views("sigmoid")(_LOGITS, _SEVERAL)
  log_probs = _bernoulli64(_LOGITS)
  each = -np.stack(
      [log_probs[:, 0, 0], log_probs[:, 1, 1], log_probs[:, 3, 0]], axis=-1
  )
  np.testing.assert_allclose(got, each.mean(), rtol=1e-6)


def test_a_label_that_does_not_count_has_no_gradient():
  loss_fn = losses.over_views("sigmoid", invariance_weight=0.7)
  grad = np.asarray(jax.jit(jax.grad(loss_fn))(_LOGITS, _SEVERAL))
  assert not grad[:, 2].any()
  assert grad[:, [0, 1, 3]].all()


def test_an_example_of_which_no_label_counts_has_no_loss():
  loss_fn = losses.over_views("sigmoid", invariance_weight=0.7)
  both_fn = jax.jit(jax.value_and_grad(loss_fn))
  loss, grad = both_fn(_LOGITS, jnp.full(4, -1))
  assert loss == 0.0
  assert not np.asarray(grad).any()


@pytest.mark.parametrize("num_views", [2, 3, 5])
def test_divergence_is_the_mean_kl_over_ordered_pairs(num_views):
  logits = _LOGITS[:num_views]
  got = jax.jit(losses.softmax_divergence)(logits)
  np.testing.assert_allclose(got, _mean_kl64(_log_softmax64(logits)), rtol=1e-5)
  got = jax.jit(losses.sigmoid_divergence)(logits, _SEVERAL)
  want = _mean_kl64(_bernoulli64(logits))[[0, 1, 3]].mean()
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_divergence_of_two_views_in_closed_form():
  # p = (3/4, 1/4) and q = (1/4, 3/4): both divergences are log(3) / 2.
  logits = jnp.log(jnp.array([[3.0, 1.0], [1.0, 3.0]]))
  want = np.log(3.0) / 2
  np.testing.assert_allclose(losses.softmax_divergence(logits), want, rtol=1e-6)
  # The same two as one Bernoulli label.
  logits = jnp.log(jnp.array([[3.0], [1 / 3.0]]))
  got = losses.sigmoid_divergence(logits, jnp.array([0]))
  np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("name", _CASES)
def test_the_divergence_is_added_with_its_weight(name):
  label = _CASES[name]
  plain, some, more = (
      losses.over_views(name, invariance_weight=weight)(_LOGITS, label)
      for weight in (0.0, 0.5, 2.0)
  )
  assert some > plain
  np.testing.assert_allclose(more - plain, 4 * (some - plain), rtol=1e-4)


@pytest.mark.parametrize("name", _CASES)
@pytest.mark.parametrize("num_views", [2, 7])
def test_views_that_agree_diverge_by_nothing(name, num_views):
  logits = jnp.broadcast_to(_LOGITS[:1], (num_views, 4))
  label = _CASES[name]
  plain = losses.over_views(name)
  loss_fn = losses.over_views(name, invariance_weight=1.0)
  # A mean of equal numbers is off by an ulp (1e-7) or two, and its square is
  # what is left.
  extra = jax.jit(
      jax.value_and_grad(lambda x: loss_fn(x, label) - plain(x, label))
  )
  for value in extra(logits):
    np.testing.assert_allclose(value, 0.0, atol=1e-6)


@pytest.mark.parametrize("name", _CASES)
def test_the_order_of_views_does_not_matter(name):
  loss_fn = jax.jit(losses.over_views(name, invariance_weight=1.0))
  want = loss_fn(_LOGITS, _CASES[name])
  for order in ([4, 3, 2, 1, 0], [1, 0, 3, 4, 2]):
    got = loss_fn(_LOGITS[np.array(order)], _CASES[name])
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("name", _CASES)
def test_large_logits_give_finite_losses_and_gradients(name):
  """log(softmax(x)) would be -inf here, and 0 * inf is NaN."""
  loss_fn = losses.over_views(name, invariance_weight=1.0)
  logits = jnp.array([[1e4, -1e4, 0.0, 3e4], [-1e4, 1e4, 1e4, -3e4]])
  loss, grad = jax.jit(jax.value_and_grad(loss_fn))(logits, _CASES[name])
  assert np.isfinite(loss)
  assert loss > 1e3
  assert np.isfinite(grad).all()


@pytest.mark.parametrize("name", _CASES)
def test_bfloat16_logits_are_summed_in_float32(name):
  loss_fn = losses.over_views(name, invariance_weight=0.5)
  logits = _LOGITS.astype(jnp.bfloat16)
  got = loss_fn(logits, _CASES[name])
  assert got.dtype == jnp.float32
  want = loss_fn(logits.astype(jnp.float32), _CASES[name])
  assert got == want


def _augment(key, image):
  return image + jax.random.normal(key, image.shape)


def _forward(params, views):
  hidden = jnp.tanh(views @ params["w"] + params["b"][None])
  return hidden @ params["v"]


@functools.cache
def _problem(name):
  """A small network: (loss_fn, params, batch of images, labels, keys)."""
  keys = jax.random.split(jax.random.key(1), 4)
  params = {
      "w": jax.random.normal(keys[0], (3, 6)),
      "b": jnp.zeros(6),
      "v": jax.random.normal(keys[1], (6, 4)),
  }
  views_loss_fn = views_lib.augmult(
      _forward,
      losses.over_views(name, invariance_weight=2.0),
      augment_fn=_augment,
      num_views=3,
  )
  labels = {
      "softmax": jnp.array([0, 3, 1, 2, 3]),
      "sigmoid": jax.random.randint(keys[2], (5, 4), -1, 2).at[1].set(-1),
  }[name]
  batch = (
      jax.random.normal(keys[3], (5, 3)),
      labels,
      views_lib.example_keys(keys[2], step=0, indices=jnp.arange(5)),
  )
  return jax.jit(lambda *args: views_loss_fn(*args)[0]), params, batch


def _clipped(name, method):
  return jax_privacy.clipped_grad(
      _problem(name)[0],
      l2_clip_norm=_CLIP_NORMS[name],
      batch_argnums=(1, 2, 3),
      keep_batch_dim=False,
      method=method,
  )


@pytest.mark.few(1)
@pytest.mark.parametrize("name", _CASES)
def test_clipping_this_loss_is_the_oracles_sum(name):
  """One clip of the whole loss, the views' divergence included."""
  loss_fn, params, batch = _problem(name)
  want, norms = oracle.clipped_sum(
      lambda p, row: loss_fn(p, *row),
      params,
      batch,
      _CLIP_NORMS[name],
      keep_batch_dim=False,
  )
  assert (
      norms.max() > _CLIP_NORMS[name] > norms.min()
  )  # Some are clipped, not all.
  for method in ("vmap", "ghost"):
    got = jax.jit(_clipped(name, method))(params, *batch)
    np.testing.assert_allclose(oracle.flat64(got), want, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", _CASES)
def test_the_divergence_costs_no_sensitivity(name):
  _, params, batch = _problem(name)
  grad_fn = _clipped(name, "ghost")
  assert grad_fn.sensitivity("add_or_remove_one") == _CLIP_NORMS[name]
  report = testing.check_sensitivity(grad_fn, params, *batch, max_examples=3)
  moved = report.movements["add_or_remove_one"] / _CLIP_NORMS[name]
  assert 0.9 < moved <= 1 + 1e-5


def test_an_own_loss_sees_logits_in_float32_and_gives_a_scalar():
  def own(logits, label):
    assert logits.dtype == jnp.float32
    return logits[0, label]

  logits = _LOGITS.astype(jnp.bfloat16)
  got = losses.over_views(own)(logits, jnp.int32(2))
  np.testing.assert_array_equal(got, logits[0, 2].astype(jnp.float32))
  with pytest.raises(AssertionError, match="shape"):
    losses.over_views(lambda logits, label: logits)(logits, jnp.int32(2))


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("hinge", {}, "name must be one of softmax, sigmoid, got 'hinge'"),
        (
            "softmax",
            {"label_smoothing": 1.0},
            r"label_smoothing must be in \[0",
        ),
        ("softmax", {"label_smoothing": -0.1}, "label_smoothing must be a fin"),
        ("sigmoid", {"label_smoothing": 0.1}, "must be 0 for 'sigmoid'"),
        ("softmax", {"invariance_weight": -1}, "invariance_weight must be a f"),
        ("softmax", {"invariance_weight": float("nan")}, "must be a finite"),
        ("softmax", {"invariance_weight": float("inf")}, "must be a finite"),
        ("softmax", {"invariance_weight": True}, "must be a finite number"),
        (jnp.sum, {"invariance_weight": 1}, "weight must be 0 for a function"),
        (jnp.sum, {"label_smoothing": 0.1}, "ing must be 0 for a function"),
    ],
)
def test_wrong_options_are_refused(name, options, text):
  with pytest.raises(ValueError, match=text):
    losses.over_views(name, **options)


@pytest.mark.parametrize("name", _CASES)
def test_one_view_has_none_to_be_compared_with(name):
  loss_fn = losses.over_views(name, invariance_weight=1.0)
  with pytest.raises(ValueError, match="num_views must be at least 2"):
    loss_fn(_LOGITS[:1], _CASES[name])
