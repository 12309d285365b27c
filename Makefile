# make run · make test · make check · make bench: each first sets up what it needs, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of processes

.DEFAULT_GOAL := help
.PHONY: help run demo test check format bench matrix cluster prices lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 14

# Two stamps: what the proxy needs, and what its tests need in addition. A changed lock file rebuilds them.
$(VENV)/.run: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "claude-proxy needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { echo "Cannot create a virtual environment in $(VENV). On Debian and Ubuntu: apt install python3-venv, then try again."; exit 1; }
	$(PIP) install -q --require-hashes -r requirements.txt
	$(PIP) install -q --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(PIP) install -q --require-hashes -r requirements-dev.txt
	@touch $@

run: $(VENV)/.run ## start the proxy on 127.0.0.1:3000
	@exec $(BIN)/claude-proxy serve --app proxy.py $(ARGS)

demo: $(VENV)/.run ## see it stream: no key or upstream needed
	@exec $(BIN)/claude-proxy demo $(ARGS)

# The tests often wait for sockets: more workers than cores. Those of tests/architecture are part of `make check`.
test: WORKERS ?= $$((3 * $$($(BIN)/python -c 'import os; print(os.cpu_count() or 1)')))
test: $(VENV)/.dev ## run the tests that need only Python (ARGS="-k stream")
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --ignore tests/architecture $(ARGS)

check: $(VENV)/.dev ## lint, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q tests/architecture

format: $(VENV)/.dev ## format the source
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## compare with nginx; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks $(ARGS)

matrix: $(VENV)/.dev ## every server behind every front proxy, with real programs (Debian, root; minutes)
	MATRIX=all $(BIN)/python -m pytest -m system tests/deploy/matrix $(ARGS)

cluster: $(VENV)/.dev ## the chart on a real one-node Kubernetes (Debian, root; minutes)
	.ci/docker/cluster-check.sh

prices: $(VENV)/.dev ## compare our prices with the price packages; writes the packaged table (ARGS=--check)
	$(BIN)/python -m tools.prices $(ARGS)

lock: ## update uv.lock and the exported requirements files (needs uv)
	uv lock --upgrade
	uv export --frozen --no-dev --no-emit-project --no-annotate --no-header -q -o requirements.txt
	uv export --frozen --no-emit-project --no-annotate --no-header -q -o requirements-dev.txt
	uv export --frozen --no-dev --no-emit-project --no-annotate --no-header -q --extra gunicorn --extra hypercorn -o deploy/docker/requirements-servers.txt

clean: ## remove everything these targets created
	find src tests benchmarks tools -name __pycache__ -prune -exec rm -rf {} +
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
