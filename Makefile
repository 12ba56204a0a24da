# The developer's entry points; .ci/run calls the same ones. Each does its own set-up in $(VENV).
#   make demo    fetch, convert, run, publish, and show what arrived
#   make test    the tests            make check   ruff and mypy
#   make bench   what edgesdk costs over the bare runtimes
#   make bench-convert  our conversion beside everybody else's (peers in environments of their own)
#   make soak    the long forms of the tests (slow ones included)

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PROJECTS := pyproject.toml converters/pyproject.toml

.PHONY: demo test check bench bench-convert soak clean

demo: $(VENV)/.runs
	$(BIN)/edgesdk demo $(ARGS)

test: $(VENV)/.tests
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.tests
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

bench-convert: $(VENV)/.tests
	$(BIN)/python tests/benchmarks/convert/run.py $(ARGS)

soak: $(VENV)/.tests
	EDGESDK_SOAK=1 $(BIN)/python -m pytest $(ARGS)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "edgesdk's converters need Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: $(BIN)/python $(PROJECTS)
	$(PIP) --editable '.[all]' --editable ./converters
	@touch $@

$(VENV)/.tests: $(VENV)/.runs
	$(PIP) --editable '.[all,test,check]' --editable './converters[cluster,netron]'
	@touch $@

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
