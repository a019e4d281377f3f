# Every target does its own set-up; `make setup` does the set-up alone. Debian 12, root or sudo.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)

.PHONY: help setup demo test test-all fuzz lint bench lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | column -t -s '|'

setup: ## Debian packages, .venv from the hashed lock, the command .venv/bin/tortie
	@tools/setup

demo: setup ## three nodes on this machine, pods on them, and a table that shows who reaches whom
	@$(AS_ROOT) tools/demo

lint: setup ## ruff, mypy, pyright, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/pyright

test: setup ## all tests but the long ones (under 20 minutes on 2 cores)
	$(AS_ROOT) $(BIN)/pytest -q -m "not long" $(PYTEST_ARGS)

test-all: setup ## all tests
	$(AS_ROOT) $(BIN)/pytest -q $(PYTEST_ARGS)

fuzz: setup ## policy against the oracle for longer (FUZZ_ARGS="--pairs 5000000 --seed 1")
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

bench: setup ## the figures of docs/benchmarks.md
	$(AS_ROOT) $(BIN)/python -m tests.bench $(BENCH_ARGS)

lock: setup ## resolve requirements/*.in anew into the hashed locks
	@tools/lock

clean: ## what was built or cached here
	rm -rf .venv .cache build dist src/tortie/cni/bin .mypy_cache .ruff_cache .pytest_cache .hypothesis
