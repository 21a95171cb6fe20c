"""The split of a loss: sides, sites, weights, components, and what they add to.

The oracle of the last test is `jax.grad` of the loss as it was given.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_privacy.ghost import graph, rules
from tests.support import zoo

_W, _X = jnp.ones((3, 3)), jnp.ones((4, 3))


def _split(fun, num_leaves=1, leaf=_W, row=_X):
  """The split of fun(*leaves, row), whose leaves are all alike."""
  loss = lambda leaves, rows: (fun(*leaves, *rows), [])
  return graph.split(loss, [leaf] * num_leaves, [row])


def _names(eqns):
  return [eqn.primitive.name for eqn in eqns]


def _leaves(split):
  return [component.piece_indices for component in split.components]


def test_the_two_sides():
  # `iota` meets neither parameter nor data; it is shared, and no weight.
  def loss(w, x):
    shift = jax.lax.iota("float32", 3).reshape(1, 3)
    return jnp.sum(jnp.sin(x + shift) @ jnp.tanh(w))

  split = _split(loss)
  assert _names(split.shared_eqns) == ["iota", "reshape", "tanh"]
  assert _names(split.data_eqns) == ["add", "sin", "dot_general", "reduce_sum"]
  (site,) = split.sites
  tanh, sin = split.shared_eqns[2], split.data_eqns[1]
  assert (site.weights, site.data) == (tuple(tanh.outvars), tuple(sin.outvars))
  assert (site.weight_operands, site.data_operands) == ((1,), (0,))
  (component,) = split.components
  assert _names(component.eqns) == ["tanh"]
  assert (component.piece_indices, component.site_indices) == ((0,), (0,))


def test_a_loss_without_parameters_has_no_site():
  split = _split(lambda w, x: jnp.sum(x))
  assert split.sites == split.components == ()


def test_only_what_reaches_the_loss_is_a_site():
  def loss(leaves, rows):
    return jnp.sum(rows[0] @ leaves[0]), [rows[0] @ leaves[1]]

  assert _leaves(graph.split(loss, [_W, _W], [_X])) == [(0,)]


@pytest.mark.parametrize(
    "num_leaves, loss, leaves, num_sites",
    [
        (2, lambda a, b, x: jnp.sum(x @ a @ b), [(0,), (1,)], 2),
        # Tied: used twice, as it is or transposed.
        (1, lambda a, x: jnp.sum(jnp.sin(x @ a) @ a.T), [(0,)], 2),
        # Two parameters in one weight.
        (2, lambda a, b, x: jnp.sum(x @ (a * b)), [(0, 1)], 1),
        # Two weights in one equation.
        (2, lambda a, b, x: jnp.sum(jax.lax.clamp(a, x[:3], b)), [(0, 1)], 1),
        # The third site joins the first two.
        (
            4,
            lambda a, b, c, d, x: jnp.sum(x @ a @ d @ (b * c) @ (a + b)),
            [(0, 1, 2), (3,)],
            4,
        ),
    ],
)
def test_components(num_leaves, loss, leaves, num_sites):
  split = _split(loss, num_leaves)
  assert sorted(_leaves(split)) == leaves
  sites = sorted(i for c in split.components for i in c.site_indices)
  assert sites == list(range(num_sites)) == list(range(len(split.sites)))


def test_a_weight_that_an_equation_reads_twice_is_one_weight():
  split = _split(lambda w, x: jnp.sum(jax.lax.select_n(x[:3] > 0, w, w)))
  (site,), (component,) = split.sites, split.components
  assert site.weight_operands == (1, 2)
  assert component.weights == (split.leaf_vars[0],)


@pytest.mark.parametrize(
    "cut",
    [
        jax.lax.stop_gradient,
        lambda w: jnp.round(w).astype("int32").astype("float32"),
        lambda w: (w > 0).astype("float32"),
    ],
)
def test_no_gradient_passes_a_cut(cut):
  loss = lambda a, b, x: jnp.sum(x @ cut(a) @ b)
  assert _leaves(_split(loss, 2)) == [(1,)]
  # What is cut on the data side, behind the site, is no site either.
  loss = lambda a, b, x: jnp.sum(cut(x @ a) @ b)
  assert _leaves(_split(loss, 2)) == [(1,)]
  assert len(_split(loss, 2).sites) == 1


def test_effects_of_both_sides_are_kept():
  seen = []

  def loss(w, x):
    jax.debug.callback(lambda w: seen.append("w"), w)
    jax.debug.callback(lambda w, x: seen.append("w, x"), w, x)
    return jnp.sum(x @ w)

  split = _split(loss)
  assert [site.name for site in split.sites] == ["dot_general"]
  shared = split.run_shared([_W])
  jax.effects_barrier()
  assert seen == ["w"]  # Once, not once per example.
  jax.vmap(lambda x: split.run_data(shared, [x], [[jnp.zeros((4, 3))]]))(
      jnp.stack([_X, _X])
  )
  jax.effects_barrier()
  assert seen == ["w", "w, x", "w, x"]


@pytest.mark.parametrize(
    "output, got",
    [
        (jnp.ones(2, "float32"), r"float32 of shape \(2,\)"),
        (jnp.ones((), "complex64"), r"complex64 of shape \(\)"),
        (jnp.ones((), "int32"), r"int32 of shape \(\)"),
        (jnp.ones((1, 1), "float32"), r"float32 of shape \(1, 1\)"),
    ],
)
def test_a_loss_that_is_no_real_scalar_is_named(output, got):
  text = "fun must return a real floating-point scalar loss for one example"
  with pytest.raises(TypeError, match=f"{text}, got {got}"):
    _split(lambda w, x: output)


def test_asking_for_a_value_is_named():
  text = "every array it is given being abstract, but it asked for a value"
  for ask in (bool, float, np.asarray, lambda x: jnp.arange(int(x))):
    with pytest.raises(TypeError, match=text):
      _split(lambda w, x, ask=ask: (ask(jnp.sum(x)), jnp.sum(w))[1])


def _attention(a, b, x):
  scores = jax.nn.softmax(x @ a @ x.T / 2.0)
  return zoo.readout(scores @ x @ b + jnp.tanh(x @ b))


def _scan(a, b, x):
  step = lambda h, r: (jnp.tanh(h @ a + r[None] @ b), h)
  return zoo.readout(jax.lax.scan(step, x[:1], x)[0])


def _cond(a, b, x):
  y = jax.lax.cond(x[0, 0] > 0, lambda: x @ a, lambda: x @ b)
  return zoo.readout(y * jnp.sum(a, axis=0, keepdims=True))


_LOSSES = {
    "attention": _attention,
    "scan": _scan,
    "cond": _cond,
    "through_h": lambda a, b, x: zoo.readout(x @ (jnp.tanh(a) @ b) @ a.T),
    "two_weights": lambda a, b, x: zoo.readout(jax.lax.clamp(a, x[:3], b)),
    "weight_twice": lambda a, b, x: zoo.readout(
        jax.lax.select_n(x[:3] > 0, a, a) @ b
    ),
    "unused": lambda a, b, x: zoo.readout(x @ a),
    "cut": lambda a, b, x: zoo.readout(x @ (a * jax.lax.stop_gradient(b)) @ b),
    "jitted": lambda a, b, x: zoo.readout(
        jax.jit(lambda c, d: jax.checkpoint(jnp.matmul)(x, c * d))(a, b)
    ),
    "sorted": lambda a, b, x: zoo.readout(
        jax.lax.sort((x @ a, x @ b), dimension=0, num_keys=1)[1]
    ),
    "integers": lambda a, b, x: zoo.readout(
        b[jnp.argsort(x[:, 0])[:2] % 3] + a[:2].astype("int32").astype(a.dtype)
    ),
}


def _by_sites(split, leaves, row):
  """The loss, and the sum over sites of transform^T(site^T(z))."""
  shared = split.run_shared(leaves)
  shapes = [[v.aval for v in site.outputs] for site in split.sites]
  zeros = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)
  run = lambda zeros: split.run_data(shared, [row], zeros)
  loss, pull, (_, data, _) = jax.vjp(run, zeros, has_aux=True)
  (cotangents,) = pull(jnp.ones_like(loss))
  grads = [jnp.zeros_like(leaf) for leaf in leaves]
  for component in split.components:
    totals = {v: jnp.zeros_like(shared[v]) for v in component.weights}
    for i in component.site_indices:
      site = split.sites[i]
      weights = [shared[v] for v in site.weights]
      args = (site, shared, weights, data[i], cotangents[i])
      for v, grad in zip(
          site.weights, rules.generic_gradient(*args), strict=True
      ):
        totals[v] += grad
    own = [leaves[i] for i in component.piece_indices]
    pull = jax.vjp(split.transform_fn(component, shared), *own)[1]
    for i, grad in zip(
        component.piece_indices, pull([*totals.values()]), strict=True
    ):
      grads[i] += grad
  return loss, grads


@pytest.mark.few(6)
@pytest.mark.parametrize("name", list(_LOSSES))
def test_sites_add_up_to_the_gradient(name):
  arrays, fun = zoo.Arrays(21), _LOSSES[name]
  with jax.enable_x64(True):
    *leaves, row = map(
        jnp.asarray,
        (arrays.normal(3, 3), arrays.normal(3, 3), arrays.normal(4, 3)),
    )
    split = _split(fun, 2, leaves[0], row)
    got_loss, got = jax.jit(lambda *a: _by_sites(split, a[:2], a[2]))(
        *leaves, row
    )
    loss, wanted = jax.jit(jax.value_and_grad(fun, (0, 1)))(*leaves, row)
  # Some 100 terms of order 1 in two orders: each is off by 100 x 2^-53 = 1e-14,
  # and they may cancel. A term that is missing is of order 1.
  np.testing.assert_allclose(got_loss, loss, rtol=1e-12, atol=1e-12)
  for g, w in zip(got, wanted, strict=True):
    np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-12)
  members = [
      leaf for component in split.components for leaf in component.piece_indices
  ]
  assert len(members) == len(set(members))


def test_a_site_left_out_is_seen(monkeypatch):
  # Of the two uses of b in `attention`, one: the check above can fail.
  all_sites = graph._sites
  monkeypatch.setattr(graph, "_sites", lambda *a: [*all_sites(*a)][:-1])
  with pytest.raises(AssertionError):
    test_sites_add_up_to_the_gradient("attention")


def test_a_rescaled_site_gives_the_same():
  def loss(leaves, rows):
    (w,), (x,) = leaves, rows
    # The weight is read elsewhere too: only the site may read another.
    seen = jax.lax.stop_gradient(w)
    return jnp.sum(jnp.sin(jnp.tanh(x @ w) @ seen.T)), [seen * x[0, 0]]

  arrays = zoo.Arrays(23)
  with jax.enable_x64(True):
    w, x = jnp.asarray(arrays.normal(3, 2)), jnp.asarray(arrays.normal(4, 3))
    factor = jnp.array([[-0.5, 0.0]])
    w = w.at[:, 1].set(0.0)
    other = jnp.stack([w[:, 0] / -0.5, jnp.array([1.0, 2.0, 3.0])], axis=1)
    split = graph.split(loss, [w], [x])
    shared, zeros = split.run_shared([w]), [[jnp.zeros((4, 2))]]

    def run(zeros, rescaled):
      return split.run_data(shared, [x], zeros, rescaled)

    value, pull, (aux, _, none) = jax.vjp(
        functools.partial(run, rescaled={}), zeros, has_aux=True
    )
    way = graph.Rescaled(other, factor)
    got, got_pull, (got_aux, _, unscaled) = jax.vjp(
        functools.partial(run, rescaled={0: way}), zeros, has_aux=True
    )
    raw = x @ other
    cotangents = [p(jnp.ones_like(value))[0][0][0] for p in (pull, got_pull)]
  assert not none
  # As above: a dozen terms of order 1, of which sums may be small.
  near = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
  near(got, value)
  near(got_aux[0], aux[0])
  near(unscaled[0], raw)
  # The cotangent is of the output as the loss sees it, not before the factor.
  near(cotangents[1], cotangents[0])
