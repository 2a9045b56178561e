# make demo | test | table | report | lint | doctor: each sets up everything it needs first.

SHELL := /bin/bash
CORES ?= $(shell nproc 2>/dev/null || echo 2)
PYTHON3 ?= python3

# A uv that works, or a private one. Without Python 3.11 on the machine, 3.12 will do.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
PRIVATE_UV := $(filter .uv/bin/uv,$(UV))
ifeq ($(origin UV_PYTHON),undefined)
  ifeq ($(shell command -v python3.11),)
    ifneq ($(shell command -v python3.12),)
      export UV_PYTHON := 3.12
    endif
  endif
endif
RUN := $(UV) run --no-sync
SNAKEMAKE := $(RUN) snakemake --cores $(CORES) --quiet host rules reason

.PHONY: demo test table setup lint report doctor

demo: setup  ## the pipeline on drawn pictures
	@$(SNAKEMAKE)

table: setup  ## every method under both protocols
	@$(SNAKEMAKE) --configfile params/embedded.yaml

report: setup  ## one page with tables, figures and panels of the demo
	@$(RUN) snakemake --report report.html --quiet

test: setup  ## all tests
	@$(RUN) pytest

lint: setup  ## what CI checks besides the tests
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint
	$(RUN) shellcheck .ci/run workflow/tell.sh

doctor: setup  ## what this machine has and what is missing
	@$(RUN) wsss doctor

setup: .venv/.made

.venv/.made: pyproject.toml uv.lock | $(PRIVATE_UV)
	$(UV) sync --frozen --all-extras --compile-bytecode
	@touch $@

.uv/bin/uv:
	$(PYTHON3) -m pip install --quiet --disable-pip-version-check --target .uv uv
