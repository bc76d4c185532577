# The commands of this project; CONTRIBUTING.md explains them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-proxies
# The many processes of the tests are to find modules compiled.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help serve test programs compiled check types imports lint bench format clean

help:
	@echo "make serve    start the server on http://127.0.0.1:9999     (ARGS='--port 8080 --workers 4')"
	@echo "make test     check the code, then run all tests             (ARGS='tests/vfs -k mounts')"
	@echo "make check    formatting, lint, types, import contracts"
	@echo "make bench    benchmarks, as ratios against baselines        (ARGS=--help)"
	@echo "make format   format the code, apply the safe fixes of the linter"
	@echo "make clean    remove the virtual environment and what tools left behind"
	@echo "PYTHON=python3.12 make ... uses another interpreter, 3.11 or newer."

# Made anew when the dependencies change. The proxies are large, and only needed by tests of what
# stands in front of the server.
$(STAMP): EXTRAS := dev
$(TEST_STAMP): EXTRAS := dev,proxies
$(STAMP) $(TEST_STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fs9 needs Python 3.11 or newer, and '$(PYTHON)' is not one:" \
	    "run make with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "cannot make a virtual environment: install the venv module of '$(PYTHON)'" \
	    "(on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing into $(VENV) (once, and when the dependencies change) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $(STAMP) $@

serve: $(STAMP)
	@exec $(BIN)/fs9 serve $(ARGS)

# Four processes, because many tests wait: a test file stays in one of them, so fixtures are made
# once a file. A test that fails is run once more; one that passes then is listed as RERUN, which
# is a defect to look into.
test:
	@$(MAKE) --no-print-directory --jobs $(TEST_STAMP) programs
	@$(MAKE) --no-print-directory --jobs check compiled
	$(PYTEST) -n 4 --dist loadfile --reruns 1 -rR $(ARGS)

programs:
	@./tools/install-test-programs

# Once, instead of in each process of the tests at the same time. What is wrong they tell.
compiled:
	@$(PYTEST) --collect-only -q $(ARGS) >/dev/null 2>&1 || true

check: $(STAMP)
	@$(MAKE) --no-print-directory --jobs --output-sync types imports lint

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports --no-logo

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
