# `make up` and `make test` are all that a fresh machine needs; the rest is for development.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help up demo train test chaos fuzz check bench bench-short dashboards-preview format lock test-all audit clean venv venv-dev venv-mlflow python

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

up: venv ## Run everything here without Docker; Ctrl-C ends it (WORKERS=2, GATEWAY_PROCESSES=2, GATEWAY_PORT=8001, GRPC_PORT=8002, REDIS_URL=…)
	@$(RUN) -m scripts.up

demo: venv ## Send traffic to what `make up` or Compose runs: see every dashboard move (ARGS="--help")
	@$(RUN) -m demo $(ARGS)

train: venv ## Train a new version of the example model (ARGS="--help" shows the options)
	@$(RUN) -m headrace train $(ARGS)

test: venv-dev ## Run every test that this machine can run (ARGS="-k drift"; ARGS="-n 0 -s": one by one, with their output)
	@sh scripts/test.sh $(RUN) $(ARGS)

chaos: venv-dev ## Break everything, and see what holds: the fault matrix, with measured times (SECONDS=600 SEED=1 ARGS=--only-random; ARGS="--jobs 1000000")
	@$(RUN) -m tests.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: venv-dev ## Send generated requests, bodies, messages and manifests by the thousand (ARGS="--seconds 600"; atheris joins in where it is installed)
	@$(RUN) -m tests.fuzz $(ARGS)

check: venv-dev ## Lint, format, types and import rules
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports

bench: venv-dev ## Measure against peers, in 15 minutes (ARGS=--short: in two; ARGS=--help shows the parts)
	@$(RUN) -m bench $(ARGS)

bench-short: venv-dev ## The same in two minutes, without peers that need an installation
	@$(RUN) -m bench --short $(ARGS)

dashboards-preview: venv ## Draw the top of each dashboard into docs/images without Grafana, from the Prometheus of a running `make up` (ARGS=--help shows the options)
	@$(RUN) -m monitoring.preview $(ARGS)

format: venv-dev ## Put the code into its form
	@$(RUN) -m ruff check --fix
	@$(RUN) -m ruff format

lock: ## Write requirements/*.txt anew (ARGS=--upgrade: with the newest versions)
	@PYTHON="$(PYTHON)" sh scripts/lock.sh $(ARGS)

test-all: ## Run the tests on every Python from 3.10 to 3.13 that is on PATH
	@MAKE="$(MAKE)" sh scripts/test_all.sh 3.10 3.11 3.12 3.13

audit: ## Known holes in what the locks pin, and bills of materials in .audit/ (asks a vulnerability service)
	@PYTHON="$(PYTHON)" sh scripts/audit.sh $(ARGS)

clean: ## Remove environments, caches and the broker's and Prometheus' data; models stay
	rm -rf .venv .venv-* .audit .bench .fuzz .run .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: python
	@$(PYTHON) scripts/environment.py $(VENV) requirements/runtime.txt

# Adds the tools for tests and development to the same environment.
venv-dev: python
	@$(PYTHON) scripts/environment.py $(VENV) requirements/runtime.txt requirements/dev.txt

# MLflow and KServe's client, for the tests that need them; they are skipped without it.
venv-mlflow: python
	@$(PYTHON) scripts/environment.py .venv-mlflow requirements/mlflow.txt

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "headrace: Python 3.10 or newer is needed, and \`$(PYTHON) --version\` says: $$($(PYTHON) --version 2>&1 || true)." \
	    "Another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
