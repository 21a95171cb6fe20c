"""The noise benchmark runs, and compares what it says it does."""

import pytest

from benchmarks import noise


@pytest.mark.slow  # Compiles five steps of a network.
def test_the_command_reports_every_group(monkeypatch, capsys):
  monkeypatch.setattr(noise, "_SIZES", (1000,))
  monkeypatch.setattr(noise, "_CIPHER_BYTES", 2**18)
  monkeypatch.setattr(noise, "_TURN_SECONDS", 1e-6)
  monkeypatch.setitem(noise._STEPS, "cnn_small", 4)
  noise.main(["--rounds=1", "--models=cnn_small"])
  lines = capsys.readouterr().out.splitlines()
  groups = [line for line in lines if not line.startswith("  ")]
  assert len(groups) == 4 and groups[1].startswith("noise for 1,000")
  assert len(lines) - len(groups) == 2 + 3 + 2 + 5
  # The first of a group is what the others are compared with.
  assert sum("1.00 times the first" in line for line in lines) >= 4
