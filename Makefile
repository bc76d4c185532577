# The commands of this project; CONTRIBUTING.md explains them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-proxies

.DEFAULT_GOAL := help
.PHONY: help serve test check bench format clean

help:
	@echo "make serve    start the server on http://127.0.0.1:9999     (ARGS='--port 8080 --workers 4')"
	@echo "make test     check the code, then run all tests             (ARGS='tests/vfs -k mounts')"
	@echo "make check    formatting, lint, types, import contracts"
	@echo "make bench    benchmarks, as ratios against baselines        (ARGS=--help)"
	@echo "make format   format the code, apply the safe fixes of the linter"
	@echo "make clean    remove the virtual environment and what tools left behind"
	@echo "PYTHON=python3.12 make ... uses another interpreter, 3.11 or newer."

# Made anew when the dependencies change.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fs9 needs Python 3.11 or newer, and '$(PYTHON)' is not one:" \
	    "run make with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "cannot make a virtual environment: install the venv module of '$(PYTHON)'" \
	    "(on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing into $(VENV) (once, and when the dependencies change) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

serve: $(STAMP)
	@exec $(BIN)/fs9 serve $(ARGS)

# Large, and only needed by tests of what stands in front of the server.
$(TEST_STAMP): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[proxies]'
	@touch $@

# Three processes, because many tests wait: a test file stays in one of them, so fixtures are made
# once a file. A test that fails is run once more; one that passes then is listed as RERUN, which
# is a defect to look into.
test: check $(TEST_STAMP)
	./tools/install-test-programs
	$(BIN)/python -m pytest -n 3 --dist loadfile --reruns 1 -rR $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
