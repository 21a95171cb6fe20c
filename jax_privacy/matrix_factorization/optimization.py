"""Minimises a loss of a strategy by L-BFGS, in float64.

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy.matrix_factorization import optimization
  >>> found = optimization.optimize(
  ...     lambda x: jnp.sum((x - 3.0) ** 2), jnp.zeros(2))
  >>> print(f"{found[0]:.3f} {found[1]:.3f}")
  3.000 3.000
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

Params = TypeVar("Params", bound=Any)

DEFAULT_OPTIMIZER = optax.lbfgs(
    memory_size=1, linesearch=optax.scale_by_backtracking_linesearch(128)
)


@dataclasses.dataclass
class CallbackArgs:
  """What a callback is given after each step.

  Attributes:
    step: Number of the step, from 0.
    loss: Loss before the step.
    grad: Gradient before the step.
    params: Parameters after the step.
    state: State of the optimiser after the step.
  """

  step: int
  loss: jax.Array
  grad: Any
  params: Any
  state: Any


CallbackFnType = Callable[[CallbackArgs], bool | None]


def optimize(
    loss_fn: Callable[..., Any],
    params: Params,
    *,
    max_optimizer_steps: int = 250,
    grad: bool = False,
    callback: CallbackFnType = lambda _: None,
    optimizer: optax.GradientTransformationExtraArgs = DEFAULT_OPTIMIZER,
) -> Params:
  """Returns parameters that minimise a loss, as nearly as steps allow.

  Args:
    loss_fn: Function of the parameters, which returns the loss; with `grad`,
      the pair of the loss and its gradient.
    params: First parameters, a pytree of arrays.
    max_optimizer_steps: Largest number of steps.
    grad: Whether `loss_fn` returns the gradient too.
    callback: Function called after each step; a true result ends the search.
    optimizer: Optax optimiser; it is given value, grad and value_fn.

  Returns:
    The parameters, in their own dtypes. All is computed in float64.
  """
  dtypes = jax.tree.map(lambda x: jnp.asarray(x).dtype, params)
  # Optax's L-BFGS mixes integers of two lengths.
  with jax.enable_x64(), jax.numpy_dtype_promotion("standard"):
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
    step_fn = _step_fn(loss_fn, grad, optimizer)
    state = optimizer.init(params)
    for step in range(max_optimizer_steps):
      value, gradient, params, state = step_fn(params, state)
      if callback(CallbackArgs(step, value, gradient, params, state)):
        break
    return jax.tree.map(lambda x, dtype: x.astype(dtype), params, dtypes)


def _step_fn(loss_fn, has_grad, optimizer):
  value_and_grad = loss_fn if has_grad else jax.value_and_grad(loss_fn)
  value_fn = (lambda x: loss_fn(x)[0]) if has_grad else loss_fn

  @jax.jit
  def step(params, state):
    value, gradient = value_and_grad(params)
    updates, state = optimizer.update(
        gradient, state, params, value=value, grad=gradient, value_fn=value_fn
    )
    return value, gradient, optax.apply_updates(params, updates), state

  return step
