"""What is read off equations, as each known version of JAX writes them."""

import ast
import pathlib
import types

import jax
import jax.numpy as jnp
import pytest

from jax_privacy import jaxprs

_ROOT = pathlib.Path(__file__).parents[2]
# Parameters that JAX has renamed, or may.
_NAMES = {"num_consts", "num_carry", "call_jaxpr", "cond_jaxpr", "body_jaxpr"}
_NAMES |= {"cond_nconsts", "body_nconsts", "ft_in"}


def _first(fun, *args):
  return jax.make_jaxpr(fun)(*args).jaxpr.eqns[0]


def _scan(w, carry, rows):
  def step(carry, row):
    return (carry[0] * row + w, carry[1] + 1.0), row

  return jax.lax.scan(step, carry, rows)


def _scan_eqn():
  return _first(_scan, 2.0, (1.0, 0.0), jnp.ones(3))


def test_scan_as_this_jax_writes_it():
  loop = jaxprs.scan(_scan_eqn())
  assert (loop.num_consts, loop.num_carry) == (1, 2)
  assert len(loop.body.invars) == 4


def _written(eqn, **params):
  """The equation with the parameters of another version of JAX."""
  old = {
      k: v
      for k, v in eqn.params.items()
      if k not in ("num_consts", "num_carry", "ft_in", "ft_out")
  }
  return types.SimpleNamespace(
      primitive=eqn.primitive,
      invars=eqn.invars,
      outvars=eqn.outvars,
      params={**old, **params},
  )


def _tree(*sizes):  # As JAX 0.12's: its parts have lengths.
  return types.SimpleNamespace(unpack=lambda: [[None] * n for n in sizes])


@pytest.mark.parametrize(
    "params", [{"num_consts": 1, "num_carry": 2}, {"ft_in": _tree(1, 2, 1)}]
)
def test_scan_as_every_known_version_writes_it(params):
  loop = jaxprs.scan(_written(_scan_eqn(), **params))
  assert (loop.num_consts, loop.num_carry) == (1, 2)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"num_consts": 1},
        {"num_consts": 3, "num_carry": 2},
        {"ft_in": _tree(1, 2)},
        {"ft_in": _tree(1, 1, 1)},
        {"ft_in": (1, 2, 1)},
    ],
)
def test_an_unknown_scan_is_refused_with_the_version(params):
  with pytest.raises(jaxprs.UnknownJaxError) as error:
    jaxprs.scan(_written(_scan_eqn(), **params))
  assert f"JAX must be 0.10 to 0.12, got {jax.__version__}" in str(error.value)
  assert "'scan'" in str(error.value) and "Install" in str(error.value)


def test_while_and_cond():
  loop = lambda w, n: jax.lax.while_loop(lambda c: c < n, lambda c: c * w, 1.0)
  eqn = _first(loop, 2.0, 9.0)
  found = jaxprs.while_loop(eqn)
  assert (found.num_cond_consts, found.num_body_consts) == (1, 1)
  assert len(found.cond.invars) == len(found.body.invars) == 2
  eqns = jax.make_jaxpr(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x))(
      1.0
  ).jaxpr.eqns
  names = [b.eqns[0].primitive.name for b in jaxprs.branches(eqns[-1])]
  assert sorted(names) == ["cos", "sin"]
  for read, broken in (
      (jaxprs.while_loop, _written(eqn, body_nconsts=0)),
      (jaxprs.branches, _written(eqns[-1], branches=(found.body,))),
      (jaxprs.branches, _written(eqn)),
  ):
    with pytest.raises(jaxprs.UnknownJaxError, match="got "):
      read(broken)


@pytest.mark.parametrize(
    "wrap",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: jax.nn.relu,
        lambda f: jax.nn.silu,
    ],
)
def test_a_call_is_opened(wrap):
  eqn = _first(lambda x: wrap(jnp.sin)(x), 1.0)
  assert jaxprs.is_call(eqn)
  jaxpr, consts = jaxprs.called(eqn)
  assert len(jaxpr.invars) == 1 and not list(consts)
  assert [str(j) for j in jaxprs.held(eqn)] == [str(jaxpr)]


def test_one_equation_runs_with_another_parameter():
  x = jnp.arange(6.0).reshape(2, 3)
  eqn = _first(lambda x: jnp.sum(x, 0), x)
  (got,) = jaxprs.bind(eqn, [x])
  assert got.tolist() == [3, 5, 7]
  (got,) = jaxprs.bind(eqn, [x], axes=(1,))
  assert got.tolist() == [3, 12]
  changed = jaxprs.with_params(eqn, axes=(1,), no_such=1)
  assert jaxprs.param(changed, "axes") == (1,)
  with pytest.raises(jaxprs.UnknownJaxError, match="lacks 'no_such'"):
    jaxprs.param(changed, "no_such")


def _faults(source):
  """Places where a file reads an equation by itself."""
  faults = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Attribute) and node.attr == "params":
      if ast.unparse(node.value).split(".")[-1].endswith(("eqn", "equation")):
        faults.append(ast.unparse(node))
    if isinstance(node, ast.Constant) and node.value in _NAMES:
      faults.append(node.value)
    if isinstance(node, ast.Attribute) and node.attr == "get_bind_params":
      faults.append(node.attr)
  return faults


def test_no_other_file_reads_an_equations_parameters():
  for folder in ("jax_privacy", "experiments"):
    for path in (_ROOT / folder).rglob("*.py"):
      if path.name != "jaxprs.py":
        assert not _faults(path.read_text(encoding="utf-8")), path
  assert _faults("site.eqn.params['axes']")
  assert _faults("eqn.primitive.get_bind_params(p)")
  assert _faults("p['num_consts']")


def test_every_jaxpr_that_is_held_can_be_replaced():
  def doubled(closed):
    return jax.make_jaxpr(lambda *xs: [2 * x for x in call(closed, xs)])(
        *closed.in_avals
    )

  def call(closed, xs):
    return jax.jit(jax.extend.core.jaxpr_as_fun(closed))(*xs)

  solve = lambda b: jax.lax.custom_linear_solve(
      lambda x: 4.0 * x, b, lambda matvec, b: b / 4.0, symmetric=True
  )  # Holds a named tuple of jaxprs.
  for fun, want in ((jax.jit(jnp.negative), -2.0), (solve, 0.5)):
    eqn = jaxprs.with_held(_first(fun, 1.0), doubled)
    assert jaxprs.bind(eqn, [1.0]) == [want]
