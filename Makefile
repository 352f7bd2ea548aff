# Every target sets up what it needs the first time: a virtual environment in .venv with pinned dependencies.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Threads that wait for their turn on a busy machine would spin.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
WORKERS ?= 2
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1

.DEFAULT_GOAL := help
.PHONY: help setup simulate federation test test-fast durations nightly chaos lint types format docs-tables sbom clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

# torch comes first: left to float, another package may pull a newer build with gigabytes of CUDA libraries.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: expected Python 3.11 or newer; set PYTHON=path/to/python3.11'; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(READY) ## Build the virtual environment

simulate: $(READY) ## Train three simulated hospitals on synthetic mammograms
	$(BIN)/fedmammo simulate $(OVERRIDES)

federation: $(READY) ## The same as processes over TLS: a coordinator and one process per hospital
	$(BIN)/fedmammo rehearse $(OVERRIDES)

test: $(READY) ## Run all tests
	$(PYTEST) $(PARALLEL) -m 'not chaos' $(TESTS)

test-fast: $(READY) ## Run the tests that take less than five seconds each
	$(PYTEST) $(PARALLEL) -m 'not slow and not chaos' $(TESTS)

durations: $(READY) ## Run all tests and write down how long each file takes, by which tests are ordered
	$(PYTEST) $(PARALLEL) -m 'not chaos' --write-durations

nightly: $(READY) ## Try the law on some 50,000 pairs of answers, readers on 2,000 mutated images, a kill at each system call
	LAW_EXAMPLES=9000 $(PYTEST) tests/laws tests/client/data/test_one_patient.py
	EVERY_SYSTEM_CALL=1 $(PYTEST) tests/client/privacy/test_ledger_faults.py
	MUTATED_IMAGES=2000 $(PYTEST) tests/client/data/test_mutated_images.py

chaos: $(READY) ## Kill, hang and cut off processes; let strangers knock, proxies swallow, ledgers come back, hospitals lie
	$(PYTEST) -m 'chaos or fault' tests/simulations/federation/test_rehearsal.py \
		tests/simulations/attacks/test_liar.py tests/client/deployment/test_connection.py

lint: $(READY) ## Check style and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY) ## Check types
	$(BIN)/mypy

format: $(READY) ## Rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs-tables: $(READY) ## Write the generated tables of README and docs again, from docs/generated
	$(BIN)/python docs/tables.py

# Of what a hospital gets: an environment with this package and nothing that only developers need.
sbom: ## Write the software bill of materials, sbom.cdx.json (minutes, 2 GB in .cache)
	rm -rf .cache/sbom
	$(PYTHON) -m venv .cache/sbom/package
	$(PYTHON) -m venv .cache/sbom/tool
	.cache/sbom/package/bin/python -m pip install --quiet --constraint constraints.txt torch
	.cache/sbom/package/bin/python -m pip install --quiet --constraint constraints.txt .
	.cache/sbom/tool/bin/python -m pip install --quiet cyclonedx-bom==7.5.0
	.cache/sbom/tool/bin/cyclonedx-py environment .cache/sbom/package --pyproject pyproject.toml \
		--output-reproducible --validate --output-format JSON --output-file sbom.cdx.json

clean: ## Remove caches, builds and the virtual environment; runs/ stays
	rm -rf .venv .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
