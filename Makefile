# Two commands do it all: `make run` and `make test`. The rest is listed by `make help`.
PYTHON ?= python3
BIN := .venv/bin
HOST := 127.0.0.1
PORT ?= 5000
SOURCES := pipeline train tests benchmarks docs notebooks
# The reference system's weights, to stand beside ours in a study: a folder, or none.
ORIGINALS ?= $(if $(wildcard ../shared/reference/*.pth),../shared/reference,none)

# Runs go to one store below mlruns/, unless MLFLOW_TRACKING_URI names another.
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlruns/mlflow.db
export MLFLOW_EXPERIMENT_NAME ?= tinypi
export MLFLOW_DISABLE_TELEMETRY ?= true
# `mlflow run --env-manager local` starts the first `python` it finds: ours.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run study baselines test quick check browser screenshots audit ui server bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

run: setup data/training_pairs_original.npz ## collect data if there is none, train pi0, show the result
	$(BIN)/mlflow run . -e train_pi0 --env-manager local

study: setup ## train, evaluate and compare 10 models a method; renew README and docs/results.md
	$(BIN)/mlflow run . -e ensemble --env-manager local -P originals=$(ORIGINALS)
	$(BIN)/python -m docs.renew_results

baselines: setup ## train and evaluate regression and binning too; renew their table in docs/results.md, after make study
	$(BIN)/mlflow run . -e ensemble --env-manager local -P study=baselines -P methods=regression,binning
	$(BIN)/python -m pipeline report --json > train/reports/all.json
	$(BIN)/python -m docs.renew_results --baselines train/reports/all.json

data/training_pairs_original.npz: | $(BIN)/.installed
	$(BIN)/python -m pipeline collect

setup: $(BIN)/.installed ## make .venv and install the pinned dependencies, once

$(BIN)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name it with make PYTHON=..." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@grep -q 'added by make setup' $(BIN)/activate || printf '\n# added by make setup: plain mlflow commands use this store too\nexport MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-%s}" MLFLOW_EXPERIMENT_NAME="$${MLFLOW_EXPERIMENT_NAME:-%s}"\n' \
		'sqlite:///$(CURDIR)/mlruns/mlflow.db' tinypi >> $(BIN)/activate
	@touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

test: check browser ## everything CI runs: lint, types, import floors, tests
	$(BIN)/pytest -n auto --dist loadgroup

quick: $(BIN)/.installed-dev ## the tests without the slow ones: some minutes on two cores
	$(BIN)/pytest -n auto --dist loadgroup -m "not slow"

check: $(BIN)/.installed-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

browser: # tests that need Chromium fail without it as root, and are skipped for others
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium fonts-liberation; } || \
		echo "no Chromium here, so no browser tests; have it installed: apt-get install chromium fonts-liberation" >&2

screenshots: $(BIN)/.installed-dev browser ## draw README's pictures of MLflow's UI, after make study
	$(BIN)/python -m docs.screenshots

audit: $(BIN)/.installed-dev ## ask pip-audit, in an environment of its own, for known vulnerabilities (needs the network)
	test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit; }
	$(BIN)/python -m pip freeze --exclude-editable > .venv-audit/installed.txt
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv-audit/installed.txt

ui: setup ## open MLflow's UI over the store, on this machine only
	$(BIN)/mlflow ui --backend-store-uri "$(MLFLOW_TRACKING_URI)" --host $(HOST) --port $(PORT)

$(BIN)/.installed-server: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server]'
	@touch $@

server: $(BIN)/.installed-server ## MLflow for a team: PostgreSQL, an S3 store, MLflow's server; AUTH=1 asks for passwords
	@$(BIN)/python -m pipeline server --port $(PORT) $(if $(AUTH),--auth)

bench: $(BIN)/.installed-dev ## measure what README and docs quote: costs, latency, ours against the original's way
	$(BIN)/python -m benchmarks.fast_settings
	$(BIN)/python -m benchmarks.costs
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.against_original

clean: ## remove the environment; data and runs stay
	rm -rf .venv .venv-audit *.egg-info
