"""What `clipped_grad(...).explain(...)` returns: how each parameter is clipped.

The invariant: it is made from shapes alone. Nothing runs on data, and nothing
of the data is in it.

Example:
  >>> import jax, jax.numpy as jnp
  >>> import jax_privacy
  >>> loss = lambda p, x: jnp.sum(jnp.tanh(x @ p["w"] + p["b"]) ** 2)
  >>> grad_fn = jax_privacy.clipped_grad(loss, l2_clip_norm=1.0)
  >>> shape = lambda *axes: jax.ShapeDtypeStruct(axes, "float32")
  >>> params = {"w": shape(512, 256), "b": shape(1, 256)}
  >>> batch = shape(64, 512)
  >>> for row in grad_fn.explain(params, batch).rows:
  ...   print(row.parameter, row.plan, row.reason or "is the fastest")
  b keep there is no rule for `add`
  w ghost is the fastest
"""

import dataclasses
from collections.abc import Sequence

import jax

_COLUMNS = ("parameter", "shape", "rule", "plan", "flops", "bytes")
_LAST = "why it is not faster"
_TO_THE_RIGHT = ("flops", "bytes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """How the gradient of one parameter is clipped.

  Attributes:
    parameter: Path of the parameter, with dots.
    shape: Shape of the parameter.
    rule: Name of the rule for each equation that uses it: "dense",
      "convolution", "embedding", or "vjp of" an equation that has none.
    plan: Plan by name: "ghost", "keep" or "redo" (docs/ghost_clipping.md);
      "vmap"; "probe" for a norm that is a cotangent, in two passes; or "none"
      for a parameter that does not reach the loss.
    flops: Estimated multiplications and additions for one example's norm and
      its part of the sum; None if they were not estimated. A parameter that
      shares its norm with an earlier one counts 0.
    num_bytes: Estimated bytes of the largest array that is made of one example
      for this: its gradient, or its two Gram matrices.
    reason: Plain words for why no faster plan is taken; empty if there is none.
  """

  parameter: str
  shape: tuple[int, ...]
  rule: str
  plan: str
  flops: float | None
  num_bytes: float
  reason: str


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Explanation:
  """How a batch is clipped. `str` of it is a table.

  Attributes:
    method: Name of the method, "ghost" or "vmap".
    num_examples: Number of examples clipped at a time, on one device.
    rows: Rows, one for each parameter.
    note: Plain words for all rows; empty if there is nothing to say.
  """

  method: str
  num_examples: int
  rows: tuple[Row, ...]
  note: str = ""

  def __str__(self) -> str:
    cells = [(*_COLUMNS, _LAST), *map(_cells, self.rows)]
    lines = _aligned(cells)
    return "\n".join(
        [
            f"method {self.method}, {self.num_examples} examples at a time",
            *lines,
            *filter(None, [self.note]),
        ]
    )

  __repr__ = __str__


def _cells(row: Row) -> tuple[str, ...]:
  flops = "" if row.flops is None else _rounded(row.flops)
  return (
      row.parameter,
      str(row.shape),
      row.rule,
      row.plan,
      flops,
      _rounded(row.num_bytes),
      row.reason,
  )


def _rounded(number: float) -> str:
  """Three digits and a letter for thousands, millions and so on."""
  for suffix in ("", "k", "M", "G", "T"):
    if abs(number) < 999.5:
      return f"{number:.3g}{suffix}"
    number /= 1000
  return f"{number:.3g}P"


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = []
  for row in cells:
    padded = [
        cell.rjust(width) if name in _TO_THE_RIGHT else cell.ljust(width)
        for cell, width, name in zip(
            row, widths, (*_COLUMNS, _LAST), strict=True
        )
    ]
    lines.append("  ".join(padded).rstrip())
  return lines
