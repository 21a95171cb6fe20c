"""Sweeps: what they cost, that none of it is lost, and that no run is twice."""

import doctest
import importlib
import json
import pathlib
import sys
import types

import pytest

import accounting
from accounting import ledger as ledger_lib
from accounting import tuning
from experiments.reports import page as page_lib
from experiments.sweeps import cost as cost_lib
from experiments.sweeps import plan as plan_lib
from experiments.sweeps import results, runner, sweep_run
from experiments.sweeps import space as space_lib
from tests.support import launch

_DELTA = 1e-4
_RATES = ["train.learning_rate=0.25,0.5,1,2"]


def _config(**fields):
  own = {"dp__epsilon": None, "dp__noise_multiplier": 2.0}
  return launch.linear(**own | fields)


class _Stop:
  """Asks a sweep to stop once some runs were started."""

  def __init__(self, folder, after):
    self._path, self._after = folder / "runs" / "started.txt", after

  @property
  def requested(self):
    return self._after is not None and _num_started(self._path) >= self._after


def _num_started(path):
  return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def sweep(tmp_path, monkeypatch):
  """Returns a function that runs a sweep in tmp_path/sweep, with stubs."""
  stub = launch.ROOT / "tests" / "support" / "stub_train.py"
  monkeypatch.setattr(sweep_run, "TRAIN", (sys.executable, "-S", str(stub)))
  monkeypatch.setattr(page_lib.assets, "plotly", lambda: "var none = 0;")
  folder = tmp_path / "sweep"

  def run(
      space=tuple(_RATES),
      *,
      config=None,
      method="grid",
      num_runs=None,
      accounting="all",
      proxy=(),
      distribution="geometric",
      goal="auto",
      stop_after=None,
      workers=1,
      ledger=None,
      retry_failed=False,
  ):
    config = config or _config()
    proxied = sweep_run.proxy(proxy, config)
    made = plan_lib.make(
        config,
        space_lib.parse(space),
        method=method,
        num_runs=num_runs,
        accounting=accounting,
        distribution=distribution,
        parallel=1,
        seed=0,
        goal=goal,
        proxy=proxied,
    )
    run = plan_lib.mechanisms(space_lib.with_setting(config, proxied))({})
    summary = {"status": "finished", "train_seconds": 1.0, **run.to_dict()}
    summary["params_sha256"] = "0" * 64
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    monkeypatch.setenv("STUB_SUMMARY", str(tmp_path / "summary.json"))
    sweep_run.run(
        folder,
        made,
        config,
        config_flags=["--config=recipe.py", "--config.train.learning_rate=9"],
        workers=workers,
        cores_per_run=1,
        gib_per_run=1.0,
        retry_failed=retry_failed,
        ledger=ledger,
        visible_to="staff",
        stop=_Stop(folder, stop_after),
    )
    return folder

  return run


def _started(folder):
  text = (folder / "runs" / "started.txt").read_text()
  return [json.loads(line) for line in text.splitlines()]


def _winner(folder):
  module = types.ModuleType("winner")
  exec((folder / "winner.py").read_text(), module.__dict__)
  return module.get_config()


def test_the_examples_of_the_modules_run():
  folder = pathlib.Path(sweep_run.__file__).parent
  for path in folder.glob("*.py"):
    module = importlib.import_module(f"experiments.sweeps.{path.stem}")
    assert not doctest.testmod(module).failed


def test_a_sweep_that_is_stopped_twice_is_as_one_that_is_not(sweep, capsys):
  folder = sweep(stop_after=1)
  said = capsys.readouterr().out
  assert "to be continued: " in said and not (folder / "winner.py").exists()
  assert (folder / "page.html").exists()
  sweep(stop_after=2)
  sweep()
  started = _started(folder)
  # Each once, but for those that the signal met: these are stubs, which save
  # nothing.
  finished = [each["workdir"] for each in started]
  assert set(finished) == {str(runner.folder(folder, n)) for n in range(4)}
  once = len(started)
  sweep()
  assert len(_started(folder)) == once, "a finished run was run again"
  # No two runs share a seed: they would share their noise.
  seeds = {each["workdir"]: each["config.seed"] for each in started}
  assert sorted(seeds.values()) == ["0", "1", "2", "3"]
  assert all(each["config"] == "recipe.py" for each in started)
  config = _winner(folder)
  assert config.train.learning_rate == 0.5 and config.seed == 1
  page = (folder / "page.html").read_text()
  for number in range(4):
    assert f'<th scope="row">{number:03}</th>' in page
  assert (
      "winner: train.learning_rate=0.5: accuracy 1;" in capsys.readouterr().out
  )


def test_the_whole_costs_what_its_runs_compose_to(sweep, capsys):
  folder = sweep()
  run = plan_lib.mechanisms(_config())({})
  whole = accounting.epsilon(4 * run, delta=_DELTA)
  text = page_lib.claims.at_most(whole)
  said = capsys.readouterr().out
  # Before the first run, at the end, and on the page.
  assert said.splitlines()[0].startswith(f"The sweep is ({text}, 0.0001)-diff")
  assert said.splitlines()[-1] == f"epsilon of the whole: {text}"
  assert (
      f"({text}, 0.0001)-differentially" in (folder / "page.html").read_text()
  )
  assert whole > accounting.epsilon(run, delta=_DELTA)


def test_runs_that_fail_are_named_and_paid_for(sweep, capsys):
  space = ["train.learning_rate=13,0.5,17"]
  folder = sweep(space, workers=3)
  captured = capsys.readouterr()
  assert (
      "run 000: train.learning_rate=13: failed: it ended with code 2: error:"
      in captured.out
  )
  assert (
      "run 002: train.learning_rate=17: failed: it was ended by signal 9"
      in captured.out
  )
  assert "note: runs 000, 002 failed; --retry_failed" in captured.err
  run = plan_lib.mechanisms(_config())({})
  whole = page_lib.claims.at_most(accounting.epsilon(3 * run, delta=_DELTA))
  assert f"epsilon of the whole: {whole}" in captured.out
  page = (folder / "page.html").read_text()
  assert "run 002 failed: it was ended by signal 9" in page
  assert _winner(folder).train.learning_rate == 0.5
  sweep(space)
  assert len(_started(folder)) == 3
  sweep(space, retry_failed=True)
  assert len(_started(folder)) == 5


def test_a_run_that_released_another_mechanism_is_no_result(
    sweep, tmp_path, capsys
):
  folder = sweep(stop_after=0)
  planned = plan_lib.mechanisms(_config())({})
  own = runner.folder(folder, 0)
  own.mkdir(parents=True, exist_ok=True)
  head = {"metric": "accuracy", "is_share": True, "value": 1.0}
  summary = {"train_seconds": 1.0, "headline": head} | planned.to_dict()
  path = own / "summary.json"
  path.write_text(json.dumps(summary))
  assert runner.outcome(folder, 0, planned).state == "finished"
  path.write_text(json.dumps(summary | {"noise_multiplier": 1.0}))
  found = runner.outcome(folder, 0, planned)
  assert found.state == "failed" and "another mechanism" in found.error
  path.write_text("{")
  assert runner.outcome(folder, 0, planned).state == "failed"


def test_the_best_of_a_random_number_is_one_release(sweep, capsys):
  space = ["train.learning_rate=0.1..2:log"]
  folder = sweep(space, method="random", num_runs=3, accounting="best")
  run = plan_lib.mechanisms(_config())({})
  found = tuning.tuning_cost(
      run, num_trials_mean=3, distribution="geometric", delta=_DELTA
  )
  text = page_lib.claims.at_most(found.epsilon_tuned)
  public = (folder / "page.html").read_text()
  assert f"({text}, 0.0001)-differentially" in public
  count = plan_lib.read(folder).num_runs
  assert count == len(_started(folder))
  # What is for others has no run by its number, nor the number of runs.
  for word in (">000<", "runs/", f"{count} runs", "All runs", "sweep-best"):
    assert word not in public, word
  assert "NOT FOR RELEASE" in (folder / "private.html").read_text()
  said = capsys.readouterr().out
  assert said.count("(not for release)") == count
  # Resumed, the number is not drawn again.
  sweep(space, method="random", num_runs=3, accounting="best")
  assert plan_lib.read(folder).num_runs == count


def test_random_numbers_have_the_means_that_are_accounted_for():
  # Of 4000 draws a mean is off by 5 standard errors once in 2 million.
  for name, variance in (
      ("geometric", 4.0 * 3.0),
      ("poisson", 4.0),
      # Of the logarithmic law with parameter p: mean / (1 - p) - mean^2.
      ("logarithmic", None),
  ):
    draws = [cost_lib.draw_count(name, 4.0, seed=i) for i in range(4000)]
    if variance is None:
      odds = tuning.selection.logarithmic_of(4.0).odds
      variance = 4.0 * (1 + odds) - 16.0
    error = (variance / 4000) ** 0.5
    assert abs(sum(draws) / 4000 - 4.0) < 5 * error, name
    assert min(draws) >= (0 if name == "poisson" else 1)
  # Without a seed it is drawn from the system, and not twice the same.
  drawn = {cost_lib.draw_count("poisson", 1e6, seed=None) for _ in range(4)}
  assert len(drawn) > 1


def test_on_public_data_the_private_are_not_paid_for(sweep, capsys):
  proxy = ["data.train_split=test", "data.test_split=train"]
  folder = sweep(accounting="public", proxy=proxy)
  said = capsys.readouterr().out
  assert "cost the private data nothing" in said and "epsilon of" not in said
  for each in _started(folder):
    assert each["config.data.train_split"] == "test"
  config = _winner(folder)
  assert config.data.train_split == "train" and config.seed == 0
  assert config.train.learning_rate == 0.5


def test_optuna_learns_from_earlier_runs_and_is_resumed(sweep, tmp_path):
  pytest.importorskip("optuna")
  space = ["train.learning_rate=0.1..2", "dp.rescale_to_unit_norm=true,false"]
  folder = sweep(space, method="tpe", num_runs=3, stop_after=2)
  sweep(space, method="tpe", num_runs=3)
  whole = plan_lib.read(folder).settings
  folder.rename(tmp_path / "first")
  folder = sweep(space, method="tpe", num_runs=3)
  assert plan_lib.read(folder).settings == whole and len(whole) == 3


def _ledger(path, epsilon):
  ledger_lib.Ledger.create(
      path, unit="example", num_examples=1437, epsilon=epsilon, delta=_DELTA
  )
  return str(path)


def test_a_sweep_that_does_not_fit_its_ledger_is_not_begun(sweep, tmp_path):
  run = plan_lib.mechanisms(_config())({})
  whole = accounting.epsilon(4 * run, delta=_DELTA)
  ledger = _ledger(tmp_path / "small.toml", 0.9 * whole)
  before = pathlib.Path(ledger).read_text()
  with pytest.raises(ValueError, match="within the ledger's budget"):
    sweep(ledger=ledger)
  assert pathlib.Path(ledger).read_text() == before
  assert not (tmp_path / "sweep" / "runs").exists()
  # One that fits is booked by its runs, each by the launcher.
  folder = sweep(ledger=_ledger(tmp_path / "large.toml", 1.1 * whole))
  assert all(each["visible_to"] == "staff" for each in _started(folder))


def test_the_best_is_booked_once_before_the_first_run(sweep, tmp_path):
  path = tmp_path / "ledger.toml"
  ledger = _ledger(path, 10.0)
  best = {"method": "random", "num_runs": 3, "accounting": "best"}
  space = ["train.learning_rate=0.1..2:log"]
  sweep(space, ledger=ledger, stop_after=0, **best)
  booked = ledger_lib.Ledger.read(path)
  assert len(booked.open_bookings) == 1 and booked.spent > 0
  folder = sweep(space, ledger=ledger, **best)
  found = ledger_lib.Ledger.read(path)
  assert not found.open_bookings and found.spent == booked.spent
  assert all("ledger" not in each for each in _started(folder))


@pytest.mark.parametrize(
    "space, rule",
    [
        (
            ["train.lr=1,2"],
            "space must name fields of the config, got 'train.lr'",
        ),
        (["seed=1,2"], "space must leave seed the same in all runs"),
        (["dp.delta=1e-5,1e-6"], "space must leave dp.delta the same"),
        (["data.source=a,b"], "space must leave data.source the same"),
        (["dp.enabled=true,false"], "space must leave dp.enabled the same"),
        (["train.learning_rate=1,1"], "space must be of different values"),
        (["train.learning_rate="], "space must be of different values"),
        (["train.learning_rate=1e999,1"], "space must be of different values"),
        (["train.learning_rate=2..1"], "space must be of ranges that rise"),
        (["train.learning_rate=0..1:log"], "space must be of ranges that rise"),
        (["nowhere.toml"], "space must be field=value"),
        (_RATES * 2, "space must be of fields that are named once"),
        (["train.learning_rate=0.1..1"], "space must be of values alone for a"),
        (["train.learning_rate=a,b"], "train.learning_rate must be"),
    ],
)
def test_a_bad_space_is_one_line(sweep, space, rule, tmp_path):
  with pytest.raises(ValueError) as error:
    sweep(space)
  assert str(error.value).startswith(rule), error.value
  assert not (tmp_path / "sweep" / "runs").exists()


@pytest.mark.parametrize(
    "options, rule",
    [
        ({"accounting": "best"}, "method must be random where the best"),
        (
            {"method": "tpe", "num_runs": 3, "space": ["dp.epsilon=1,2"]},
            "space must leave dp.epsilon the same in all runs with",
        ),
        (
            {
                **{"method": "random", "num_runs": 3, "accounting": "best"},
                "space": ["train.num_steps=2,3"],
            },
            "space must leave train.num_steps the same in all runs with",
        ),
        ({"num_runs": 3}, "num_runs must be None for a grid"),
        ({"accounting": "public"}, "proxy must be given with"),
        ({"proxy": ["data.train_split=test"]}, "proxy must be given with"),
        (
            {"accounting": "public", "proxy": ["data.num_examples=9"]},
            "proxy must be of other data",
        ),
        (
            {"accounting": "public", "proxy": ["dp.epsilon=9"]},
            "proxy must be a field of data",
        ),
    ],
)
def test_what_cannot_be_accounted_for_is_refused(sweep, options, rule):
  with pytest.raises(ValueError) as error:
    sweep(**options)
  assert str(error.value).startswith(rule), error.value


def test_another_sweep_or_a_second_process_is_refused(sweep, tmp_path):
  folder = sweep(stop_after=0)
  with pytest.raises(ValueError, match="differs in num_runs, space.train"):
    sweep(["train.learning_rate=0.25,0.5"])
  with runner.locked(folder):
    with pytest.raises(ValueError, match="used by one sweep at a time"):
      sweep()
  (folder / "sweep.json").write_text("{}")
  with pytest.raises(ValueError, match="sweep.json must be as a sweep wrote"):
    sweep()
  (folder / "sweep.json").unlink()
  with pytest.raises(ValueError, match="holds other files"):
    sweep()


def test_texts_of_a_setting_are_no_program(tmp_path):
  attack = '"""\nimport os; os.abort()\n"""'
  setting = {"model.name": attack, "x": "\ud800"}
  config = {"name": attack, "x": "\ud800"}
  cost = cost_lib.of_public()
  path = results.write_winner(tmp_path, config, setting=setting, cost=cost)
  module = types.ModuleType("winner")
  exec(compile(path.read_text(), "winner.py", "exec"), module.__dict__)
  found = json.loads(module._CONFIG)
  assert found["x"] == "\ud800" and "os.abort()" in found["name"]
