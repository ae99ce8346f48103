# Two commands are enough: `make demo` and `make test`. Each makes what is missing, then does its job.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
# uv is taken from PATH, else installed into a folder of this checkout; nothing outside it is touched.
UV := $(shell command -v uv 2>/dev/null || echo .venv-uv/bin/uv)
RUN := "$(UV)" run --frozen --quiet
# On two cores two workers; the journeys start whole houses and share them.
WORKERS ?= auto

.PHONY: help demo serve test check bench bench-burst bench-hang bench-daily clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv-uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, as PYTHON=...")'
	@echo "fetching uv into this folder"
	@$(PYTHON) -m venv .venv-uv >/dev/null 2>&1 && .venv-uv/bin/pip install --quiet --disable-pip-version-check uv \
	  || $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .venv-uv uv \
	  || { echo "uv could not be installed: this Python has neither venv nor pip. Install uv, or Debian's python3-venv"; exit 1; }

.venv/.ready: uv.lock pyproject.toml | $(if $(findstring .venv-uv,$(UV)),.venv-uv/bin/uv)
	"$(UV)" sync --frozen --quiet
	@touch .venv/.ready

demo: .venv/.ready ## See it work: real events in, messages out, the ledger verified (unattended, about a minute)
	$(RUN) ordernotify demo

serve: .venv/.ready ## Run everything on this machine; Ctrl-C stops it
	$(RUN) ordernotify serve

test: .venv/.ready ## Run every test: unit, integration, journeys, house
	$(RUN) pytest -n $(WORKERS) --dist loadgroup

check: .venv/.ready ## Lint, format, types, imports
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports

bench: bench-hang bench-burst bench-daily ## Measure the promises of the design

bench-burst: .venv/.ready ## 10,000 events to one platform, against a bare loop of the same client
	$(RUN) python -m benchmarks.burst

bench-hang: .venv/.ready ## One platform hangs on every call; what do the others feel?
	$(RUN) python -m benchmarks.hang

bench-daily: .venv/.ready ## Every client's daily summary at once: 100,000 open orders, 2,000 clients
	$(RUN) python -m benchmarks.daily

clean: ## Remove what the commands above made
	rm -rf .venv .venv-uv .ordernotify .mypy_cache .ruff_cache .pytest_cache .hypothesis
