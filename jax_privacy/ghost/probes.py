"""Squared norms as a cotangent: what `passes=2` takes its norms from.

Each site in a region is given a probe: it hands the site's output on, and takes
a scalar, a zero, that changes nothing. The scalar's cotangent is, by a custom
derivative, the squared norm of the example's gradient at that site. JAX adds
cotangents over sites and iterations as it walks back, through loops and
checkpoints, and nothing is kept for it.

The invariant: a probe changes no value and no other cotangent. Without scalars
there are no probes: a region is then run as it is written.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from jax_privacy.ghost import probes, regions
  >>> def loss(w, x):
  ...   layer = lambda h, w: (h @ w, None)
  ...   return jnp.sum(jax.lax.scan(layer, x, w)[0])
  >>> w, x = jnp.ones((2, 1, 1)), jnp.ones((1, 1))
  >>> region = regions.find(
  ...     jax.make_jaxpr(loss)(w, x), [True, False], [False, True])
  >>> def run(nu):
  ...   probe = probes.Probes([nu], [1.0], [jnp.dtype("float32")])
  ...   env = region.split.run_shared([w])
  ...   env[region.split.row_vars[0]] = x
  ...   probe.run(region, env, [0], lambda eqn, env: None)
  ...   return env[region.split.outputs[0]]
  >>> print(jax.grad(run)(0.0).round(4))
  2.0
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_privacy import jaxprs, magnitude
from jax_privacy.ghost import (
    costs,
    flow,
    norms,
    paths,
    plans,
    regions,
    rules,
    shards,
    tracing,
)
from jax_privacy.ghost.recorded import Recorded


@dataclasses.dataclass(frozen=True)
class Probes:
  """Scalars that probes take, one for each part of the gradient.

  Attributes:
    scalars: Zeros.
    units: Units of norms, per part.
    dtypes: Dtypes of norms, per part.
    layout: Layout of parameters over devices; None if they are whole.
    is_used: Boolean, whether this device adds to gradients of what is split;
      None if none are taken.
  """

  scalars: Sequence[Any]
  units: Sequence[float]
  dtypes: Sequence[Any]
  layout: shards.Layout | None = None
  is_used: Any = None

  def gather(self, value: Any) -> Any:
    """Returns what may be a `shards.Shard` as a whole array.

    Args:
      value: A value.
    """
    return self.layout.gather(value, self.is_used) if self.layout else value

  def run(
      self,
      region: regions.Region,
      env: tracing.Env,
      part_of: Sequence[int],
      on_site: Callable[[Any, tracing.Env], None],
  ) -> None:
    """Runs the data side of a region, writing what it gives into `env`.

    Args:
      region: The region.
      env: Values of its shared variables and rows, which grow.
      part_of: Numbers of the parts that its parameters are in.
      on_site: Function that is called after each equation that is no call.
    """
    for eqn in region.split.data_eqns:
      call = region.calls.get(id(eqn))
      if call is None:
        tracing.evaluate([eqn], env)
        on_site(eqn, env)
      else:
        values = [tracing.read(env, atom) for atom in eqn.invars]
        outs = self._call(call, values, _parts(region, call, part_of))
        env.update(zip(eqn.outvars, outs, strict=True))

  def _call(self, call, values, parts) -> list[Any]:
    """Runs a loop or a checkpoint as it is written, with probes."""
    is_split = any(isinstance(value, shards.Shard) for value in values)
    if not self.scalars and not is_split:
      return jaxprs.bind(call.eqn, values)
    if call.eqn.primitive.name == "scan":
      return self._scan(call, values, parts)
    arrays, restore = shards.unwrap(values)

    def run(scalars, *arrays):
      inner = dataclasses.replace(self, scalars=scalars)
      return inner._inside(call, restore(arrays), parts)

    options = jaxprs.params(call.eqn, "policy", "prevent_cse")
    if is_split:
      options["policy"] = shards.policy(options["policy"])
    return jax.checkpoint(run, **options)(self.scalars, *arrays)

  def _scan(self, call, values, parts) -> list[Any]:
    """Runs a loop; what is split is gathered for one iteration at a time."""
    loop = jaxprs.scan(call.eqn)
    first, last = loop.num_consts, loop.num_consts + loop.num_carry
    rows = [
        self.layout.for_loop(value, self.is_used) if self.layout else value
        for value in values[last:]
    ]
    arrays, restore = shards.unwrap(rows, dropped=1)

    def step(carry, arrays):
      rows = restore(arrays)
      outs = self._inside(call, [*values[:first], *carry, *rows], parts)
      return outs[: loop.num_carry], outs[loop.num_carry :]

    if shards.gathers(call.region, [None] * last + rows):
      keep_rest = shards.policy(jax.checkpoint_policies.everything_saveable)
      step = jax.checkpoint(step, policy=keep_rest, prevent_cse=False)
    carry, ys = jax.lax.scan(step, values[first:last], arrays, **loop.options)
    return [*carry, *ys]

  def _inside(self, call, values, parts) -> list[Any]:
    """Runs what a call calls, once."""
    split = call.region.split
    env = shards.entered(call.region, values, self.gather)
    probed = {
        id(split.sites[component.site_indices[0]].eqn): component
        for component in split.components
        if self.scalars
    }

    def on_site(eqn, env):
      if id(eqn) in probed:
        self._probe(split, probed[id(eqn)], env, parts)

    self.run(call.region, env, parts, on_site)
    return [tracing.read(env, atom) for atom in split.outputs]

  def _probe(self, split, component, env, part_of) -> None:
    """Puts probes on what a site gives."""
    (site,) = (split.sites[i] for i in component.site_indices)
    shared = _shared_values(split, component, site, env)
    data = [env[v] for v in site.data]
    outs = [env[v] for v in site.outputs]
    names, values = list(shared), list(shared.values())
    own = [split.pieces[i] for i in component.piece_indices]

    def backward(residuals, cotangents):
      values, data = residuals
      squares = self._squares(
          split,
          component,
          dict(zip(names, values, strict=True)),
          data,
          cotangents,
          [part_of[piece.leaf] for piece in own],
      )
      return squares, cotangents, None, None

    probe = jax.custom_vjp(lambda scalars, outs, values, data: outs)
    probe.defvjp(
        lambda scalars, outs, values, data: (outs, (values, data)), backward
    )
    outs = probe(list(self.scalars), outs, values, data)
    env.update(zip(site.outputs, outs, strict=True))

  def _squares(self, split, component, shared, data, cotangents, own_parts):
    """Squared norms of an example's gradient at a site, over units, by part."""
    found = [jnp.zeros((), dtype) for dtype in self.dtypes]
    for part in dict.fromkeys(own_parts):
      sizes = _norms(
          split,
          component,
          shared,
          data,
          cotangents,
          dtype=self.dtypes[part],
          unit=self.units[part],
      )
      for size, its_part in zip(sizes, own_parts, strict=True):
        if its_part == part:
          found[part] += jnp.square(size.astype(self.dtypes[part]))
    return found


def _parts(region, call, part_of):
  """Numbers of the parts that a call's parameters are in."""
  pieces = region.split.pieces
  return [part_of[pieces[call.sources[i]].leaf] for i in sorted(call.sources)]


def _shared_values(split, component, site, env):
  """Values of the static variables that a site's gradient is made from."""
  read = [split.pieces[i].var for i in component.piece_indices]
  read += [v for eqn in component.eqns for v in flow.variables(eqn)]
  read += flow.variables(site.eqn)
  own = {v for eqn in component.eqns for v in eqn.outvars}
  given = [v for v in dict.fromkeys(read) if v not in site.data]
  return {v: env[v] for v in [*given, *own]}


def _norms(split, component, shared, data, cotangents, *, dtype, unit):
  """Norms of one example's gradient at a site, over `unit`, per piece."""
  (site,) = (split.sites[i] for i in component.site_indices)
  path, form = paths.find(split, component), rules.find(site)
  is_plain = isinstance(path, paths.Path) and path.standardise is None
  record = Recorded(
      split=split,
      component=component,
      path=path if is_plain else paths.NoPath("it is made"),
      shared=shared,
      pieces=[shared[split.pieces[i].var] for i in component.piece_indices],
      data=[data],
      cotangents=[cotangents],
      unscaled=None,
      dtype=dtype,
      unit=unit,
  )
  plan = costs.choose(
      component,
      [form],
      batch_size=1,
      has_path=is_plain,
      has_closed_norm=is_plain,
  )
  if plan == "ghost":
    sizes = [norms.norm(form, data[0], cotangents[0], unit)]
  else:
    grads = plans.example_gradient_fn(record)([data], [cotangents])
    sizes = [magnitude.relative_norm([g], unit) for g in grads]
  # The sum may take all positions into one accumulator; see `norms.py`.
  units = max((form.num_positions if form else 0) / 4 - 8, 0)
  margin = 1 + units * float(jnp.finfo(dtype).eps) / 2
  slack = _slack(site, form, record, unit)
  return [size * margin + slack.astype(size.dtype) for size in sizes]


def _slack(site, form, record, unit):
  """What rounding may move the gradient by, that the sum is made of."""
  (data,), (cotangents,) = record.data, record.cotangents
  if form is not None and record.has_path:
    return plans.rounding(record, [data], [cotangents])
  # Every number of the output is in one term at most: x z, or z.
  terms = [z.astype(record.dtype) for z in cotangents]
  if site.name == "mul" and data:
    terms = [data[0].astype(record.dtype) * terms[0]]
  eps = float(jnp.finfo(record.dtype).eps)
  return 8 * eps * magnitude.relative_norm(terms, unit)
