"""Follows a gradient through an optax update to where noise is added to it.

An optimiser after the noise hides it: nothing can be read off Adam's update.
So the update is traced, and run equation by equation with a tag on every value:
from which leaves it holds gradient without noise, and whether it is random.
Where the two meet in a sum, the noise and the gradient are in sight.

The invariant: if `run` returns, every output is free of gradient without noise.

Example:
  >>> import jax, jax.numpy as jnp, optax
  >>> from jax_privacy import noise_addition
  >>> from jax_privacy.testing import noise_path
  >>> noise = noise_addition.gaussian_privatizer(stddev=2.0, prng_key=0)
  >>> optimizer = optax.chain(noise, optax.sgd(0.1, momentum=0.9))
  >>> w = jnp.ones(3)
  >>> draws, _ = noise_path.run(optimizer, w, optimizer.init(w), w)
  >>> print([(d.leaves, d.signal, d.noise.shape) for d in draws])
  [((0,), Array([1., 1., 1.], dtype=float32), (3,))]
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jax_privacy import jaxprs
from jax_privacy.ghost import tracing
from jax_privacy.testing.errors import NoiseError

# What draws random bits, or fetches them from outside of JAX.
_RANDOM = (*jaxprs.RANDOM, "pure_callback", "io_callback")
_SUMS = ("add", "sub", "add_any")
_SAME_VALUE = ("convert_element_type", "reshape", "copy")


@dataclasses.dataclass(frozen=True)
class Draw:
  """Noise, and the gradient that it was added to.

  Attributes:
    leaves: Positions of the gradient's leaves that the noise is of.
    signal: Gradient as it was when noise was added.
    noise: Noise that was added, of the same shape.
  """

  leaves: tuple[int, ...]
  signal: jax.Array
  noise: jax.Array


@dataclasses.dataclass(frozen=True)
class _Tag:
  """Where a value comes from.

  Attributes:
    raw: Leaves whose gradient is in it without noise.
    random: Whether random bits are in it.
    draw: Position of the draw whose noised sum it is, if nothing else was
      done to it, or None.
  """

  raw: frozenset[int] = frozenset()
  random: bool = False
  draw: int | None = None


_PUBLIC = _Tag()


def run(
    transformation: optax.GradientTransformation,
    grads: Any,
    state: Any,
    params: Any,
) -> tuple[list[Draw], Any]:
  """Runs one update; may be traced.

  Args:
    transformation: Noise, and all that follows it.
    grads: The sum of clipped gradients.
    state: State of the transformation.
    params: Parameters.

  Returns:
    The draws, and the new state.

  Raises:
    NoiseError: If gradient without noise reaches the update or the state.
  """
  closed, shapes = jax.make_jaxpr(transformation.update, return_shape=True)(
      grads, state, params
  )
  num_leaves = len(jax.tree.leaves(grads))
  values = jax.tree.leaves((grads, state, params))
  tags = [_Tag(frozenset([i])) for i in range(num_leaves)]
  tags += [_PUBLIC] * (len(values) - num_leaves)
  path = _Path()
  outs, tags = path.run(closed.jaxpr, closed.consts, values, tags)
  _check_outputs(shapes, tags, jax.tree_util.tree_leaves_with_path(grads))
  _, new_state = jax.tree.unflatten(jax.tree.structure(shapes), outs)
  return path.draws, new_state


def _check_outputs(shapes, tags, grads):
  named = jax.tree_util.tree_leaves_with_path(shapes)
  for (path, _), tag in zip(named, tags, strict=True):
    if tag.raw:
      names = [jax.tree_util.keystr(grads[i][0]) for i in sorted(tag.raw)]
      output = ("the update", "the new state")[path[0].idx]
      raise NoiseError(
          f"The gradient of {', '.join(n or 'the parameter' for n in names)}"
          f" reaches {output}{jax.tree_util.keystr(path[1:])} without a sum"
          " with noise on its way (or inside a cond, a while or a scan, into"
          " which this check does not follow)."
      )


class _Path:
  """Runs a jaxpr with a tag on every value."""

  def __init__(self):
    self.draws = []

  def run(self, jaxpr, consts, values, tags):
    """Returns the outputs and their tags."""
    env = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, values, strict=True))
    tag_of = dict(zip(jaxpr.invars, tags, strict=True))

    def tags_of(atoms):
      return [
          tag_of.get(a, _PUBLIC) if tracing.is_var(a) else _PUBLIC
          for a in atoms
      ]

    for eqn in jaxpr.eqns:
      ins = [tracing.read(env, atom) for atom in eqn.invars]
      outs, out_tags = self._equation(eqn, ins, tags_of(eqn.invars))
      env.update(zip(eqn.outvars, outs, strict=True))
      tag_of.update(zip(eqn.outvars, out_tags, strict=True))
    outs = [tracing.read(env, atom) for atom in jaxpr.outvars]
    return outs, tags_of(jaxpr.outvars)

  def _equation(self, eqn, values, tags):
    name = eqn.primitive.name
    if jaxprs.is_call(eqn):
      return self.run(*jaxprs.called(eqn), values, tags)
    outs = tracing.bind(eqn, values)
    tag = self._sum(name, values, tags)
    if tag is None:
      tag = _merge(name, tags)
      if name in _RANDOM or name.startswith("random_"):
        tag = dataclasses.replace(tag, random=True)
    return outs, [tag] * len(outs)

  def _sum(self, name, values, tags):
    """Returns the tag of gradient plus noise, or None for anything else."""
    if name not in _SUMS:
      return None
    for this, that in ((0, 1), (1, 0)):
      signal, noise = tags[this], tags[that]
      if not noise.random or noise.raw or noise.draw is not None:
        continue
      # The sign of symmetric noise does not matter.
      shape, noise = jnp.shape(values[this]), values[that]
      if signal.draw is not None and not signal.raw:
        # Noised twice: one draw, the sum of both.
        first = self.draws[signal.draw]
        total = first.noise + jnp.broadcast_to(noise, shape).reshape(
            first.noise.shape
        ).astype(first.noise.dtype)
        self.draws[signal.draw] = dataclasses.replace(first, noise=total)
        return signal
      if signal.raw and not signal.random:
        noise = jnp.broadcast_to(noise, shape)
        self.draws.append(Draw(tuple(sorted(signal.raw)), values[this], noise))
        return _Tag(draw=len(self.draws) - 1)
    return None


def _merge(name, tags):
  """The tag of what was made of some values, other than a sum with noise."""
  if name in _SAME_VALUE:
    return tags[0]
  if name == "select_n":
    # Of a noised sum and constants: it is either, and no other gradient.
    of_draws = {tag for tag in tags if tag != _PUBLIC}
    if len(of_draws) == 1 and tags[0] == _PUBLIC:
      return of_draws.pop()
  # What is made of a noised sum is post-processing: noise that is added later
  # is the optimiser's own, and counts for nothing.
  return _Tag(
      raw=frozenset().union(*(tag.raw for tag in tags)),
      random=any(tag.random for tag in tags),
  )
