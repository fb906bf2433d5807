# One file of tasks. `make` alone lists them. Set-up never needs root.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "appointedd-warehouse needs Python 3.11, 3.12 or 3.13; this is %d.%d. Say which one to use: make setup PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.platform in ("linux", "darwin") else "appointedd-warehouse runs on Linux and macOS; on Windows use WSL.")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check --disable-pip-version-check
	@touch $(STAMP)

.PHONY: setup
setup: $(STAMP) ## Create .venv with the locked dependencies and the command appointedd-warehouse
