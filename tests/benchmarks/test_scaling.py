"""The grid of noise-to-batch ratios: what is run, and what is compared."""

import pytest

from benchmarks import scaling


def test_spreads_are_of_batches_and_of_ratios():
  points = [
      scaling.Point(9, ratio, batch, loss)
      for ratio, batch, loss in (
          (0.0, 8, 1.0),
          (0.0, 16, 1.25),
          (0.5, 8, 2.0),
          (0.5, 16, 2.75),
      )
  ]
  # Of the same model and ratio 0.25 and 0.75; and batch size, 1 and 1.5.
  assert scaling.spreads(points) == (0.5, 1.25)
  # Of another model's numbers nothing is compared with these.
  far = [point._replace(num_parameters=7, loss=99.0) for point in points]
  assert scaling.spreads(points + far) == (0.25, 0.625)


@pytest.mark.slow
def test_the_command_prints_the_grid_and_draws_it(tmp_path, capsys):
  path = tmp_path / "grid.svg"
  scaling.main([
      *("--widths=4", "--ratios=0,9", "--batch_sizes=2,4"),
      *("--num_steps=8", "--learning_rate=0.1", f"--plot={path}"),
  ])  # fmt: skip
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 5 and lines[0].startswith("     332 parameters, ratio 0")
  # Noise of 9 clip norms takes any model past a uniform guess, log 16 = 2.77.
  losses = [float(line.split()[-1]) for line in lines[:4]]
  assert losses[1] > 2.77 and losses[3] > 2.77
  assert losses[0] < losses[1] and losses[2] < losses[3]
  text = path.read_text()
  assert text.startswith("<?xml") and "</svg>" in text


@pytest.mark.slow  # Two more compilations.
def test_a_point_is_of_its_seed():
  sizes = dict(widths=(4,), ratios=(0.1,), batch_sizes=(2,), num_steps=2)
  ours, other = (next(scaling.run(**sizes, seed=seed)) for seed in (0, 1))
  assert ours.loss != pytest.approx(other.loss, rel=1e-6)
