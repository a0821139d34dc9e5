# Everything a person does with the project. `make` alone lists it.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DATA ?= .demo
OPENB ?= ../shared/data/openb

.DEFAULT_GOAL := help
.PHONY: help demo trace test check lint types layers chaos e2e e2e-binaries e2e-up e2e-pin bench-e2e fuzz-queue fuzz-api bench bench-placement bench-queue docs crds lock clean

help: ## This list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# uv where it is there, pip otherwise; the same pinned versions either way.
$(VENV)/.runtime: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Quarterdeck needs Python 3.11 or newer; this is %s. Use: make PYTHON=python3.11" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "setting up $(VENV) …"
	@if command -v uv >/dev/null 2>&1; then \
	  { [ -x $(BIN)/python ] || uv venv -q --python $(PYTHON) $(VENV); } && \
	  uv pip install -q --python $(BIN)/python -r requirements.lock && \
	  uv pip install -q --python $(BIN)/python --no-deps -e . ; \
	else \
	  { [ -x $(BIN)/pip ] || $(PYTHON) -m venv $(VENV); } && \
	  $(BIN)/pip install -q --disable-pip-version-check -r requirements.lock && \
	  $(BIN)/pip install -q --disable-pip-version-check --no-deps -e . ; \
	fi
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@if command -v uv >/dev/null 2>&1; then \
	  uv pip install -q --python $(BIN)/python -r requirements-dev.lock; \
	else \
	  $(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.lock; \
	fi
	@touch $@

demo: $(VENV)/.runtime ## The whole loop in a minute: a fleet, an array job, retries, results
	@$(BIN)/quarterdeck demo --data $(DEMO_DATA)

trace: $(VENV)/.runtime ## 2,000 jobs of a public GPU trace over ten simulated sites (OPENB=DIR with the data)
	@$(BIN)/python -m bench.trace --openb "$(OPENB)"

test: $(VENV)/.dev ## Every test, and what must hold of the code itself
	@$(MAKE) --no-print-directory lint layers types
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: lint layers types ## Lint, layers and types only

lint: $(VENV)/.dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check -q . && echo "ruff: clean"

types: $(VENV)/.dev
	@$(BIN)/mypy

layers: $(VENV)/.dev
	@PYTHONPATH=. $(BIN)/lint-imports

chaos: $(VENV)/.dev ## Hundreds of rounds of killed processes (ROUNDS=200 SEED=…)
	@$(BIN)/python -m e2e.chaos --rounds $(or $(ROUNDS),200) $(if $(SEED),--seed $(SEED))

e2e-binaries: $(VENV)/.dev ## A real Kubernetes control plane's programs: found, or built once (needs Go; ten minutes)
	@$(BIN)/python -m e2e.building $(KUBERNETES)
	@$(BIN)/python -m e2e.helm

e2e: $(VENV)/.dev ## The loop on real control planes, a hub and three members (KUBERNETES=1.36)
	@$(BIN)/python -m e2e.run $(if $(KUBERNETES),--kubernetes $(KUBERNETES)) $(ARGS)

e2e-up: $(VENV)/.dev ## Real control planes until Ctrl-C: a hub and three members with GPU nodes
	@$(BIN)/python -m e2e.up $(if $(KUBERNETES),--kubernetes $(KUBERNETES))

e2e-pin: $(VENV)/.dev ## Write the Go modules of e2e/binaries anew, after e2e/versions.py was changed
	@$(BIN)/python -m e2e.pin

fuzz-queue: $(VENV)/.dev ## A hundred thousand random cohorts: the queue comes to rest in each (CASES=100000 SEED=0)
	@$(BIN)/python -m bench.fuzz_queue --cases $(or $(CASES),100000) --seed $(or $(SEED),0)

fuzz-api: $(VENV)/.dev ## Ten thousand requests that mean no good: the embedded API answers each (REQUESTS=10000 SEED=0)
	@$(BIN)/python -m bench.fuzz_api --requests $(or $(REQUESTS),10000) --seed $(or $(SEED),0)

bench: $(VENV)/.dev ## Every number, ours beside the one to hold
	@$(BIN)/python -m bench

bench-placement: $(VENV)/.dev ## Placement and scoring only, GPU packing of the trace included
	@OPENB="$(OPENB)" $(BIN)/python -m bench placement batch prometheus openb

bench-queue: $(VENV)/.dev ## The queue only, both modes
	@$(BIN)/python -m bench queue fleet_queue backlog

bench-e2e: $(VENV)/.dev ## The hub on real control planes: latencies, writes and CPU beside MultiKueue and OCM
	@$(BIN)/python -m e2e.bench $(if $(KUBERNETES),--kubernetes $(KUBERNETES))

docs: $(VENV)/.dev ## The documentation, into site/
	@$(BIN)/python -m docs.generate && NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict && echo "docs: site/index.html"

crds: $(VENV)/.dev ## Generate manifests/crds from the models
	@$(BIN)/python -m hub.api.crd manifests/crds
	@cp manifests/crds/work.open-cluster-management.io_appliedmanifestworks.yaml manifests/agent/base/applied-manifest-works.yaml
	@$(BIN)/python -m hub.controllers.bootstrap > manifests/defaults/objects.yaml

lock: ## Pin the newest versions that pyproject.toml allows
	@uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --extra hub -o requirements.lock pyproject.toml
	@uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

clean: ## Remove the environment and everything made by demo, trace and tests
	@rm -rf $(VENV) $(DEMO_DATA) .trace site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
