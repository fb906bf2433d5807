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

export DAGSTER_HOME ?= $(CURDIR)/data/dagster

$(DAGSTER_HOME)/dagster.yaml:
	@# data/ with it, where there is none: for its owner, and to be entered by the group, as the product makes it.
	@umask 027 && mkdir -p $(DAGSTER_HOME)
	@cp pipelines/dagster.yaml $@

.PHONY: dagster-home
dagster-home: $(DAGSTER_HOME)/dagster.yaml ## Make Dagster's folder (DAGSTER_HOME) with this project's settings, where there is none

.PHONY: demo
demo: $(STAMP) ## Show the whole job on a made-up business, in about a minute; needs no network and no settings
	@$(BIN)/python -m tests.demo

.PHONY: test
test: lint types ## Lint, types and all tests but the long proofs (make torture)
	$(BIN)/python -m pytest -n 2

.PHONY: lint
lint: $(STAMP) ## Lint and formatting only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(STAMP) ## Types only
	$(BIN)/mypy

.PHONY: torture
torture: $(STAMP) ## The long proofs of docs/guarantees.md (hundreds of kills, full disks, random histories); about an hour
	$(BIN)/python -m pytest -n 2 -m long --timeout 3600

BENCH := build/bench-venv
BENCH_STAMP := $(BENCH)/.installed

# The peers' environment: never the project's own, since what they need is not what the product needs.
$(BENCH_STAMP): tests/bench/requirements.lock
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/bench/requirements.lock
	@$(BENCH)/bin/python -m pip check --disable-pip-version-check
	@touch $@

.PHONY: bench
bench: $(STAMP) $(BENCH_STAMP) ## This product, an afternoon's script and dlt side by side, judged by the goals; up to 40 minutes; OPTIONS='--only P1,P6'
	@$(BIN)/python -m tests.bench $(OPTIONS)

.PHONY: bench-quick
bench-quick: $(STAMP) ## The small bench: requests, memory and growth within generous bounds; under half a minute
	@$(BIN)/python -m tests.bench --quick

.PHONY: growth
growth: $(STAMP) ## Full, quiet and 1 % runs at 10 thousand to a million bookings; OPTIONS=--write-docs
	@$(BIN)/python -m tests.bench --growth $(OPTIONS)

.PHONY: bench-lock
bench-lock: ## Resolve the peers' tests/bench/requirements.lock again (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url \
		--output-file tests/bench/requirements.lock tests/bench/requirements.in

.PHONY: dev
dev: $(STAMP) ## Dagster UI and daemon against the bundled emulator (http://127.0.0.1:3000)
	@$(BIN)/python -m tests.dev

.PHONY: start
start: $(STAMP) dagster-home ## Dagster UI and daemon with your own API client, from .env (http://127.0.0.1:3000)
	@# Not from here: Dagster would read the .env of its working folder into its processes, where a mended line would change nothing until they start again.
	@cd $(DAGSTER_HOME) && $(CURDIR)/$(BIN)/dagster dev -h 127.0.0.1 -w $(CURDIR)/workspace.yaml

.PHONY: check
check: $(STAMP) ## Try your own API client: token, accounts, one page of each stream, disk; each line ok or the cure
	@$(BIN)/appointedd-warehouse check

.PHONY: connect
connect: $(STAMP) ## Learn the real API's names with your own API client; OPENAPI=FILE gives it the vendor's file
	@$(BIN)/appointedd-warehouse connect $(if $(OPENAPI),--openapi $(OPENAPI))

.PHONY: sync
sync: $(STAMP) ## One nightly with your own API client, from .env
	@$(BIN)/appointedd-warehouse sync

.PHONY: shell
shell: $(STAMP) ## Read-only SQL on the published file
	@$(BIN)/appointedd-warehouse shell

.PHONY: emulator
emulator: $(STAMP) ## Run the bundled emulator of API V2 by hand
	@$(BIN)/python -m tests.emulator

.PHONY: lock
lock: $(STAMP) ## Resolve requirements.lock again for all supported Pythons and systems (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url \
		--extra dev --output-file requirements.lock pyproject.toml

AUDIT := build/audit

.PHONY: audit
audit: ## Known vulnerabilities of the locked dependencies, by pip-audit in build/audit (needs the network)
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9,<3'
	@# Strict: a dependency that could not be looked up is no dependency without vulnerabilities.
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

.PHONY: setup-system
setup-system: ## Machine-wide packages that tests can use (needs root); none is needed so far
	@echo "No test needs a machine-wide package."

.PHONY: clean
clean: ## Remove what was built; never data/
	rm -rf build dist .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './data/*' -prune -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
