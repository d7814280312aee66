# Everything on a fresh machine with Python 3.11, make and git: each target makes its own .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo check test format clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with the pinned packages

# The pinned torch and medssl go into one command, so that pip settles on one build of torch
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "Cannot make $(VENV). Python 3.11 or later with venv is needed (Debian: apt install python3-venv)."; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch -e ".[dev]"
	@touch $@

demo: $(INSTALLED) ## Train, segment, score and report on a real template (a few minutes on two cores)
	$(BIN)/medssl demo --out demo

check: $(INSTALLED) ## Lint, format and type checks, and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_house.py

test: $(INSTALLED) ## Run all tests but the slow ones
	$(BIN)/pytest -m "not slow" --numprocesses auto --dist loadfile

format: $(INSTALLED) ## Format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv, caches and the demo's folder
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
