"""A ledger: what is spent, what is refused, and what hands or time change."""

import datetime
import re

import pytest

import accounting
from accounting import (
    ApproximateDp,
    Composition,
    Disjoint,
    Laplace,
    Ledger,
    samplers,
)
from accounting import ledger as ledger_lib
from tests.support import mechanisms

_DAY = datetime.date(2026, 11, 28)
_RUN = mechanisms.run(noise=4.0, prob=0.01, steps=50, num_examples=1000)
_BOOKING = "0123456789abcdef" * 2


def _new(tmp_path, **changes):
  fields = {
      "unit": "patient",
      "num_examples": 50_000,
      "epsilon": 1.0,
      "delta": 1e-6,
      "what": "records of one hospital",
      "created": _DAY,
  }
  return Ledger.create(tmp_path / "ledger.toml", **(fields | changes))


def _add(ledger, released, **changes):
  said = {"what": "ages", "visible_to": "the public", "date": _DAY}
  return ledger.append(released, **(said | changes))


def test_it_says_what_is_spent_and_left(tmp_path):
  ledger = _new(tmp_path)
  assert (ledger.spent, ledger.left) == (0.0, 1.0)
  whole = Composition([_RUN, (Laplace(scale=10.0), 3)], unit="patient")
  ledger = _add(_add(ledger, _RUN), 3 * Laplace(scale=10.0))
  assert ledger.spent == accounting.epsilon(whole, delta=1e-6)
  assert ledger.left == 1.0 - ledger.spent
  planned = Laplace(scale=5.0)
  assert ledger.after(planned) == accounting.epsilon(
      whole + Composition([planned], unit="patient"), delta=1e-6
  )
  # Read again it is the same, to the digit.
  again = Ledger.read(ledger.path)
  assert again == ledger and again.spent == ledger.spent
  assert [e.number for e in again.entries] == [1, 2]
  assert again.entries[0].date == _DAY


_SCHEDULE = ((0, 1.0), (20, 2.0))


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "released",
    [
        mechanisms.run(
            4.0, 0.01, 50, num_examples=1000, batch_size_schedule=_SCHEDULE
        ),
        mechanisms.run(
            9.0,
            0.1,
            9,
            num_examples=999,
            sampling="truncated_poisson",
            max_batch_size=150,
        ),
        accounting.DiscreteGaussian(stddev=30.0) + 2 * Laplace(scale=1 / 0.003),
        accounting.Public(what='say "no": \\ and √'),
        ApproximateDp(epsilon=1e-300, delta=1e-12) + Laplace(scale=12345.678),
        Disjoint(by="ward", of={"a b": 2 * Laplace(scale=9.0), "c": _RUN}),
    ],
    ids=lambda released: released.described,
)
def test_what_is_written_is_read_to_the_digit(tmp_path, released):
  ledger = _new(tmp_path, epsilon=9.0)
  _add(ledger, released, what='quotes ", \\ and ünïcode', run="runs/a b")
  [entry] = Ledger.read(ledger.path).entries
  assert entry.released.releases == Composition([released]).releases
  assert entry.what == 'quotes ", \\ and ünïcode' and entry.run == "runs/a b"


def test_what_exceeds_the_budget_is_refused(tmp_path):
  ledger = _add(_new(tmp_path), Laplace(scale=2.0))
  before = ledger.path.read_bytes()
  with pytest.raises(
      accounting.BudgetError,
      match=re.escape(
          "must be within the ledger's budget, epsilon 1 at delta 1e-06, got"
          " epsilon 1.500, of which 0.500 is spent"
      ),
  ):
    _add(ledger, Laplace(scale=1.0))
  assert ledger.path.read_bytes() == before
  # What meets it exactly is within it.
  assert _add(ledger, Laplace(scale=2.0)).left <= 1e-5
  # Who holds an old copy adds to what the file holds now.
  with pytest.raises(accounting.BudgetError):
    _add(ledger, Laplace(scale=2.0))


def test_units_relations_and_sizes_are_never_mixed(tmp_path):
  ledger = _new(tmp_path)
  for released, text in (
      (
          Composition([_RUN], unit="example"),
          "unit must be 'patient', as all of the ledger is",
      ),
      (
          Laplace(scale=9.0, neighboring_relation="replace"),
          "neighboring_relation must be 'add_or_remove_one', as the ledger's",
      ),
      (
          mechanisms.run(4.0, 0.01, 5, num_examples=50_001),
          "num_examples must be at most 50000, as the ledger states",
      ),
      ("laplace", "releases must be a sequence of mechanisms"),
  ):
    with pytest.raises(ValueError, match=text):
      ledger.after(released)
    with pytest.raises(ValueError, match=text):
      _add(ledger, released)
  assert _add(ledger, Composition([_RUN], unit="patient")).spent > 0


def test_a_run_is_booked_once_and_settled(tmp_path):
  ledger = _new(tmp_path)
  booked = _add(ledger, _RUN, booking=_BOOKING, run="runs/a")
  assert booked.spent == accounting.epsilon(Composition([_RUN]), delta=1e-6)
  assert [e.run for e in booked.open_bookings] == ["runs/a"]
  with pytest.raises(ValueError, match="booking must be new, and not of entry"):
    _add(ledger, _RUN, booking=_BOOKING)
  settled = booked.settle(_BOOKING, params_sha256="a" * 64)
  assert settled.open_bookings == () and settled.spent == booked.spent
  assert [e.kind for e in settled.entries] == ["booking", "settlement"]
  with pytest.raises(ValueError, match="booking must be one that is not settl"):
    booked.settle(_BOOKING, params_sha256="a" * 64)
  with pytest.raises(ValueError, match="params_sha256 must be new, and not of"):
    _add(settled, _RUN, params_sha256="a" * 64)
  with pytest.raises(ValueError, match="booking must be one of ledger.toml"):
    settled.settle("0" * 32, params_sha256="b" * 64)


def _lines_of(path):
  return path.read_text(encoding="utf-8").split("\n")[:-1]


def _written(tmp_path):
  ledger = _new(tmp_path)
  _add(_add(ledger, Laplace(scale=20.0)), _RUN, what="a model")
  return ledger.path


def test_each_line_that_is_changed_is_named(tmp_path):
  path = _written(tmp_path)
  lines = _lines_of(path)
  for i, line in enumerate(lines):
    for changed in (line + " ", "x", line[:-1]):
      if changed == line:
        continue
      edited = [*lines[:i], changed, *lines[i + 1 :]]
      path.write_text("\n".join([*edited, ""]), encoding="utf-8")
      with pytest.raises(
          ledger_lib.ChangedError,
          match=r"^line \d+ of ledger.toml must be as it was sealed",
      ) as caught:
        Ledger.read(path)
      named = int(str(caught.value).split()[1])
      # A broken seal is found where its block ends, or the next one's.
      is_seal = line.startswith(("sha256", "lines", "[seal", "[entry.seal"))
      assert named == i + 1 or is_seal
  path.write_text("\n".join([*lines, ""]), encoding="utf-8")
  assert len(Ledger.read(path).entries) == 2


@pytest.mark.parametrize("how", ["removed", "doubled", "added", "swapped"])
def test_lines_that_come_or_go_are_noticed(tmp_path, how):
  path = _written(tmp_path)
  lines = _lines_of(path)
  for i in range(len(lines)):
    edited = {
        "removed": [*lines[:i], *lines[i + 1 :]],
        "doubled": [*lines[: i + 1], *lines[i:]],
        "added": [*lines[:i], "# all is well", *lines[i:]],
        "swapped": [*lines[:i], *lines[i : i + 2][::-1], *lines[i + 2 :]],
    }[how]
    if edited == lines:
      continue
    path.write_text("\n".join([*edited, ""]), encoding="utf-8")
    with pytest.raises(ledger_lib.ChangedError) as caught:
      Ledger.read(path)
    named = int(re.search(r"line (\d+) of", str(caught.value))[1])
    # Next to a seal, the line before may be the one that is named.
    assert named >= i or how == "removed"


def test_entries_that_come_or_go_are_noticed(tmp_path):
  path = _written(tmp_path)
  text = path.read_text(encoding="utf-8")
  header, first, second = re.split(r"(?<=\")\n(?=\n\[\[entry)", text)
  for edited in (
      (header, second),
      (header, second, first),
      (header, first, first, second),
      (first, second),
      (header, first, second.replace("noise_multiplier = 4.0", "")),
  ):
    path.write_text("\n".join(edited), encoding="utf-8")
    with pytest.raises(ledger_lib.ChangedError, match="line"):
      Ledger.read(path)
  # Cut at an entry's end it is a ledger, of another seal: kept elsewhere.
  path.write_text(f"{header}\n{first}\n", encoding="utf-8")
  assert len(Ledger.read(path).entries) == 1


@pytest.mark.parametrize(
    "data, text",
    [
        (b"", "must hold a sealed header, got none"),
        (b"\xff\n", "line 1 of ledger.toml must be UTF-8"),
        (b"[[entry]]\n", "line 1 of ledger.toml must be as it was sealed"),
        (b"a = 1", "line 1 of ledger.toml must be as it was sealed"),
        (b"lines = \n" * 3, "line 1 of ledger.toml"),
        (b'sha256 = "' + b"0" * 64 + b'"\n', "line 1 of ledger.toml"),
        (b"x" * 100 + b"\r\n", "line 1 of ledger.toml"),
    ],
)
def test_files_of_others_are_not_trusted(tmp_path, data, text):
  path = tmp_path / "ledger.toml"
  path.write_bytes(data)
  with pytest.raises(ValueError, match=text):
    Ledger.read(path)


@pytest.mark.parametrize(
    "lines, text",
    [
        (["[[entry]]", "number = 2"], "entry 1 of ledger.toml, from line"),
        (["[[entry]]"], "number must be given in every entry, got None"),
        (["x = 1"], "a block must be a mapping of entry|entry must be given"),
        (["entry = 3"], "entry must be one for each seal, got"),
        (["[[entry]]", "a ="], "must begin valid TOML"),
    ],
)
def test_a_sealed_entry_is_checked_too(tmp_path, lines, text):
  ledger = _new(tmp_path)
  held = ledger.path.read_text(encoding="utf-8")
  more = ledger_lib.chain.seal(ledger.seal, lines, table="entry.seal")
  if lines == ["entry = 3"]:
    more = ledger_lib.chain.seal(ledger.seal, ["entry = [3, 4]"], table="seal")
  ledger.path.write_text(held + more, encoding="utf-8")
  with pytest.raises(ValueError, match=text):
    Ledger.read(ledger.path)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"unit": ""}, "unit must be a word or two"),
        ({"num_examples": 0}, "num_examples must be an integer"),
        ({"epsilon": float("nan")}, "epsilon must be a finite number"),
        ({"delta": 1.0}, "delta must be a number in"),
        ({"neighboring_relation": "x"}, "neighboring_relation must be one of"),
        ({"what": "two\nlines"}, "what must be a text that names the data set"),
    ],
)
def test_a_header_is_checked(tmp_path, changes, text):
  with pytest.raises(ValueError, match=text):
    _new(tmp_path, **changes)
  assert not (tmp_path / "ledger.toml").exists()


def test_no_file_is_written_over(tmp_path):
  ledger = _new(tmp_path)
  with pytest.raises(ValueError, match="ledger must be a file that is not the"):
    _new(tmp_path)
  with pytest.raises(ValueError, match="ledger must be a file made by"):
    Ledger.read(tmp_path)
  assert Ledger.read(ledger.path) == ledger


@pytest.mark.slow
def test_a_release_without_a_loss_distribution_is_counted(
    tmp_path, monkeypatch
):
  fixed_size = samplers.get("fixed_without_replacement")
  monkeypatch.setattr(type(fixed_size), "analyses", lambda self, run: ("rdp",))
  fixed = mechanisms.run(
      60.0,
      0.01,
      5,
      num_examples=1000,
      sampling="fixed_without_replacement",
      neighboring_relation="replace_one",
  )
  ledger = _new(tmp_path, neighboring_relation="replace")
  ledger = _add(ledger, fixed)
  assert ledger.spent == accounting.epsilon(fixed, delta=1e-6, accountant="rdp")
