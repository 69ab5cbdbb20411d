# `make` alone lists the targets. Every target creates .venv if needed; the only prerequisite is Python 3.11+.
# PYTHON=...       the interpreter to build .venv from (default: the first of 3.11 to 3.13 on PATH)
# PYTEST_ARGS=...  further arguments for pytest, e.g. PYTEST_ARGS="-k loader -x"
# SLURM_BEDS=...   number of SLURM instances that the tests run in parallel (default: 2)

.DEFAULT_GOAL := help
SLURM_BEDS ?= 2
.PHONY: help install demo test thorough test-all slurm slurm-core slurm-others check smoke bench lock docs site clean
.DELETE_ON_ERROR:

export PYTHON
python := .venv/bin/python
emixer := $(python) -m emixer
usable := .venv/.usable
ready := .venv/.installed

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

$(usable): pyproject.toml requirements.lock scripts/environment.sh
	@sh scripts/environment.sh usable
	@touch $@

$(ready): pyproject.toml requirements.lock scripts/environment.sh
	@sh scripts/environment.sh
	@touch $@ $(usable)

install: $(usable) ## .venv with the commands; targets that test or check add what those need

demo: $(usable) ## phantom images -> shards -> training -> synthetic pairs -> web page, all in ./demo
	$(emixer) demo --out demo

# several tests share the cores, where OpenMP threads that spin while they wait take ten times the time
sharing := OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1

on_cpu = $(sharing) $(python) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
off := not gpu and not slurm and not real_data

test: $(ready) ## the default test suite: CPU, no network
	$(on_cpu) -m "$(off) and not thorough" $(PYTEST_ARGS)

thorough: FILES ?= tests
thorough: $(ready) ## the tests that `make test` omits, of files FILES=...: killed searches, whole tables, damaged files
	$(on_cpu) -m "$(off) and thorough" $(FILES) $(PYTEST_ARGS)

test-all: $(ready) ## every test that needs no SLURM
	$(on_cpu) -m "$(off)" $(PYTEST_ARGS)

on_slurm := $(sharing) $(python) -m pytest --timeout 900 --numprocesses $(SLURM_BEDS) --maxschedchunk 1

slurm: $(ready) ## all SLURM tests on a real SLURM, started in a second; needs root and the Debian packages slurmctld, slurmd, ...
	$(on_slurm) -m slurm tests/slurm $(PYTEST_ARGS)

slurm-core: $(ready) ## the dozen SLURM tests that cover the promises of docs/jobs.md and docs/cluster.md
	$(on_slurm) -m slurm_core tests/slurm $(PYTEST_ARGS)

slurm-others: FILES ?= tests/slurm
slurm-others: $(ready) ## the SLURM tests beyond that dozen, of files FILES=...
	$(on_slurm) -m "slurm and not slurm_core" $(FILES) $(PYTEST_ARGS)

check: $(ready) ## formatting, lint, types, import contracts
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy
	.venv/bin/lint-imports

smoke: $(ready) ## the whole pipeline in miniature, in a temporary folder
	rm -rf .smoke
	$(emixer) phantom --config configs/demo.yaml --studies 60 --out .smoke/phantom
	$(emixer) ingest mimic-cxr --config configs/demo.yaml --root .smoke/phantom --out .smoke/shards --min-token-count 1
	$(emixer) train --config configs/demo.yaml --shards .smoke/shards --run .smoke/run --images 320 \
		--set data.window_rows=16 --set train.validate_every_images=320 --set validation.images=4
	$(emixer) generate --config configs/demo.yaml --run .smoke/run --num 32 --out .smoke/dataset
	$(emixer) gallery --config configs/demo.yaml --run .smoke/run --dataset .smoke/dataset --out .smoke/gallery.html
	rm -rf .smoke

bench: $(ready) ## the benchmarks in benchmarks/, one after the other; figures in docs/performance.md
	$(python) benchmarks/loader.py
	$(python) benchmarks/ingest.py decode
	$(python) benchmarks/ingest.py memory
	$(python) benchmarks/report_decoding.py
	$(python) benchmarks/training_step.py
	$(python) benchmarks/train_overhead.py
	$(python) benchmarks/train_memory.py
	$(python) benchmarks/generation.py
	$(python) benchmarks/audit.py

lock: $(ready) ## update requirements.lock from pyproject.toml
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-emit-index-url \
		--no-annotate --no-header --upgrade --output-file requirements.lock

docs: $(ready) ## generate docs/configuration.md from the config fields
	$(python) -m emixer.config.reference > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

site: $(ready) ## the documentation as a site in ./site, with the Python reference; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --strict

clean: ## delete caches and build artefacts; keeps .venv, demo and runs
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
