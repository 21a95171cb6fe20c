"""Errors for leaves that cannot be trained: they name the leaf and the remedy.

A model of Equinox or of Flax's NNX is a pytree that holds parameters, but also
functions, counters and keys. JAX's own errors name none of them. These errors
do, and say how the library takes its parameters out. No library is imported: a
type is recognised by its module's name.

The invariant: what passes is a pytree of real floating-point numbers (the
parameters), or of arrays with one leading size (a batch).

Example:
  >>> import jax.numpy as jnp
  >>> from jax_privacy import arguments
  >>> params = {"base": jnp.ones((4, 8), jnp.int8), "lora": jnp.ones(2)}
  >>> arguments.check_params((params,), 0)
  Traceback (most recent call last):
  ...
  TypeError: params['base'] must be real and floating point, to be \
differentiated, got int8[4,8]: pass it outside argnums, or by closure.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_privacy import _validate

_MAX_NAMED = 4
_NUMBERS = (bool, int, float, complex)
_OUTSIDE = "pass it outside argnums, or by closure"
# By the module and name of a class of which the argument holds an instance.
_TAKEN_OUT = (
    (
        "equinox",
        "Module",
        "; of an Equinox model, params, static = eqx.partition(model,"
        " eqx.is_inexact_array) are the two parts, and eqx.combine(params,"
        " static) in the loss is the model",
    ),
    (
        "flax.nnx",
        "",
        "; of an NNX model, graphdef, params, rest = nnx.split(model,"
        " nnx.Param, ...) are the parts, and nnx.merge(graphdef, params, rest,"
        " copy=True) in the loss is the model",
    ),
    ("flax.training", "TrainState", "; of a TrainState, pass state.params"),
)
_BY_KEY = (
    "For dropout, give each example a key of its own (prng_argnum), and in the"
    " loss build the model from it: model = nnx.merge(graphdef, params, rest,"
    " copy=True), then nnx.reseed(model, dropout=key); or model(x,"
    " rngs=nnx.Rngs(dropout=key)). Without dropout: model.eval()."
)
_NO_BATCH_NORM = (
    "Batch norm's running statistics come from all examples and have no noise:"
    " use group or layer norm, or call it with its statistics fixed"
    " (use_running_average=True)."
)
_COPY = (
    "Build the model in the loss: nnx.merge(graphdef, params, rest, copy=True),"
    " with graphdef, params, rest = nnx.split(model, nnx.Param, ...) outside."
)


def check_function(name: str, value: Any) -> None:
  """Refuses what cannot be called, such as None.

  Args:
    name: The argument's name.
    value: A loss.

  Raises:
    ValueError: If it is no function.
  """
  if not callable(value):
    _validate.fail(name, "a function (params, batch) -> loss", value)


def check_mechanism(mechanism: Any, fields: Mapping[str, str]) -> None:
  """Refuses an object without the fields of a mechanism.

  Args:
    mechanism: Any object.
    fields: Meanings of the fields to look for, by name.

  Raises:
    ValueError: If a field is not there, or is None; the text names it.
  """
  use = "Use accounting.Mechanism(...), or set it on an object of your own"
  if mechanism is None:
    rule = "an accounting.Mechanism, or an object with its fields"
    _validate.fail("mechanism", rule, None)
  for name, meaning in fields.items():
    if getattr(mechanism, name, None) is None and not (
        name == "max_batch_size" and hasattr(mechanism, name)
    ):
      got = "None" if hasattr(mechanism, name) else "no such attribute"
      raise ValueError(
          f"{name} must be a field of the mechanism ({meaning}), got {got} in"
          f" {_validate.shown(mechanism)}. {use}: mechanism.{name} = ..."
      )


def check_optimizer(name: str, optimizer: Any) -> None:
  """Refuses what is no optax transformation, such as None or `optax.sgd`.

  Args:
    name: The argument's name.
    optimizer: Any object.

  Raises:
    ValueError: If it has not both `init` and `update`.
  """
  parts = [getattr(optimizer, part, None) for part in ("init", "update")]
  if not all(map(callable, parts)):
    rule = "an optax.GradientTransformation, such as optax.sgd(0.1)"
    _validate.fail(name, rule, optimizer)


def check_params(args: Sequence[Any], argnums: int | Sequence[int]) -> None:
  """Refuses arguments that cannot be differentiated.

  Args:
    args: All arguments of the loss.
    argnums: Positions of the arguments to differentiate.

  Raises:
    ValueError: If a position is not among them, or holds None.
    TypeError: If a leaf is not a real floating-point number or array; the text
      names it, and says where to put it.
  """
  numbers = (argnums,) if isinstance(argnums, int) else argnums
  if max(numbers, default=-1) >= len(args):
    rule = f"positions among the {len(args)} arguments given"
    _validate.fail("argnums", rule, argnums)
  for i in numbers:
    name = "params" if isinstance(argnums, int) else f"args[{i}]"
    if args[i] is None:
      rule = "a pytree of real floating-point arrays to differentiate"
      _validate.fail(name, rule, None)
    for path, leaf in _leaves(args[i]):
      remedy = _remedy(leaf)
      if remedy is not None:
        raise TypeError(
            f"{name}{path} must be real and floating point, to be"
            f" differentiated, got {_shown(leaf)}:"
            f" {remedy}{_taken_out(args[i])}."
        )


def batch_size(args: Sequence[Any], batch_argnums: Sequence[int]) -> int:
  """Returns the one size of the batch arguments' leading axes.

  Args:
    args: All arguments of the loss.
    batch_argnums: Positions of the arguments with a leading batch axis.

  Raises:
    ValueError: If a position is not among them, or holds None; if a leaf is not
      an array of numbers or keys; or if leading sizes differ. The text names
      the leaves.
  """
  if max(batch_argnums) >= len(args):
    raise ValueError(
        f"batch_argnums must be positions among the {len(args)} arguments"
        f" given, got {batch_argnums}."
    )
  shapes = {}
  for i in batch_argnums:
    name = "batch" if len(batch_argnums) == 1 else f"args[{i}]"
    if args[i] is None:
      _validate.fail(name, "a pytree of arrays with a leading batch axis", None)
    for path, leaf in _leaves(args[i]):
      problem = _not_rows(leaf)
      if problem is not None:
        raise ValueError(
            f"{name}{path} must be an array of numbers with a leading batch"
            f" axis, got {_shown(leaf)}: {problem}."
        )
      shapes[f"{name}{path}"] = jnp.shape(leaf)
  sizes = {shape[:1] for shape in shapes.values()}
  if len(sizes) != 1 or () in sizes:
    _fail_sizes(shapes, any(_has_list(args[i]) for i in batch_argnums))
  return sizes.pop()[0]


def explained(fun: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `fun` with errors of Flax's that say what to do here instead.

  Args:
    fun: A loss.
  """

  @functools.wraps(fun)
  def call(*args, **named):
    try:
      return fun(*args, **named)
    except Exception as error:
      text = _explanation(error)
      if text is None:
        raise
      raise ValueError(text) from error

  return call


def _explanation(error):
  """Returns what an error of Flax's means for a loss, or None."""
  if not type(error).__module__.startswith("flax"):
    return None
  kind, says = type(error).__name__, str(error).split(" (http")[0]
  if kind == "TraceContextError":
    rule = "The loss must not change state of a module that it closes over"
    remedy = _COPY
    if "Rng" in says:
      remedy = _BY_KEY
    elif "BatchStat" in says:
      remedy = _NO_BATCH_NORM
  elif kind == "ModifyScopeVariableError" and "batch_stats" in says:
    rule, remedy = "The loss must not update batch statistics", _NO_BATCH_NORM
  elif kind == "InvalidRngError":
    rule = "The loss must be given the keys that it draws from"
    remedy = (
        "Give each example a key of its own (prng_argnum), and the model that"
        " key: model.apply(params, x, rngs={'dropout': key}); or switch dropout"
        " off (deterministic=True)."
    )
  else:
    return None
  return f"{rule}, got: {says}. {remedy}"


def _leaves(tree) -> Iterator[tuple[str, Any]]:
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    # An NNX variable's own attribute tells nothing.
    yield jax.tree_util.keystr(path).removesuffix(".value"), leaf


def _is_array(leaf):
  is_array = isinstance(leaf, (jax.Array, np.ndarray, np.generic))
  return is_array or hasattr(leaf, "__jax_array__")


def _dtype(leaf):
  """The leaf's dtype, or None for what is neither number nor array."""
  if isinstance(leaf, _NUMBERS):
    return jnp.dtype(type(leaf))
  return jnp.dtype(leaf.dtype) if _is_numeric(leaf) else None


def _is_numeric(leaf):
  """Whether it is an array of numbers: not of objects, text, dates or keys."""
  dtype = getattr(leaf, "dtype", None)
  if not _is_array(leaf) or dtype is None:
    return False
  kinds = (jnp.number, jnp.bool_)
  return any(jnp.issubdtype(dtype, k) for k in kinds) and dtype.kind not in "Mm"


def _is_key(leaf):
  dtype = getattr(leaf, "dtype", None)
  return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _remedy(leaf):
  """What to do with a leaf that has no gradient; None if it has one."""
  if _is_array(leaf) and _is_key(leaf):
    return (
        "a PRNG key is no parameter: give it by prng_argnum (a key for each"
        " example), or by closure"
    )
  dtype = _dtype(leaf)
  if dtype is None:
    return _OUTSIDE
  if jnp.issubdtype(dtype, jnp.floating):
    return None
  if jnp.issubdtype(dtype, jnp.complexfloating):
    return "give its real and its imaginary part as two leaves"
  if dtype == jnp.uint32 and jnp.shape(leaf)[-1:] == (2,):
    return f"{_OUTSIDE} (a PRNG key: by prng_argnum, a key for each example)"
  return _OUTSIDE


def _taken_out(tree):
  """How the library whose model this is takes out its parameters."""
  found = []

  def look(node):
    for cls in type(node).__mro__:
      for number, (module, name, _) in enumerate(_TAKEN_OUT):
        if cls.__module__.startswith(module) and name in cls.__name__:
          found.append(number)
    return False

  jax.tree.flatten(tree, is_leaf=look)
  return _TAKEN_OUT[min(found)][2] if found else ""


def _not_rows(leaf):
  """What to do with a leaf that is no array of rows; None if it is one."""
  if isinstance(leaf, (str, bytes)) or _kind(leaf) in ("S", "U", "T"):
    return (
        "JAX has no text: give token ids or labels as integers, and keep text"
        " outside the batch"
    )
  if _kind(leaf) == "O":
    return "rows of different shapes? Pad them to one, or convert the numbers"
  if _kind(leaf) in ("M", "m"):
    return "give dates as numbers"
  if _is_array(leaf) and (_is_key(leaf) or _is_numeric(leaf)):
    return None
  if isinstance(leaf, _NUMBERS):
    return None  # Its size is named with the others'.
  return "convert it by np.asarray, or keep it outside the batch"


def _kind(leaf):
  if not isinstance(leaf, (np.ndarray, np.generic)) or _is_numeric(leaf):
    return ""
  return leaf.dtype.kind


def _has_list(tree):
  found = []

  def look(node):
    found.append(type(node) is list)
    return False

  jax.tree.flatten(tree, is_leaf=look)
  return any(found)


def padding_mask(
    is_padding_example: jax.Array | None, batch_size: int
) -> jax.Array:
  """Returns the mask of a batch, bool [batch_size].

  Args:
    is_padding_example: Mask, bool [batch_size]; None marks no row.
    batch_size: Number of rows of the batch.

  Raises:
    ValueError: If the mask has another shape or dtype.
  """
  if is_padding_example is None:
    return jnp.zeros(batch_size, dtype=bool)
  mask = jnp.asarray(is_padding_example)
  if mask.shape != (batch_size,) or mask.dtype != bool:
    rule = f"bool of shape ({batch_size},)"
    _validate.fail("is_padding_example", rule, f"{mask.dtype} {mask.shape}")
  return mask


def _fail_sizes(shapes, has_list):
  """Raises, naming leaves of each size."""
  by_size = {}
  for name, shape in shapes.items():
    by_size.setdefault(shape[:1], []).append((name, shape))
  shown = []
  for named in by_size.values():
    shown += [f"{name} {list(shape)}" for name, shape in named[:_MAX_NAMED]]
    if len(named) > _MAX_NAMED:
      shown.append(f"{len(named) - _MAX_NAMED} more like it")
  remedy = ""
  if has_list:
    remedy = (
        " A list is a pytree of its items: give np.asarray of it, with rows"
        " padded to one length."
    )
  elif () in by_size:
    remedy = (
        " What all examples share is no part of the batch: pass it as another"
        " argument, or by closure."
    )
  raise ValueError(
      "batch arguments must be arrays of one leading size, got"
      f" {', '.join(shown) or 'no arrays'}.{remedy}"
  )


def _shown(leaf):
  """A leaf in a few words: dtype and shape, or type and value."""
  if _is_array(leaf) and hasattr(leaf, "dtype"):
    shape = ",".join(map(str, jnp.shape(leaf)))
    name = leaf.dtype.name if _is_numeric(leaf) else str(leaf.dtype)
    return f"{name}[{shape}]"
  if callable(leaf) and not isinstance(leaf, type):
    name = getattr(leaf, "__name__", type(leaf).__name__)
    return f"the function {name}"
  return f"the {type(leaf).__name__} {_validate.shown(leaf)}"
