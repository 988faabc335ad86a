PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

# Every release is pinned, pip's and the build backend's too: a commit means one environment.
PINNED = --constraint constraints.txt --build-constraint constraints.txt
LOWEST = --constraint .venv-oldest/constraints.txt
NEWEST = --upgrade --upgrade-strategy eager

# Where test was run before, the demo runs there too.
DEMO = $(if $(wildcard $(STAMP)),$(VENV),.venv-demo)

# One thread a worker: two workers with two threads each would fight over two cores.
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -q -n $(WORKERS)

# folder of the environment, options for pip, extra. Modules are compiled when first imported: most never are.
define install
$(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install --quiet --upgrade $(if $(findstring $(PINNED),$(2)),--constraint constraints.txt) pip
$(1)/bin/python -m pip install --quiet --no-compile $(2) -e ".[$(3)]"
endef

# Without an NVIDIA GPU, torch's CPU build saves most of the disk and of the time: the pinned release of it, else the
# newest, if pip finds one where it is set up to look; else the ordinary build.
define demo_constraints
pinned=$$(sed -n 's/^torch==//p' constraints.txt); \
nvidia-smi > /dev/null 2>&1 || \
	cpu=$$($(DEMO)/bin/python -m pip index versions torch 2> /dev/null | grep -oE '[0-9.]+[+]cpu'); \
release=$$(echo "$$cpu" | grep -Fx "$$pinned+cpu" || echo "$$cpu" | head -n 1); \
sed "s/^torch==.*/torch==$${release:-$$pinned}/" constraints.txt > $(DEMO)/constraints.txt
endef

# mypy takes one core for a minute: it runs beside the tests. What is compiled is kept for the next process.
MAKEFLAGS += --jobs=2
export PYTHONDONTWRITEBYTECODE =

.PHONY: test test-all test-newest test-oldest constraints lint types pytest docs demo bench kernels gpu clean help

test: lint types pytest     ## lint, check types, run the tests

# Files in their own order: sorted by their number of tests, the longest of all would come last.
pytest: $(STAMP)
	$(call PYTEST,$(VENV)) --dist loadfile --no-loadscope-reorder

test-all: lint types        ## the full product of the test matrix too
	$(call PYTEST,$(VENV)) --dist loadfile --no-loadscope-reorder
	$(call PYTEST,$(VENV)) --dist load --full -m full

test-newest:                ## the tests with the newest release of everything, in .venv-newest
	$(call install,.venv-newest,$(NEWEST),test)
	$(call PYTEST,.venv-newest) --dist loadfile

test-oldest:                ## the tests with the oldest releases that pyproject.toml allows, in .venv-oldest (Python 3.11)
	mkdir -p .venv-oldest
	grep -oE '"[A-Za-z0-9_-]+>=[0-9.]+"' pyproject.toml | tr -d '"' | sed 's/>=/==/' > .venv-oldest/constraints.txt
	$(call install,.venv-oldest,$(LOWEST),test)
	$(call PYTEST,.venv-oldest) --dist loadfile

constraints:                ## renew constraints.txt (with Python 3.11, whose releases later ones have as well)
	rm -rf .venv-newest
	$(call install,.venv-newest,,bench)
	.venv-newest/bin/python -m pip install --quiet hatchling
	.venv-newest/bin/python -m pip freeze --all --exclude-editable > constraints.txt

lint: $(STAMP)              ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)             ## mypy
	$(BIN)/mypy

docs: $(STAMP)              ## the documentation as a site, in site/; warnings are errors
	$(BIN)/zensical build --strict --clean

demo: $(DEMO)/.installed    ## train with all and with hard negatives on drawn scenes, end with report.html
	$(DEMO)/bin/python examples/vsepp_coco.py --overwrite

bench: $(STAMP)             ## time and memory beside the dense formulas and the peers, rows to benchmarks/results/core.jsonl
	$(BIN)/python -m pip install --quiet $(PINNED) -e ".[bench]"
	$(BIN)/python -m benchmarks.core

kernels: $(STAMP)           ## compile every fused kernel for sm_80 and sm_90 (no GPU needed), write docs/kernels.md's table
	$(BIN)/python -m benchmarks.kernels --write

gpu:                        ## on a GPU: check every kernel against float64, then measure (8 minutes; installs nothing)
	$(if $(wildcard $(STAMP)),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu

$(STAMP): pyproject.toml constraints.txt
	$(call install,$(VENV),$(PINNED),test)
	touch $@

.venv-demo/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(demo_constraints)
	$(DEMO)/bin/python -m pip install --quiet --constraint $(DEMO)/constraints.txt -e ".[demo]" || \
		$(DEMO)/bin/python -m pip install --quiet $(PINNED) -e ".[demo]"
	touch $@

clean:                      ## remove the environments and the caches
	rm -rf $(VENV) .venv-demo .venv-newest .venv-oldest .pytest_cache .mypy_cache .ruff_cache .hypothesis

help:                       ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
