"""Says what memory a device takes, for parameters split over 1, 2, 4 and 8.

  python -m benchmarks.mesh_memory [--model=scan_checkpoint] [--batch-size=16]

Compiles the clipped sum of a model of `benchmarks.functions`, in two passes and
in one, for meshes of CPU devices that are made here; nothing is run. Prints
MiB of arguments, results and temporary arrays of one device, as XLA counts
them, and their sum as a share of one device's.

Invariant: nothing is asserted, and no time is measured.

>>> share_of(3.0, 4.0)
'0.75'
"""

import argparse
import os

_SIZES = (1, 2, 4, 8)


def main() -> None:
  """Compiles, and prints a table."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", default="scan_checkpoint")
  parser.add_argument("--batch-size", type=int, default=16)
  args = parser.parse_args()
  os.environ["JAX_NUM_CPU_DEVICES"] = str(max(_SIZES))  # Before JAX starts.
  for passes in (2, 1):
    base = None
    for fsdp in _SIZES:
      found = _mebibytes(args.model, args.batch_size, passes, fsdp)
      base = base or sum(found)
      cells = " ".join(f"{n:8.2f}" for n in (*found, sum(found)))
      print(f"passes={passes} fsdp={fsdp}: {cells}", share_of(sum(found), base))


def share_of(part: float, whole: float) -> str:
  """Returns a share, as text.

  Args:
    part: Number.
    whole: Number, not zero.
  """
  return f"{part / whole:.2f}"


def _mebibytes(model, batch_size, passes, fsdp):
  """MiB of arguments, results and temporary arrays of one device."""
  import jax

  import jax_privacy
  from benchmarks import functions
  from jax_privacy import sharding

  mesh = sharding.make_mesh(data=1, fsdp=fsdp)
  loss, params, inputs = functions.build(model, batch_size)
  grad_fn = jax_privacy.clipped_grad(
      loss, l2_clip_norm=1.0, keep_batch_dim=False, passes=passes, mesh=mesh
  )
  params = sharding.put(mesh, params)
  inputs = sharding.put_batch(mesh, inputs)
  compiled = jax.jit(grad_fn.fun).lower(params, inputs).compile()
  found = compiled.memory_analysis()
  return [
      num_bytes / 2**20
      for num_bytes in (
          found.argument_size_in_bytes,
          found.output_size_in_bytes,
          found.temp_size_in_bytes,
      )
  ]


if __name__ == "__main__":
  main()
