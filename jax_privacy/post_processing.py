"""Refuses optimisers that are more than post-processing of a noised gradient.

What follows the noise costs no privacy if it sees the noised gradient and the
parameters alone. The invariant: an optimiser that passes draws no noise, clips
no examples, needs no loss and no gradient of the batch, and returns an update
of the parameters' shapes.

An optimiser is two opaque functions, so the check traces its update and
computes nothing. It also finds transformations inside `optax.chain`,
`optax.MultiSteps`, `optax.partition` and similar ones.

Example:
  >>> import jax.numpy as jnp, optax
  >>> from jax_privacy import post_processing
  >>> post_processing.check(optax.adam(0.1), jnp.zeros(3))
  >>> try:
  ...   post_processing.check(optax.polyak_sgd(), jnp.zeros(3))
  ... except ValueError as error:
  ...   print(str(error).split(" (")[0])
  optimizer must be one that needs the noised gradient and the parameters alone
"""

import contextlib
import re
from collections.abc import Generator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jax_privacy import _validate, jaxprs

# Names of states -> the transformation that is private by itself.
_PRIVATE_STATES = {
    "AddNoiseState": "optax.add_noise",
    "AggregateState": "dp_sgd.aggregate",
    "CorrelatedNoiseState": "noise_addition.matrix_factorization_privatizer",
    "DifferentiallyPrivateAggregateState": (
        "optax.contrib.differentially_private_aggregate"
    ),
    "GaussianNoiseState": "noise_addition.gaussian_privatizer",
    "SecureNoiseState": "secure_noise.secure_gaussian_privatizer",
}
# What optax's optimisers call the loss, its gradient, and functions that give
# them. All are of the batch, and without noise.
_OF_THE_BATCH = ("value", "grad", "loss", "value_fn", "grad_fn", "obj_fn")
_IS_MISSING = "required keyword-only argument"
_READS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def check(optimizer: Any, params: Any, *, name: str = "optimizer") -> None:
  """Refuses an optimiser that is not post-processing.

  Args:
    optimizer: An optax transformation, which will follow the noise.
    params: Its parameters: arrays or shapes.
    name: The name that an error gives it.

  Raises:
    ValueError: If it is private by itself, draws random numbers, needs more
      than gradient and parameters, or returns an update of other shapes. The
      text says which, and what to do.
  """
  _check_type(optimizer, name)
  try:
    state = _init(optimizer, params)
  except Exception as error:  # Whatever an optimiser ends in.
    _fail_to_run(error, name)
  _check_state(state, name)
  _check_update(optimizer, params, state, name)


def checked(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Returns the optimiser if it is post-processing.

  It is checked now, on parameters of our own, and again by `init(params)`:
  some optimisers fit the user's parameters alone.

  Args:
    optimizer: Optax optimiser; see `check`.

  Raises:
    ValueError: If it is no post-processing; see `check`. Also from `update`, if
      that gets a loss or a gradient of the batch.
  """
  name = "optimizer"
  _check_type(optimizer, name)
  _check_on_probe(optimizer, name)
  inner = optax.with_extra_args_support(optimizer)

  def init(params):
    state = inner.init(params)
    _check_state(state, name)
    # Of other leaves, clipped_grad says that they have no gradient.
    if all(_is_float(leaf) for leaf in jax.tree.leaves(params)):
      with contextlib.suppress(*_READS_VALUES):  # It cannot be compiled.
        _check_update(inner, params, state, name)
    return state

  def update(updates, state, params=None, **extra_args):
    for argument in _OF_THE_BATCH:
      if argument in extra_args:
        rule = "left out of update (it comes from examples, and has no noise)"
        _validate.fail(argument, rule, extra_args[argument])
    return inner.update(updates, state, params, **extra_args)

  return optax.GradientTransformationExtraArgs(init, update)


def _check_type(optimizer, name):
  for part in ("init", "update"):
    if not callable(getattr(optimizer, part, None)):
      _validate.fail(name, "an optax optimiser (init and update)", optimizer)


def _check_on_probe(optimizer, name):
  """Checks what can be known before there are parameters."""
  probe = {
      "kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32),
      "bias": jax.ShapeDtypeStruct((3,), jnp.float32),
  }
  try:
    state = _init(optimizer, probe)
  except Exception:
    return  # It may need the user's own tree, as a mask does.
  _check_state(state, name)
  try:
    closed, shapes = _trace(optimizer, probe, state)
  except Exception as error:
    if _IS_MISSING in str(error) or _runs_with_the_batch(optimizer, probe):
      _fail_to_run(error, name)
    return
  _check_trace(closed, shapes, probe, name)


def _runs_with_the_batch(optimizer, probe) -> bool:
  """Whether an update that failed runs once it has a loss and its gradient."""

  def loss_fn(params, *_, **__):
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))

  def update(params):
    extra = dict.fromkeys(("value_fn", "obj_fn"), loss_fn)
    extra |= dict.fromkeys(("value", "loss"), loss_fn(params))
    extra |= {"grad": params, "grad_fn": jax.grad(loss_fn)}
    return optimizer.update(params, optimizer.init(params), params, **extra)

  try:
    with _as_optax_runs():
      jax.eval_shape(update, probe)
  except Exception:
    return False
  return True


def _check_update(optimizer, params, state, name):
  try:
    closed, shapes = _trace(optimizer, params, state)
  except _READS_VALUES:
    raise
  except Exception as error:
    _fail_to_run(error, name)
  _check_trace(closed, shapes, params, name)


def _init(optimizer, params):
  """Returns the shapes of a state, in the state's own types."""
  with _as_optax_runs():
    return jax.eval_shape(optimizer.init, params)


def _trace(optimizer, params, state):
  """Returns the jaxpr of an update, and the shapes that it gives."""
  is_lookahead = isinstance(params, optax.LookaheadParams)
  grads = params.fast if is_lookahead else params

  def update(grads, params, state):
    return optimizer.update(grads, state, params)[0]

  with _as_optax_runs():
    return jax.make_jaxpr(update, return_shape=True)(grads, params, state)


@contextlib.contextmanager
def _as_optax_runs() -> Generator[None, None, None]:
  """Allows for what optax does: Adam fails where promotion is strict."""
  with (
      jax.numpy_dtype_promotion("standard"),
      jax.numpy_rank_promotion("allow"),
  ):
    yield


def _check_state(state, name):
  """Refuses transformations that are known by their state."""

  def found(node):
    return type(node).__name__ in _PRIVATE_STATES

  for node in jax.tree.leaves(state, is_leaf=found):
    if found(node):
      _fail_as_private(_PRIVATE_STATES[type(node).__name__], name)


def _check_trace(closed, shapes, params, name):
  draws = sorted(_primitives(closed.jaxpr) & set(jaxprs.RANDOM))
  if draws:
    _fail_as_private(f"a transformation that draws {draws[0]}", name)
  flat = jax.tree_util.tree_leaves_with_path(params)
  if jax.tree.structure(shapes) != jax.tree.structure(params):
    return  # As where parts of a tree are left out.
  for (path, leaf), update in zip(flat, jax.tree.leaves(shapes), strict=True):
    if update.shape != jnp.shape(leaf):
      rule = (
          "one whose update has the parameters' shapes (one that clips"
          " examples by itself takes the first axis for the batch; make_private"
          " gives it their sum)"
      )
      what = f"params{jax.tree_util.keystr(path)}"
      text = f"{update.shape} for {what} of shape {jnp.shape(leaf)}"
      raise ValueError(f"{name} must be {rule}, got {text}.")


def _fail_as_private(culprit, name):
  raise ValueError(
      f"{name} must be without noise and clipping of examples of its own"
      " (make_private adds both: leave it out, or chain what draws random"
      f" numbers behind the private optimizer), got {culprit}."
  )


def _fail_to_run(error, name):
  text = " ".join(str(error).split())
  made_by = re.match(r"(\w+)\.<locals>", text)
  culprit = made_by[1] if made_by else "one that fails on them"
  raise ValueError(
      f"{name} must be one that needs the noised gradient and the parameters"
      " alone (not a loss or a gradient of the batch, which has no noise: take"
      " one such as optax.adam, and a schedule of steps), got"
      f" {culprit} ({type(error).__name__}: {text:.200})."
  ) from error


def _primitives(jaxpr) -> set[str]:
  """Returns the names of all primitives in a jaxpr, at any depth."""
  names = set()
  for eqn in jaxpr.eqns:
    names.add(eqn.primitive.name)
    for held in jaxprs.held(eqn):
      names |= _primitives(held)
  return names


def _is_float(leaf) -> bool:
  return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
