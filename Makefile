# Every target installs what it needs into .venv first, once, and again when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
STUDY ?= demo/study
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint types docs-check usage bench robustness cluster figures wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "msksam needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) ## Draw a knee study, segment it and evaluate the result, into demo/
	$(BIN)/msksam demo -o demo

test: $(INSTALLED) ## Run every test
	$(BIN)/python -m pytest

lint: $(INSTALLED) ## Check style and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## Check types with mypy
	$(BIN)/mypy

docs-check: $(INSTALLED) ## Check README.md, usage.md and CHANGELOG.md against the program
	$(BIN)/python -m pytest tests/test_docs.py

usage: $(INSTALLED) ## Write the help texts in usage.md and the means in README.md again
	$(BIN)/python benchmarks/update_usage.py

bench: $(INSTALLED) ## Measure speed beside segment-anything's own loop (a quarter of an hour); STUDY=FOLDER for the main job
	$(BIN)/python benchmarks/parity.py
	$(BIN)/python benchmarks/encode_speed.py --arch vit_b
	$(BIN)/python benchmarks/encode_speed.py --arch msksam_small --slices 8
	$(BIN)/python benchmarks/decode_speed.py --arch vit_b
	$(BIN)/python benchmarks/decode_speed.py --arch msksam_small
	test -d "$(STUDY)" || $(BIN)/msksam demo -o demo
	$(BIN)/python benchmarks/main_job.py "$(STUDY)" --other cartilage
	$(BIN)/python benchmarks/main_job.py "$(STUDY)" --slices 10,20

robustness: $(INSTALLED) ## Killed runs, full disks, hostile files, shared caches at full size (an hour and a half)
	$(BIN)/python benchmarks/robustness/crafted_series.py
	$(BIN)/python benchmarks/robustness/mutated_dicom.py
	$(BIN)/python benchmarks/robustness/mutated_nifti.py
	$(BIN)/python benchmarks/robustness/own_parsers.py
	$(BIN)/python benchmarks/robustness/kill_segment.py
	$(BIN)/python benchmarks/robustness/disk_full.py
	$(BIN)/python benchmarks/robustness/shared_cache.py
	$(BIN)/python benchmarks/robustness/flipped_bits.py
	$(BIN)/python benchmarks/robustness/output_grid.py

cluster: $(INSTALLED) ## Workers beside one process, clusters that fail, and a cohort of sleeping cases (an hour)
	$(BIN)/python benchmarks/cluster/engine.py tumours --cases 6 --empty 10000
	$(BIN)/python benchmarks/cluster/failures.py --cases 150
	$(BIN)/python benchmarks/cluster/simulation.py --figure benchmarks/results/cluster.png

figures: $(INSTALLED) ## Draw the pictures in assets/ again
	$(BIN)/python benchmarks/figures.py

wheel: $(INSTALLED) ## Build the wheel and the source archive into dist/
	$(BIN)/python -m build --outdir dist

clean: ## Remove what was built; .venv stays
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
