# What a newcomer types. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MEASURE := $(BIN)/python -m bench
RESULT := --figure build/bench --json build/bench
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench docs clean

help:  ## list these lines
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## install dfmq and its tools into .venv (the others do this by themselves)

demo: $(STAMP)  ## watch five peers on this machine share a file whose source is read once
	@$(BIN)/python bench/demo.py

test: $(STAMP)  ## every test this machine can run, in under ten minutes
	$(BIN)/python -m pytest

check: $(STAMP)  ## style, types, import floors and the quick tests, in under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -x tests/model tests/wire tests/machines tests/docs

# Small enough to be over in a quarter of an hour; docs/benchmarks.md has the commands of the figures it shows.
bench: $(STAMP)  ## every measurement at a modest size, one after the other; results in build/bench
	$(MEASURE).micro --repeats 3 $(RESULT)/micro.json
	$(MEASURE).small --peers 10 --gets 20 --rounds 2 --files 500 $(RESULT)/small.json
	$(MEASURE).broker --peers 100 1000 --seconds 5 $(RESULT)/broker.json
	$(MEASURE).swarm --size 50MiB --peers 200 peers-200 slow-10 slow-30 crash-5 join zones $(RESULT)/swarm.json
	$(MEASURE).loopback --pair --size-mib 256 --rounds 1 $(RESULT)/pair.json
	$(MEASURE).loopback --receivers 1 4 8 --size-mib 64 --rounds 1 $(RESULT)/loopback.json
	$(MEASURE).shaped --receivers 1 10 --rounds 1 $(RESULT)/shaped.json

docs: $(STAMP)  ## hold the documents against the code: clauses, tables, names, links, commands
	$(BIN)/python -m pytest -q tests/docs

clean:  ## remove .venv and everything that was built or cached
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made once, and again when pyproject.toml changes. Every failure says what to do.
$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "dfmq needs Python 3.11 or newer, and there is no $(PYTHON): install it, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dfmq needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version): say make PYTHON=python3.12 (or whichever you have)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv module first (Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test,check]' --config-settings editable_mode=compat
	@touch $@
