# Everything a newcomer needs: `make demo`, `make test`, `make lint`.
# The environment in .venv is made on first use, with the versions of
# requirements.lock, from the package registry alone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INPUTS := pyproject.toml requirements.lock

# Bytecode is kept, whatever the caller's environment says: the tests start many
# processes, and pytest rewrites each file of tests.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-slow test-portable lint format docs lock clean

demo: $(VENV)/.installed
	rm -rf runs/demo
	$(BIN)/python -m experiments.train \
	  --config=configs/digits_cnn.py:epsilon=3.0 --workdir=runs/demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

# The zoo of ghost clipping compiles its programs itself: no flag changes them.
test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "slow and not full_xla" -n 2 --dist worksteal \
	  --ignore-glob="*/test_zoo_*.py"
	FULL_XLA=1 $(BIN)/python -m pytest -m full_xla -n 2 --dist worksteal
	ZOO_RUNS=all $(BIN)/python -m pytest -n 2 --dist worksteal \
	  tests/jax_privacy/ghost/test_zoo_*.py

# As other processors, Pythons and versions run it: some hours in all.
# ONLY="sse42 newest313" runs these alone; .ci/portable.py lists them.
test-portable:
	$(PYTHON) .ci/portable.py $(ONLY)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/pyink --check --quiet .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python
	$(BIN)/python -m pytest -q -m "not slow" tests/test_types.py

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/pyink --quiet .

docs: $(VENV)/.installed-test
	$(PIP) install --constraint requirements.lock --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

# Takes the newest versions that pyproject.toml allows and writes them down, for
# each of these interpreters.
PYTHONS ?= python3.11 python3.12 python3.13
lock:
	$(PYTHON) .ci/lock.py $(PYTHONS)

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/.installed: $(INPUTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint requirements.lock --editable \
	  ".[experiments,plots]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --constraint requirements.lock --editable ".[test]"
	touch $@
