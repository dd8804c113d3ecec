# The project's commands. `make` lists them; every one that needs the environment sets it up first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
# More words for pytest, for example: make test PYTEST_ARGS="-k vault -x"
PYTEST_ARGS ?=
# Processes that share the tests, each with services of its own: half of the time is spent waiting for what was killed to come
# back. 0 runs all in one process, as pytest by itself does.
TEST_PROCESSES ?= 3
# One benchmark instead of all, for example: make bench NAME=generate BENCH_ARGS="--runs 3"
NAME ?=
BENCH_ARGS ?=

.PHONY: help setup demo test test-unit lint types imports check up down lock bench bench-quick clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Create .venv from requirements.lock and check Java (instant when nothing changed)
	@scripts/bootstrap.sh

demo: setup ## Generate data, anonymize it and show the zones, all on this machine
	@$(BIN)/privacy-platform demo

test: setup ## Run all tests: unit, integration (PostgreSQL, Spark), end to end
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

test-unit: setup ## Run the tests that need no service
	@$(BIN)/python -m pytest privacy_platform_tests/unit $(PYTEST_ARGS)

lint: setup ## Check style and formatting (ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## Check types (mypy --strict)
	@$(BIN)/mypy --strict

imports: setup ## Check that imports run downwards (import-linter)
	@$(BIN)/lint-imports

check: lint types imports ## Run lint, types and imports

up: .env ## Start the server mode (docker compose): PostgreSQL, Kafka, Spark, Dagster
	@docker compose up --detach --build --wait

down: ## Stop the server mode; its volumes (data, keys) stay
	@docker compose down

.env:
	@echo "There is no .env with the secrets of the server mode. Make it from .env.example, which says how." >&2; exit 1

lock: ## Resolve requirements.lock again from pyproject.toml (UPGRADE=1: to the newest versions)
	@# Not after `setup`, which refuses an environment that the old lock and the new pyproject.toml disagree about.
	@[ -x $(BIN)/uv ] || scripts/bootstrap.sh
	@# What the set-up installs and builds the project with belongs to the lock too.
	@printf 'editables\nhatchling\nuv\n' | $(BIN)/uv pip compile pyproject.toml - --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --quiet $(if $(UPGRADE),--upgrade) -o requirements.lock
	@scripts/bootstrap.sh

bench: setup ## Run the benchmarks (NAME=generate for one, BENCH_ARGS for its arguments)
	@for name in $(or $(NAME),$(filter-out common quick,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[a-z]*.py)))); do \
		$(BIN)/python -m benchmarks.$$name $(BENCH_ARGS); \
	done

bench-quick: setup ## Print a few ratios beside the committed ones, in three minutes (BENCH_ARGS=--save renews them)
	@$(BIN)/python -m benchmarks.quick $(BENCH_ARGS)

clean: ## Remove .venv, caches and build output; never .local, which holds keys and data
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	@find . -name .local -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
