# make demo | test | table | numbers | report | lint | parity | bench | gpu | faults | pins | docs | doctor: each sets up everything it needs first.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
unexport PYTHONDONTWRITEBYTECODE  # hundreds of processes import the same modules
CORES ?= $(shell nproc 2>/dev/null || echo 2)
PYTHON3 ?= python3

# A uv that works, or a private one.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
PRIVATE_UV := $(filter .uv/bin/uv,$(UV))
# The machine's own Python, if its version fits and it can compile the CRF (it has its headers, as with Debian's
# python3-dev), else another one of the machine, else one that uv fetches.
FITS := import os, sys, sysconfig; \
  fits = (3, 11) <= sys.version_info < (3, 14) and os.path.isfile(sysconfig.get_path("include") + "/Python.h"); \
  print(sys.executable if fits else ""); sys.exit(not fits)
OWN = $(shell for p in $(PYTHON3) python3.13 python3.12 python3.11; do "$$p" -c '$(FITS)' 2>/dev/null && break; done)
CHOICE = $(if $(UV_PYTHON),,$(if $(OWN),--python $(OWN),--python 3.13 --managed-python))
RUN := $(UV) run --no-sync

# One training per GPU; a machine without one has no use for the limit.
GPUS := $(shell nvidia-smi -L 2>/dev/null | grep -c . || true)
SNAKEMAKE := $(RUN) snakemake --cores $(CORES) --resources gpu=$(or $(filter-out 0,$(GPUS)),$(CORES)) \
  --quiet host rules reason
# Networks of toy size are too small to share between cores: as many jobs at once instead.
TOY := --max-threads 1

# What Snakemake says of itself, left out: a reader sees stages, their progress and the table.
CHATTER := ^(Building DAG|Singularity|Select jobs|Execute [0-9]+|Finished jobid|Using |Provided |Rules claiming|Conda env|Assuming|Config file|\[[A-Z][a-z]{2} )
READABLE := 2>&1 | { grep --line-buffered -vE '$(CHATTER)' || true; }

# The width of the terminal, so that the table fits it: Snakemake writes into a pipe.
WIDTH = $(shell [ -t 2 ] && stty size <&2 2>/dev/null | cut -d' ' -f2)
FITTING = $(if $(WIDTH),WSSS_WIDTH=$(WIDTH))

.PHONY: demo test table numbers setup lint report parity bench gpu faults pins docs doctor

demo: setup  ## the pipeline on drawn pictures
	@$(FITTING) $(SNAKEMAKE) $(TOY) $(READABLE)

table: setup  ## every method under both protocols, one seed
	@$(FITTING) $(SNAKEMAKE) $(TOY) --configfile params/embedded.yaml $(READABLE)

# Tables that the README and docs/results.md quote, with their provenance, in docs/results/STUDY.
NUMBERS ?= demo stamps affinities methods
PRESET_stamps := params/stamps.yaml docs/results/stamps.yaml
PRESET_affinities := params/stamps.yaml params/affinities.yaml
PRESET_methods := params/embedded.yaml docs/results/seeds.yaml
GALLERY_demo := shapes/cam/common/s0 shapes/supervised/common/s0
numbers: $(NUMBERS:%=numbers-%)  ## docs/results/: the numbers of the documentation (hours; NUMBERS=demo: minutes)

numbers-%: setup
	@$(SNAKEMAKE) $(TOY) $(if $(PRESET_$*),--configfile $(PRESET_$*)) $(READABLE)
	@$(RUN) wsss table --output docs/results/$* $(if $(PRESET_$*),--params params.yaml $(PRESET_$*:%=--params %))
	@$(if $(GALLERY_$*),$(RUN) wsss show $(GALLERY_$*) --images 12 --output docs/results/$*/gallery)

report: setup  ## one page with tables, figures and panels of the demo
	@$(RUN) snakemake --report report.html --quiet

# Tests wait for what they start, so there is one process more than cores. glibc keeps the memory of freed tensors,
# as in the jobs of the pipeline: a third of the time of full-size networks.
test: setup  ## all tests
	@MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1073741824 $(RUN) pytest --numprocesses $$(($(CORES) + 1)) \
	  --dist loadgroup --no-loadscope-reorder

lint: setup  ## what CI checks besides the tests
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint
	$(RUN) shellcheck .ci/run envs/wsss.post-deploy.sh workflow/tell.sh tests/slurm/start-slurm tests/slurm/stop-slurm

parity: setup  ## docs/parity.md: how close the published code is; parity/cases.md: every case
	@rm -f .parity.jsonl && WSSS_PARITY=$(CURDIR)/.parity.jsonl $(RUN) pytest -q --numprocesses $(CORES) tests/golden
	@$(RUN) python tests/golden/report.py .parity.jsonl docs/parity.md parity/cases.md && rm .parity.jsonl

bench: setup  ## docs/speed.md: our ways against the field's plain ones, time and memory (90 minutes; it may be stopped)
	@$(RUN) python tests/benchmarks/run.py --page docs/speed.md --rows .bench.jsonl && rm .bench.jsonl

gpu: setup  ## docs/gpu.md: every stage of every method, rates, parity and equal bytes on this GPU (8 minutes)
	@$(RUN) python tests/gpu/run.py --page docs/gpu.md

faults: setup  ## kills, bad input, laws: what was tried and what was survived, by kind (12 minutes)
	@$(RUN) python tests/faults/run.py

pins: setup  ## envs/wsss.post-deploy.sh: the packages of uv.lock for conda, after each change of the lock
	@$(RUN) python envs/pins.py

docs: .venv/.docs  ## site/html: README and docs/ as a site with a search, to be opened from disk
	@$(RUN) python docs/site/pages.py site/pages
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet --config-file docs/site/mkdocs.yml
	@echo site/html/index.html

doctor: setup  ## what this machine has and what is missing
	@$(RUN) wsss doctor

setup: .venv/.made

.venv/.made: pyproject.toml uv.lock | $(PRIVATE_UV)
	$(UV) sync --frozen --all-extras --compile-bytecode $(CHOICE)
	@touch $@

# Only what the site needs; `setup`, which leaves it out, takes it away again.
.venv/.docs: pyproject.toml uv.lock $(wildcard .venv/.made) | $(PRIVATE_UV)
	$(UV) sync --frozen --inexact --only-group docs $(CHOICE)
	@touch $@

.uv/bin/uv:
	$(PYTHON3) -m pip install --quiet --disable-pip-version-check --target .uv uv
