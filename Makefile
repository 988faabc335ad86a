PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: test test-all lint types demo bench kernels gpu clean help

# One thread a worker: two workers with two threads each would fight over two cores.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

test: lint types            ## lint, check types, run the tests
	$(PYTEST) --dist loadfile

test-all: lint types        ## the full product of the test matrix too
	$(PYTEST) --dist loadfile
	$(PYTEST) --dist load --full -m full

lint: $(STAMP)              ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)             ## mypy
	$(BIN)/mypy

demo: $(STAMP)              ## train VSE0 and VSE++ on drawn scenes, end with report.html
	$(BIN)/python examples/vsepp_coco.py

bench: $(STAMP)             ## time and memory beside the dense formulas and the peers, rows to benchmarks/results/core.jsonl
	$(BIN)/pip install --quiet -e ".[bench]"
	$(BIN)/python -m benchmarks.core

kernels: $(STAMP)           ## compile every fused kernel for sm_80 and sm_90 (no GPU needed), write docs/kernels.md's table
	$(BIN)/python -m benchmarks.kernels --write

gpu: $(STAMP)               ## on a GPU: check every kernel against float64, then measure (8 minutes)
	$(BIN)/python -m benchmarks.gpu

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[test]"
	touch $(STAMP)

clean:                      ## remove the environment and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

help:                       ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
