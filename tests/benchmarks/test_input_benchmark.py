"""The input benchmark runs, and times each kind of source."""

from benchmarks import input as benchmark


def test_the_command_times_every_kind(monkeypatch, capsys):
  # No network is compiled and no worker started: both are timed by hand.
  monkeypatch.setattr(benchmark, "_step_rate", lambda model: 100.0)
  benchmark.main(
      ["--examples=20", "--batch-size=8", "--rounds=2", "--workers=0"]
      + ["--jpeg-size=20,30", "--image-size=8,8"]
  )
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == "a step of wrn_16_4: 100.0 examples/s"
  kinds = [line.split("  ")[1] for line in lines[1:]]
  assert kinds == [
      "arrays, on the device",
      "arrays, on the host",
      "JPEG, 0 workers",
  ]
  assert all("% of a step, first batch after" in line for line in lines[1:])
