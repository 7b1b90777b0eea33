# Two commands do it all: `make run` and `make test`. The rest is listed by `make help`.
STARTED := $(shell date +%s)
PYTHON ?= python3
BIN := .venv/bin
HOST := 127.0.0.1
PORT ?= 5000
SOURCES := pipeline train tests benchmarks docs notebooks
# The reference system's weights, to stand beside ours in a study: a folder, or none.
ORIGINALS ?= $(if $(wildcard ../shared/reference/*.pth),../shared/reference,none)
# PyPI's torch for Linux carries CUDA, several GB. Where there is no NVIDIA GPU, take the CPU build from PyTorch's own
# index; TORCH_INDEX= takes PyPI's, and the address of another index that one's.
TORCH_INDEX ?= $(shell test "$$(uname)" != Linux || nvidia-smi -L >/dev/null 2>&1 || echo https://download.pytorch.org/whl/cpu)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
UV := uv==0.13.9

# Runs go to one store below mlruns/, unless MLFLOW_TRACKING_URI names another.
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlruns/mlflow.db
export MLFLOW_EXPERIMENT_NAME ?= tinypi
export MLFLOW_DISABLE_TELEMETRY ?= true
# `mlflow run --env-manager local` starts the first `python` it finds: ours.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run study baselines suite horizon results test test-long quick check browser screenshots lock audit ui \
	server bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

setup: $(BIN)/.installed ## make .venv and install the locked packages, once
	@echo 'ready; for commands of your own: source .venv/bin/activate'

run: $(BIN)/.installed data/training_pairs_original.npz ## collect data if there is none, train pi0, show the result
	$(BIN)/mlflow run . -e train_pi0 --env-manager local
	@echo 'for commands of your own: source .venv/bin/activate'

study: $(BIN)/.installed ## train, evaluate and compare 10 models per method
	$(BIN)/mlflow run . -e ensemble --env-manager local -P originals=$(ORIGINALS)

# All methods; pi0 and pi0-FAST also as published: from sampled noise, and one scale and the likeliest token; and
# pi0-FAST by sampled tokens.
COMPARED := pi0,pi0_fast,regression,binning,pi0 start_noise=1,pi0_fast scheme=one_scale decoding=greedy,pi0_fast decoding=sampled
baselines: $(BIN)/.installed ## add to that study the baselines, both methods as published, and sampled tokens
	$(BIN)/mlflow run . -e ensemble --env-manager local -P 'methods=$(COMPARED)' -P originals=$(ORIGINALS)

suite: $(BIN)/.installed ## train, evaluate and compare 10 models per method on all tasks
	$(BIN)/mlflow run . -e suite --env-manager local -P 'methods=$(COMPARED)' -P n_models=10 \
		-P episodes=300,pendulum=1000 -P originals=$(ORIGINALS)

# Two lengths of plans in one study, on the same demonstrations and episodes.
HORIZONS := pi0,pi0 horizon=25,pi0_fast,pi0_fast horizon=25
horizon: $(BIN)/.installed ## compare plans of 50 and of 25 actions, on two tasks
	$(BIN)/mlflow run . -e suite --env-manager local -P suite=horizon -P tasks=pendulum,avoiding \
		-P n_models=10 -P episodes=300 -P 'methods=$(HORIZONS)'

results: $(BIN)/.installed ## put the results of the suite into README and docs
	$(BIN)/python -m docs.renew_results
	$(BIN)/python -m docs.renew_lesson
	-$(BIN)/python -m docs.renew_search
	-$(BIN)/python -m docs.renew_horizon

data/training_pairs_original.npz: | $(BIN)/.installed
	$(BIN)/python -m pipeline collect

$(BIN)/.installed: pyproject.toml constraints.txt
	@case '$(subst ','\'',$(CURDIR))' in *[?%]*) echo "error: expected a folder without ? and % in its path, which the address of a store cannot have. Move the project" >&2; exit 2;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name it with make PYTHON=..." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),@PIP_INDEX_URL=$(TORCH_INDEX) $(PIP) --no-deps --retries 2 torch 2>/dev/null || \
		echo "$(TORCH_INDEX) does not answer: torch comes from pip's own index" >&2)
	$(PIP) --editable .
	@test -e mlflow.db || test -L mlflow.db || ln -s mlruns/mlflow.db mlflow.db  # where plain mlflow looks: one store
	@grep -q 'added by make setup' $(BIN)/activate || { { \
		sed 's/^    unset VIRTUAL_ENV$$/    test -z "$${_OUR_STORE:-}" || unset _OUR_STORE MLFLOW_TRACKING_URI MLFLOW_EXPERIMENT_NAME; unset VIRTUAL_ENV/' $(BIN)/activate; \
		printf '%s\n' '# added by make setup: plain mlflow commands use the same store, until deactivate' \
			'test -n "$${MLFLOW_TRACKING_URI:-}" || _OUR_STORE=sqlite:///$${VIRTUAL_ENV%/.venv}/mlruns/mlflow.db' \
			'export MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-$$_OUR_STORE}"' \
			'export MLFLOW_EXPERIMENT_NAME="$${MLFLOW_EXPERIMENT_NAME:-tinypi}"'; \
		} > .venv/activate && mv .venv/activate $(BIN)/activate; }
	@touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@

# Tests wait for servers, locks and clocks for half of their time: more of them than cores.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) \* 3 / 2)

test: check browser ## everything CI runs: lint, types, layers of imports, tests; prints its own time
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup
	@echo "make test took $$(( $$(date +%s) - $(STARTED) )) s"

test-long: check browser ## the same with the long tests
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m ""
	@echo "make test-long took $$(( $$(date +%s) - $(STARTED) )) s"

quick: $(BIN)/.installed-dev ## the tests without the slow ones
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not slow and not long"

check: $(BIN)/.installed-dev ## lint, types, layers of imports: seconds
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

browser: ## install Chromium for the tests of MLflow's UI, if there is none and this is root
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium fonts-liberation; } || \
		echo "no Chromium here, so no browser tests; have it installed: apt-get install chromium fonts-liberation" >&2

screenshots: $(BIN)/.installed-dev browser ## draw README's pictures of MLflow's UI, after make study
	$(BIN)/python -m docs.screenshots

lock: ## resolve every package anew, for all systems, within the pins of pyproject.toml: constraints.txt
	test -x .venv-lock/bin/uv || $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	.venv-lock/bin/uv pip compile pyproject.toml --quiet --upgrade --all-extras --universal --python-version 3.11 \
		--no-annotate --custom-compile-command 'make lock' --output-file constraints.txt

audit: $(BIN)/.installed-dev ## ask pip-audit for known vulnerabilities
	test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit; }
	$(BIN)/python -m pip freeze --exclude-editable > .venv-audit/installed.txt
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv-audit/installed.txt

ui: $(BIN)/.installed ## open MLflow's UI over the store, on this machine only
	@case "$$MLFLOW_TRACKING_URI" in \
		http*) echo "MLFLOW_TRACKING_URI names a server, which has the UI: $$(echo "$$MLFLOW_TRACKING_URI" | sed 's,//[^/]*@,//,')";; \
		*) MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --backend-store-uri "$$MLFLOW_TRACKING_URI" \
			--host $(HOST) --port $(PORT) --workers 1;; \
	esac

$(BIN)/.installed-server: $(BIN)/.installed
	$(PIP) --editable '.[server]'
	@touch $@

server: $(BIN)/.installed-server ## MLflow for a team; AUTH=1 asks for passwords
	@$(BIN)/python -m pipeline server --port $(PORT) $(if $(AUTH),--auth)

bench: $(BIN)/.installed-dev ## measure the times that README and docs quote
	$(BIN)/python -m benchmarks.fast_settings
	$(BIN)/python -m benchmarks.costs
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.against_original
	$(BIN)/python -m benchmarks.coverage

clean: ## remove the environment; data and runs stay
	rm -rf .venv .venv-audit .venv-lock *.egg-info
